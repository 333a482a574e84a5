//! What Envoy logs: how much, and which of it says what went wrong.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::bail;

/// How many lines of a log an error quotes.
const QUOTED_LINES: usize = 12;

/// What Envoy writes to its log; each level has those before it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogLevel {
    /// Errors alone.
    Error,
    /// Warnings.
    Warning,
    /// What the filters log as info, and Envoy's own start.
    #[default]
    Info,
    /// Everything about each request.
    Debug,
    /// Still more.
    Trace,
}

impl LogLevel {
    /// As `--log-level` takes it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// What Envoy logs of a VM that it could not start.
const NO_VM: &str = "Failed to create new Wasm instance";

/// That every worker has its filters. Envoy is live without them too, and a worker that got no VM lets
/// everything pass, whatever the `failure_policy` (Envoy 1.40). The error completes the sentence
/// "Envoy `name` …".
pub(super) fn has_all_vms(log: &Path, start: u64) -> anyhow::Result<()> {
    if read_from(log, start)?.contains(NO_VM) {
        bail!(
            "has a worker without a filter's VM, where everything would pass: a VM reserves 10 GB of the \
             address space, so raise its limit (`ulimit -v unlimited`)"
        );
    }
    Ok(())
}

/// The log from the byte `start` on, where the output of one run begins.
fn read_from(path: &Path, start: u64) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The lines of a log that say what went wrong, from the byte `start` on, ready to be put after a message: `:` and each on
/// a line of its own; empty if the log is.
pub(in crate::lab) fn quote_log(path: &Path, start: u64) -> String {
    let Ok(log) = read_from(path, start) else {
        return String::new();
    };
    let lines = telling_lines(&log);
    if lines.is_empty() {
        return String::new();
    }
    format!(":\n  {}", lines.join("\n  "))
}

/// The last lines of level critical or error, or from a wasm filter, each with the lines that
/// continue it; the last lines whatever they are if there is no such line.
fn telling_lines(log: &str) -> Vec<&str> {
    let mut telling = false;
    let mut lines: Vec<&str> = log
        .lines()
        .filter(|line| {
            // A log line starts with `[date time][thread][level][component]`; others continue it.
            if line.starts_with('[') {
                telling = ["[critical]", "[error]", "[wasm]"]
                    .iter()
                    .any(|tag| line.contains(tag))
                    // Of a crash the signal tells; the addresses of its stack do not.
                    && (!line.contains("[backtrace]") || line.contains("Caught "));
            }
            telling && !line.trim().is_empty()
        })
        .collect();
    if lines.is_empty() {
        lines = log.lines().filter(|line| !line.trim().is_empty()).collect();
    }
    lines.split_off(lines.len().saturating_sub(QUOTED_LINES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_quotes_the_lines_that_matter_with_their_continuation() {
        let log = "\
[2026-01-01 00:00:00.000][7][info][main] [source/server.cc:1] initializing
[2026-01-01 00:00:00.001][7][error][wasm] [source/wasm.cc:2] wasm log: bad policy
  hosts.ingress
[2026-01-01 00:00:00.002][7][info][main] [source/server.cc:3] exiting
more of exiting

[2026-01-01 00:00:00.003][7][critical][main] [source/server.cc:4] no
";
        let lines = telling_lines(log);
        assert_eq!(lines.len(), 3);
        assert!(lines[0].ends_with("wasm log: bad policy"));
        assert_eq!(lines[1], "  hosts.ingress");
        assert!(lines[2].ends_with("no"));
    }

    #[test]
    fn of_a_crash_the_signal_is_quoted() {
        let log = "\
[now][7][critical][backtrace] [x.h:1] Caught Segmentation fault, suspect faulting address 0x1
[now][7][critical][backtrace] [x.h:2] Backtrace (use tools/stack_decode.py to get line numbers):
[now][7][critical][backtrace] [x.h:3] #0: [0x7f0000000000]
ConnectionImpl 0x53513fd83200
";
        let lines = telling_lines(log);
        assert_eq!(lines, log.lines().take(1).collect::<Vec<_>>());
    }

    #[test]
    fn a_log_without_such_lines_is_quoted_from_its_end() {
        let log: String = (0..20).map(|number| format!("line {number}\n\n")).collect();
        let lines = telling_lines(&log);
        assert_eq!(lines.len(), QUOTED_LINES);
        assert_eq!(lines.last(), Some(&"line 19"));
        assert!(telling_lines("").is_empty());
    }
}
