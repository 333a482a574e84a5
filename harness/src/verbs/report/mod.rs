//! `meridian report`: access logs as one HTML page, with the traffic map and charts.
//!
//! The page asks for nothing and runs nothing: its Content-Security-Policy allows its own style sheet
//! and no script at all, because much of what a log holds was chosen by clients.

mod bars;
mod chart;
mod graph;
mod layout;
mod map;
mod page;
mod steps;
mod traffic;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::Args;

use crate::access_log::{self, Log};
use traffic::Traffic;

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
    #[arg(value_name = "LOG", required = true)]
    pub logs: Vec<PathBuf>,
}

/// Writes the page. Exits 0 whatever the logs say.
///
/// # Errors
/// If a log cannot be read or holds no entries, or the page cannot be written.
pub fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    // Once: standard input cannot be read again.
    let traffic = read(&args.logs)?;
    if let Some(map) = &args.map {
        write_file(map, &page::picture(&traffic))?;
        eprintln!("{}", map.display());
    }
    let page = page::page(&args.title, &traffic);
    match &args.out {
        Some(out) => {
            write_file(out, &page)?;
            println!("{}", out.display());
        }
        None => std::io::stdout().write_all(page.as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the page of these logs to `out`. Each of `logs` is a file, plain or gzip, a folder whose
/// `*.access.log` and `*.access.log.gz` are meant, or `-` for standard input.
///
/// # Errors
/// If a log cannot be read, a folder has none, none of them holds an entry, or `out` cannot be
/// written.
pub fn write(logs: &[PathBuf], out: &Path, title: &str) -> anyhow::Result<()> {
    write_file(out, &page::page(title, &read(logs)?))
}

fn write_file(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn read(logs: &[PathBuf]) -> anyhow::Result<Traffic> {
    let mut traffic = Traffic::default();
    for log in expand(logs)? {
        // One by one, as a log without `proxy` is named by its file alone.
        let stem = stem(&log);
        let summary = access_log::read(std::slice::from_ref(&log), |entry| {
            traffic.count(entry, &stem);
        })?;
        traffic.malformed += summary.malformed;
    }
    ensure!(
        traffic.entries > 0,
        "the logs hold no entry: send some requests first, and stop the proxies so that they write \
         what they still hold"
    );
    Ok(traffic)
}

/// The logs themselves, each once, in their order; those of a folder by name.
fn expand(paths: &[PathBuf]) -> anyhow::Result<Vec<Log>> {
    let mut logs: Vec<Log> = Vec::new();
    let mut add = |log: Log| {
        // Twice would be counted twice.
        if !logs.contains(&log) {
            logs.push(log);
        }
    };
    for path in paths {
        if path.as_os_str() == "-" {
            add(Log::StandardInput);
        } else if path.is_dir() {
            let mut found = Vec::new();
            let entries = std::fs::read_dir(path);
            for entry in entries.with_context(|| format!("cannot read {}", path.display()))? {
                let path = entry?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if name.ends_with(".access.log") || name.ends_with(".access.log.gz") {
                    found.push(path);
                }
            }
            if found.is_empty() {
                bail!("{} has no *.access.log: name the files", path.display());
            }
            found.sort();
            found.into_iter().map(Log::File).for_each(&mut add);
        } else {
            add(Log::File(path.clone()));
        }
    }
    Ok(logs)
}

/// `shop` of `…/shop.access.log.gz`.
fn stem(log: &Log) -> String {
    let Log::File(path) = log else {
        return "proxy".to_owned();
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.split('.').next().unwrap_or_default();
    if stem.is_empty() { "proxy" } else { stem }.to_owned()
}
