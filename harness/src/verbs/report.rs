//! `meridian report`: access logs as one HTML page, with the traffic map and charts.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueHint};

use crate::access_log::Log;
use crate::traffic;

/// Draw access logs as one HTML page, with a traffic map and charts
///
/// The page is complete in itself: no scripts, no requests.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// Write the page to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Also write the map alone, for use in a document
    #[arg(long, value_name = "FILE.svg")]
    pub map: Option<PathBuf>,
    /// The page's title
    #[arg(long, value_name = "TEXT", default_value = "Traffic")]
    pub title: String,
    /// Access logs with one JSON object per line, plain or gzip; a folder stands for its
    /// *.access.log and *.access.log.gz, - for stdin
    #[arg(value_name = "LOG", required = true, value_hint = ValueHint::AnyPath)]
    pub logs: Vec<Log>,
}

/// Writes the page. Exits 0 whatever the logs say.
///
/// # Errors
/// If a log cannot be read or holds no entries, or the page cannot be written.
pub fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    // Once: standard input cannot be read again.
    let traffic = traffic::read(&args.logs)?;
    if let Some(map) = &args.map {
        write_file(map, &traffic::picture(&traffic))?;
        eprintln!("{}", map.display());
    }
    let page = traffic::page(&args.title, &traffic);
    match &args.out {
        Some(out) => {
            write_file(out, &page)?;
            println!("{}", out.display());
        }
        None => std::io::stdout().write_all(page.as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn write_file(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
