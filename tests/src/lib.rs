//! What the end-to-end tests share.

use std::io::Write;

pub mod raw;

/// Prints a line that the test runner does not swallow when the test passes: how many cases ran.
///
/// # Panics
/// If stderr is closed.
pub fn announce(line: &str) {
    // `eprintln!` would be captured.
    writeln!(std::io::stderr(), "{line}").expect("stderr takes a line");
}
