//! Whether a file that was downloaded is still what it was, with a record beside it.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use sha2::{Digest, Sha256};

use crate::lab::paths;

/// What is known of a file: its checksum, and its size and time of change when that was taken.
#[derive(Debug, PartialEq, Eq)]
struct Record {
    sha256: String,
    stat: String,
}

/// Records the file at `path` as whole.
///
/// # Errors
/// If it cannot be read, or the record not written.
pub(super) fn record(path: &Path) -> anyhow::Result<()> {
    let record = Record {
        sha256: checksum(path)?,
        stat: stat(path)?,
    };
    let text = format!("{} {}\n", record.sha256, record.stat);
    paths::write_atomically(&beside(path), text.as_bytes())
}

/// True if the file is what was recorded. Only a file that looks changed is read as a whole. `None`
/// where nothing was recorded.
///
/// # Errors
/// If the file cannot be read.
pub(super) fn is_whole(path: &Path) -> anyhow::Result<Option<bool>> {
    let Ok(text) = fs::read_to_string(beside(path)) else {
        return Ok(None);
    };
    let Some((sha256, stat_then)) = text.trim_end().split_once(' ') else {
        return Ok(None);
    };
    if stat(path)? == stat_then {
        return Ok(Some(true));
    }
    if checksum(path)? != sha256 {
        return Ok(Some(false));
    }
    // Copied or touched: the next time it need not be read.
    record(path)?;
    Ok(Some(true))
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".sha256");
    name.into()
}

fn stat(path: &Path) -> anyhow::Result<String> {
    let file = path
        .metadata()
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(format!(
        "{} {}.{}",
        file.len(),
        file.mtime(),
        file.mtime_nsec()
    ))
}

fn checksum(path: &Path) -> anyhow::Result<String> {
    let hash = || -> std::io::Result<String> {
        let mut file = fs::File::open(path)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                count => hasher.update(&buffer[..count]),
            }
        }
        let bytes = hasher.finalize();
        Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    };
    hash().with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_whole_until_it_is_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("envoy");
        fs::write(&path, "whole").unwrap();
        assert_eq!(is_whole(&path).unwrap(), None);
        record(&path).unwrap();
        assert_eq!(is_whole(&path).unwrap(), Some(true));
        // Another time, the same file.
        let touched = fs::File::options().append(true).open(&path).unwrap();
        touched.set_modified(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(is_whole(&path).unwrap(), Some(true));
        for damaged in ["", "who", "wrong"] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(is_whole(&path).unwrap(), Some(false), "{damaged}");
        }
        fs::write(beside(&path), "nonsense").unwrap();
        assert_eq!(is_whole(&path).unwrap(), None);
    }
}
