//! Where logs come from: files and standard input, plain or in gzip, with progress.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use flate2::bufread::MultiGzDecoder;
use indicatif::{ProgressBar, ProgressStyle};

use super::{Entry, Summary, read_lines};
use crate::text::visible::visible;

/// What a member of gzip begins with (RFC 1952, section 2.3.1).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const BUFFER: usize = 1 << 17;

/// A log as it is named on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Log {
    /// `-`
    StandardInput,
    /// A file, or a folder, which stands for its `*.access.log` and `*.access.log.gz`.
    File(PathBuf),
}

impl FromStr for Log {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "-" => Self::StandardInput,
            path => Self::File(path.into()),
        })
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StandardInput => f.write_str("standard input"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Reads every entry of the logs, one log after the other, those of a folder by name and none
/// twice. What is gzip is seen by its content.
///
/// Shows its progress on stderr if that is a terminal, and says there how many lines were
/// malformed, with the first few.
///
/// # Errors
/// If a log cannot be opened, if a folder has no logs, and if there are lines but not one of them is
/// an entry.
pub fn read(logs: &[Log], mut each: impl FnMut(&Entry<'_>)) -> anyhow::Result<Summary> {
    let twice = logs
        .iter()
        .filter(|log| **log == Log::StandardInput)
        .count()
        > 1;
    ensure!(!twice, "standard input can be read once: write `-` once");
    let logs = expand(logs)?;
    let progress = Progress::new(&logs);
    let mut summary = Summary::default();
    for log in &logs {
        let stream: Box<dyn Read> = match log {
            Log::StandardInput => Box::new(io::stdin().lock()),
            Log::File(path) => {
                Box::new(File::open(path).with_context(|| format!("cannot open the log {log}"))?)
            }
        };
        progress.start(log);
        let counted = progress.bar.wrap_read(stream);
        let mut stream = BufReader::with_capacity(BUFFER, counted);
        // A pipe may give its first byte alone, which `fill_buf` takes for all that there is.
        let mut magic = Vec::new();
        let read = (&mut stream).take(2).read_to_end(&mut magic);
        read.with_context(|| format!("cannot read the log {log}"))?;
        let is_gzip = magic == GZIP_MAGIC;
        let whole = io::Cursor::new(magic).chain(stream);
        let stream: Box<dyn BufRead> = if is_gzip {
            Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(whole)))
        } else {
            Box::new(whole)
        };
        read_lines(stream, &log.to_string(), &mut summary, &mut each);
    }
    progress.bar.finish_and_clear();
    report(&summary);
    if summary.entries == 0 && summary.malformed > 0 {
        bail!(
            "not one of {} lines is an entry of an access log: it takes one JSON object a line",
            summary.malformed
        );
    }
    Ok(summary)
}

/// The logs themselves, each once, in their order; those of a folder by name.
///
/// # Errors
/// If a folder cannot be read or has no logs.
pub fn expand(logs: &[Log]) -> anyhow::Result<Vec<Log>> {
    let mut expanded: Vec<Log> = Vec::new();
    let mut known = HashSet::new();
    let mut add = |log: Log| {
        // By any of its names, because twice would be counted twice. One that is not there is for its
        // reader to report.
        let is_new = match &log {
            Log::StandardInput => known.insert(PathBuf::from("-")),
            Log::File(path) => known.insert(path.canonicalize().unwrap_or_else(|_| path.clone())),
        };
        if is_new {
            expanded.push(log);
        }
    };
    for log in logs {
        match log {
            Log::File(folder) if folder.is_dir() => {
                logs_in(folder)?
                    .into_iter()
                    .map(Log::File)
                    .for_each(&mut add);
            }
            log => add(log.clone()),
        }
    }
    Ok(expanded)
}

fn logs_in(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let unreadable = || format!("cannot read the folder {}", folder.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_log = name.ends_with(".access.log") || name.ends_with(".access.log.gz");
        // A pipe would be waited for, and a folder cannot be read; what cannot be looked at is for its
        // reader to report.
        let is_other = path.metadata().is_ok_and(|metadata| !metadata.is_file());
        if is_log && !is_other {
            found.push(path);
        }
    }
    ensure!(
        !found.is_empty(),
        "{} has no *.access.log: name the files",
        folder.display()
    );
    found.sort();
    Ok(found)
}

fn report(summary: &Summary) {
    for malformed in &summary.first {
        // The name of a file and the reader's own words: no text of the log.
        eprintln!("{}", visible(&malformed.to_string()));
    }
    let shown = summary.first.len() as u64;
    if summary.malformed > shown {
        eprintln!("… and {} more", summary.malformed - shown);
    }
    if summary.malformed > 0 {
        let of = summary.entries + summary.malformed;
        eprintln!("{} of {of} lines passed over", summary.malformed);
    }
}

struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Over the bytes as they are stored; without a length if any of the logs has none.
    fn new(logs: &[Log]) -> Self {
        if !io::stderr().is_terminal() {
            return Self {
                bar: ProgressBar::hidden(),
            };
        }
        let lengths = logs.iter().map(|log| match log {
            Log::File(path) => std::fs::metadata(path)
                .ok()
                .filter(std::fs::Metadata::is_file)
                .map(|metadata| metadata.len()),
            Log::StandardInput => None,
        });
        let (bar, template) = match lengths.sum::<Option<u64>>() {
            Some(length) => (
                ProgressBar::new(length),
                "{msg}  {bytes}/{total_bytes}  {bytes_per_sec}  {eta}",
            ),
            None => (ProgressBar::no_length(), "{msg}  {bytes}  {bytes_per_sec}"),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar }
    }

    fn start(&self, log: &Log) {
        self.bar.set_message(visible(&log.to_string()));
    }
}
