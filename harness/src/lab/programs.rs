//! Programs of this machine that the laboratory runs.

use std::ffi::OsString;
use std::path::PathBuf;

/// Where Debian keeps the programs of root, and Go's installer Go: not on every user's PATH.
const FURTHER: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/go/bin"];

/// A program from the PATH, or from where it is kept without being there.
pub fn find(program: &str) -> Option<PathBuf> {
    folders()
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// A PATH with those folders, for programs that look for others themselves.
pub fn path() -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // A folder whose name has a colon cannot have come from a PATH.
    std::env::join_paths(folders()).unwrap_or(path)
}

fn folders() -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let known: Vec<PathBuf> = std::env::split_paths(&path).collect();
    known.into_iter().chain(FURTHER.map(PathBuf::from))
}
