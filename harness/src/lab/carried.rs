//! Files that this program carries behind its own code, so that it needs neither a checkout nor Cargo:
//! an archive, its length and a mark, which no loader of Linux reads.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::OnceLock;

use anyhow::Context;

/// What a program ends with that carries files.
const MARK: [u8; 16] = *b"meridian carries";
/// The mark, and before it the length of the archive, in bytes, little-endian.
const TRAILER: u64 = 24;

/// Files by their names.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The files of this program, none if it carries nothing.
///
/// # Errors
/// If its own file cannot be read.
pub fn files() -> anyhow::Result<Option<&'static Files>> {
    static FILES: OnceLock<Option<Files>> = OnceLock::new();
    if let Some(files) = FILES.get() {
        return Ok(files.as_ref());
    }
    let program =
        std::env::current_exe().context("cannot tell which file this is: is /proc mounted?")?;
    let read = read(&program)?;
    Ok(FILES.get_or_init(|| read).as_ref())
}

/// The file called `name`.
///
/// # Errors
/// If it is not among them.
pub fn find<'f>(files: &'f Files, name: &str) -> anyhow::Result<&'f [u8]> {
    let found = files.get(name);
    found.map(Vec::as_slice).with_context(|| {
        format!("this program carries no {name}: write it anew with `meridian build --standalone`")
    })
}

/// What a program that carries `files` has behind its own code.
///
/// # Errors
/// If a name is too long for an archive.
pub fn tail(files: &Files) -> anyhow::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, file) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(file.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, file.as_slice())?;
    }
    let mut tail = archive.into_inner()?;
    let length = (tail.len() as u64).to_le_bytes();
    tail.extend_from_slice(&length);
    tail.extend_from_slice(&MARK);
    Ok(tail)
}

fn read(program: &Path) -> anyhow::Result<Option<Files>> {
    read_end(program).with_context(|| format!("cannot read what {} carries", program.display()))
}

fn read_end(program: &Path) -> std::io::Result<Option<Files>> {
    let mut program = File::open(program)?;
    let size = program.metadata()?.len();
    let Some(end) = size.checked_sub(TRAILER) else {
        return Ok(None);
    };
    program.seek(SeekFrom::Start(end))?;
    let (mut length, mut mark) = ([0; 8], [0; 16]);
    program.read_exact(&mut length)?;
    program.read_exact(&mut mark)?;
    if mark != MARK {
        return Ok(None);
    }
    let length = u64::from_le_bytes(length);
    let start = end.checked_sub(length).ok_or(ErrorKind::InvalidData)?;
    program.seek(SeekFrom::Start(start))?;
    let mut files = Files::new();
    for entry in tar::Archive::new(program.take(length)).entries()? {
        let mut entry = entry?;
        let name = entry.path()?.to_string_lossy().into_owned();
        let mut contents = Vec::new();
        entry.read_to_end(&mut contents)?;
        files.insert(name, contents);
    }
    Ok(Some(files))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_program_with_a_tail_runs_as_before_and_carries_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy");
        let files: Files = [
            ("a.wasm".to_owned(), b"\0asm".to_vec()),
            ("compiled/a.wasm".to_owned(), vec![7; 1000]),
            ("empty".to_owned(), Vec::new()),
        ]
        .into();
        fs::copy("/bin/true", &copy).unwrap();
        assert_eq!(read(&copy).unwrap(), None);
        let program = [fs::read(&copy).unwrap(), tail(&files).unwrap()].concat();
        fs::write(&copy, program).unwrap();
        assert_eq!(read(&copy).unwrap().as_ref(), Some(&files));
        let status = std::process::Command::new(&copy).status().unwrap();
        assert!(status.success());
    }

    #[test]
    fn a_damaged_end_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        let write = |length: u64| {
            let contents = [&[0; 100][..], &length.to_le_bytes(), &MARK].concat();
            fs::write(&program, contents).unwrap();
        };
        write(101);
        assert!(read(&program).is_err());
        fs::write(&program, "short").unwrap();
        assert_eq!(read(&program).unwrap(), None);
    }

    #[test]
    fn a_file_that_is_not_carried_is_named() {
        let error = find(&Files::new(), "b").unwrap_err().to_string();
        assert!(error.contains("carries no b:"), "{error}");
        assert_eq!(files().unwrap(), None);
    }
}
