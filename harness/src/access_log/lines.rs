//! Lines of any stream, read as entries in bounded memory.

use std::fmt;
use std::io::{self, BufRead};

use jiff::Timestamp;

use super::Entry;

/// The longest line that is read, in bytes. Envoy takes 60 KiB of request headers by default.
const MAX_LINE: usize = 1 << 20;
/// How many malformed lines are kept to be shown.
const MAX_SHOWN: usize = 5;

/// What was found in one or more logs.
#[derive(Debug, Default)]
pub struct Summary {
    /// Lines that are entries.
    pub entries: u64,
    /// Lines that are none; blank ones do not count.
    pub malformed: u64,
    /// The first few of those.
    pub first: Vec<Malformed>,
}

/// A line that is no entry.
#[derive(Debug)]
pub struct Malformed {
    /// The log's name.
    pub log: String,
    /// The line, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub problem: Problem,
}

/// Why a line is no entry.
#[derive(Debug)]
pub enum Problem {
    /// It has no JSON object, such as what a proxy prints of itself between its entries.
    NoObject,
    /// What stands before its JSON object is nothing that a container runtime writes there.
    Prefix,
    /// What begins like a JSON object is none.
    Json(serde_json::Error),
    /// The object has nothing of an access log.
    NoEntry,
    /// It is longer than 1 MiB.
    TooLong,
    /// The log cannot be read further: a broken compression, a failing disk.
    Unreadable(io::Error),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.log, self.line)?;
        match &self.problem {
            Problem::NoObject => f.write_str("has no JSON object"),
            Problem::Prefix => f.write_str(
                "has before its JSON object what no container runtime writes: cut it off first",
            ),
            Problem::Json(error) => write!(f, "is not JSON: {error}"),
            Problem::NoEntry => f.write_str("is JSON, but no entry of an access log"),
            Problem::TooLong => write!(f, "is longer than {MAX_LINE} bytes"),
            Problem::Unreadable(error) => write!(f, "cannot be read from here on: {error}"),
        }
    }
}

/// Reads every line of `stream`, calls `each` with every entry, and adds what it found to `summary`.
///
/// An entry is the JSON object of a line. Before it may stand what `is_prefix` knows; an object behind
/// anything else is text of a client's or of another program's.
///
/// No line stops it, and it keeps no more than one of at most 1 MiB. A stream that breaks in the
/// middle is a malformed line like another, its last.
pub fn read_lines(
    mut stream: impl BufRead,
    log: &str,
    summary: &mut Summary,
    mut each: impl FnMut(&Entry<'_>),
) {
    let mut buffer = Vec::new();
    let mut line = 0;
    loop {
        buffer.clear();
        line += 1;
        let problem = match next_line(&mut stream, &mut buffer) {
            Ok(Next::End) => return,
            Ok(Next::Line) => match parse(&buffer) {
                Ok(Some(entry)) => {
                    summary.entries += 1;
                    each(&entry);
                    continue;
                }
                Ok(None) => continue,
                Err(problem) => problem,
            },
            Ok(Next::TooLong) => Problem::TooLong,
            Err(error) => Problem::Unreadable(error),
        };
        let is_last = matches!(problem, Problem::Unreadable(_));
        summary.malformed += 1;
        // An unreadable rest is worth showing however many lines were malformed before it.
        if summary.first.len() < MAX_SHOWN || is_last {
            summary.first.push(Malformed {
                log: log.to_owned(),
                line,
                problem,
            });
        }
        if is_last {
            return;
        }
    }
}

/// The entry of a line; `None` for a blank one.
fn parse(line: &[u8]) -> Result<Option<Entry<'_>>, Problem> {
    let line = line.trim_ascii();
    if line.is_empty() {
        return Ok(None);
    }
    let start = memchr::memchr(b'{', line).ok_or(Problem::NoObject)?;
    let (prefix, object) = line.split_at(start);
    if !is_prefix(prefix) {
        return Err(Problem::Prefix);
    }
    let entry: Entry<'_> = serde_json::from_slice(object).map_err(Problem::Json)?;
    if entry.is_telling() {
        Ok(Some(entry))
    } else {
        Err(Problem::NoEntry)
    }
}

/// True for nothing, and for what is written before a container's line: `[pod/NAME/CONTAINER]` by
/// kubectl, `NAME |` by Compose, the time with `--timestamps`, and time, stream and tag by a container
/// runtime.
fn is_prefix(prefix: &[u8]) -> bool {
    let Ok(prefix) = std::str::from_utf8(prefix) else {
        return false;
    };
    let mut words = prefix.split_ascii_whitespace().peekable();
    if words
        .next_if(|word| word.starts_with("[pod/") && word.ends_with(']'))
        .is_none()
    {
        let mut named = words.clone();
        if named.nth(1) == Some("|") {
            words = named;
        }
    }
    if words
        .next_if(|word| word.parse::<Timestamp>().is_ok())
        .is_some()
        && words
            .next_if(|word| matches!(*word, "stdout" | "stderr"))
            .is_some()
    {
        // F is a full line, P a part.
        words.next_if(|word| matches!(*word, "F" | "P"));
    }
    words.next().is_none()
}

enum Next {
    Line,
    TooLong,
    End,
}

/// Appends the next line to `buffer`, which stays short whatever the stream holds.
fn next_line(stream: &mut impl BufRead, buffer: &mut Vec<u8>) -> io::Result<Next> {
    let mut is_too_long = false;
    let mut is_empty = true;
    loop {
        let available = match stream.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if available.is_empty() && is_empty {
            return Ok(Next::End);
        }
        is_empty = false;
        let end = memchr::memchr(b'\n', available);
        let taken = end.unwrap_or(available.len());
        if buffer.len() + taken > MAX_LINE {
            is_too_long = true;
        }
        if !is_too_long {
            buffer.extend_from_slice(&available[..taken]);
        }
        let is_end = end.is_some() || available.is_empty();
        stream.consume(taken + usize::from(end.is_some()));
        if is_end {
            return Ok(if is_too_long {
                Next::TooLong
            } else {
                Next::Line
            });
        }
    }
}
