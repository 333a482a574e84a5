//! The command line as the tests of several verbs run it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// What became of `meridian` with these arguments.
pub fn meridian(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_meridian"))
        .args(arguments)
        .output()
        .unwrap()
}

/// The sample policy.
pub fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/policy.yaml")
}

/// The JSON that a verb prints, and its exit code.
pub fn json_of(arguments: &[&str]) -> (Value, Option<i32>) {
    let output = meridian(arguments);
    let text = String::from_utf8(output.stdout).unwrap();
    let value = serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!(
            "{error}: {text:?} {}",
            String::from_utf8_lossy(&output.stderr)
        )
    });
    (value, output.status.code())
}

/// A file that is removed with this value.
pub fn policy(text: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}
