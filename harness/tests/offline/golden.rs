//! Golden files: what is generated, compared with what is committed. An update is
//!
//! ```sh
//! MERIDIAN_UPDATE_GOLDEN=1 cargo test -p meridian --test offline
//! ```
//!
//! In CI, where the variable `CI` is set, a difference always fails.

use std::path::Path;

/// The command that rewrites golden files.
pub const UPDATE: &str = "MERIDIAN_UPDATE_GOLDEN=1 cargo test -p meridian --test offline";

/// Whether golden files are rewritten instead of compared.
pub fn updates() -> bool {
    std::env::var_os("MERIDIAN_UPDATE_GOLDEN").is_some() && std::env::var_os("CI").is_none()
}

/// Compares `generated` with the file at `path`, or rewrites the file.
pub fn assert_golden(path: &Path, generated: &str) {
    if updates() {
        std::fs::write(path, generated).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(path).unwrap_or_else(|error| {
        panic!("{}: {error}; to write it, run\n{UPDATE}", path.display());
    });
    assert!(
        committed == generated,
        "{} is not what is generated; to rewrite it, run\n{UPDATE}\n\n{}",
        path.display(),
        similar::TextDiff::from_lines(&committed, generated)
            .unified_diff()
            .header("committed", "generated")
    );
}
