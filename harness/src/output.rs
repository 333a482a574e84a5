//! Output of the verbs: files in a folder, and a stdout whose reader may have gone, as with
//! `| head -1`.
//!
//! Rust ignores SIGPIPE and `print!` panics then. The verbs that only read and print get the signal's
//! default back and end by it, as other tools do. Those that hold sockets must not: a peer that
//! closes a connection would end them. They print with [`print`].

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use anyhow::Context;
use nix::sys::signal::{SigHandler, Signal, signal};

use crate::text::visible::visible;

/// The exit code of a verb that holds sockets when the reader has gone: what shells show for the
/// others, which SIGPIPE ends.
pub(crate) const EXIT_CODE: u8 = 128 + Signal::SIGPIPE as u8;

/// The reader has gone; nobody is left to be told.
#[derive(Debug)]
pub(crate) struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the reader of standard output has gone")
    }
}

impl std::error::Error for Closed {}

/// Ends this process when it writes to a pipe that nobody reads. Only for a process without sockets.
pub(crate) fn end_with_the_reader() {
    // SAFETY: the default disposition runs no code of this process.
    let set = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
    // It fails for signals that cannot be handled, which this is not.
    debug_assert!(set.is_ok());
}

/// Writes to stdout, as it is.
///
/// # Errors
/// [`Closed`], or another error if it cannot be written.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes());
    match written.and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Closed.into()),
        written => written.context("cannot write to standard output"),
    }
}

/// Writes a line to stderr, which may have gone: with a closed terminal the kernel refuses it, and what
/// is told while a verb ends must not keep it from ending.
pub(crate) fn tell(line: &str) {
    // Nobody is left to be told that nobody is left.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Writes `files`, pairs of a path and a text, into `folder`, and names each on stderr. Folders are
/// created if need be.
///
/// # Errors
/// If the folder or a file cannot be written.
pub(crate) fn write_files(folder: &Path, files: &[(String, String)]) -> anyhow::Result<()> {
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot create the folder {}", folder.display()))?;
    for (name, text) in files {
        let path = folder.join(name);
        if let Some(within) = path.parent() {
            fs::create_dir_all(within)
                .with_context(|| format!("cannot create the folder {}", within.display()))?;
        }
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        eprintln!("wrote {}", visible(&path.display().to_string()));
    }
    Ok(())
}
