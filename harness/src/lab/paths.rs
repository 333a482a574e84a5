//! Where things live: in the workspace, the root, the target folder and what Meridian keeps in it; for a
//! program without a checkout, a cache folder of the user's.
//!
//! Nothing here creates a folder, except [`write_atomically`], which needs one to write into.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::lab::carried;

/// The workspace's root: the one this command was compiled from, else the one that holds the
/// current directory.
///
/// # Errors
/// If neither is there, as for a binary copied to another machine and started outside a checkout.
pub fn workspace_root() -> anyhow::Result<PathBuf> {
    let compiled_from = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let current = std::env::current_dir().context("cannot read the current directory")?;
    compiled_from
        .into_iter()
        .chain(current.ancestors())
        .find(|candidate| is_workspace_root(candidate))
        .map(Path::to_path_buf)
        .with_context(|| {
            format!(
                "no Meridian workspace at {} or above: run this inside a checkout of Meridian",
                current.display()
            )
        })
}

fn is_workspace_root(candidate: &Path) -> bool {
    candidate.join("Cargo.toml").is_file() && candidate.join("filters/ingress/Cargo.toml").is_file()
}

/// Cargo's target folder: `$CARGO_TARGET_DIR`, relative to the workspace's root, else `target`
/// in the root. For a program that carries the modules, `meridian` in the user's folder for caches.
///
/// # Errors
/// As [`workspace_root`]; if the user has no folder for caches.
pub fn target_dir() -> anyhow::Result<PathBuf> {
    if carried::files()?.is_some() {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        return cache_dir(set("XDG_CACHE_HOME"), set("HOME"));
    }
    let root = workspace_root()?;
    Ok(match std::env::var_os("CARGO_TARGET_DIR") {
        Some(configured) if !configured.is_empty() => root.join(configured),
        _ => root.join("target"),
    })
}

/// As the XDG Base Directory Specification has it, which ignores what is not a full path.
fn cache_dir(caches: Option<OsString>, home: Option<OsString>) -> anyhow::Result<PathBuf> {
    let absolute = |path: OsString| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    let caches = caches.and_then(absolute);
    let caches = caches.or_else(|| Some(home.and_then(absolute)?.join(".cache")));
    let caches = caches.context(
        "no folder to keep files in: set XDG_CACHE_HOME to the full path of one that may be written to",
    )?;
    Ok(caches.join("meridian"))
}

/// The folder of the finished modules, `target/meridian`.
///
/// # Errors
/// As [`workspace_root`].
pub fn modules_dir() -> anyhow::Result<PathBuf> {
    Ok(target_dir()?.join("meridian"))
}

/// The folder that caches one version of Envoy, `target/envoy/VERSION`.
///
/// # Errors
/// As [`workspace_root`].
pub fn envoy_cache_dir(version: &str) -> anyhow::Result<PathBuf> {
    Ok(target_dir()?.join("envoy").join(version))
}

/// The folder of the run folders, `target/runs`.
///
/// # Errors
/// As [`workspace_root`].
pub fn runs_dir() -> anyhow::Result<PathBuf> {
    Ok(target_dir()?.join("runs"))
}

/// Writes `contents` to `path` so that a reader sees the old file or the new one, never a part;
/// creates the folder when it is missing.
///
/// # Errors
/// If the folder or the file cannot be written; names the path.
pub fn write_atomically(path: &Path, contents: &[u8]) -> anyhow::Result<()> {
    let write = || -> anyhow::Result<()> {
        let folder = path.parent().context("the path has no folder")?;
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(contents)?;
        set_mode(file.path(), 0o644)?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Sets the permission bits of a file, whatever the umask is.
pub(crate) fn set_mode(path: &Path, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Opens `path` and waits until this process alone holds its lock, which ends with the returned
/// file; calls `on_wait` once if another process holds it now.
///
/// # Errors
/// If the folder or the file cannot be created, or the file system knows no locks.
pub(crate) fn lock(path: &Path, on_wait: impl FnOnce()) -> anyhow::Result<fs::File> {
    let acquire = || -> anyhow::Result<fs::File> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = fs::File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                on_wait();
                file.lock()?;
            }
            Err(fs::TryLockError::Error(error)) => return Err(error.into()),
        }
        Ok(file)
    };
    acquire().with_context(|| format!("cannot lock {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_the_one_with_the_filters() {
        let root = workspace_root().unwrap();
        assert!(root.join("filters/sidecar/Cargo.toml").is_file());
    }

    #[test]
    fn without_a_checkout_files_are_in_the_users_cache() {
        let folder = |caches: &str, home: &str| cache_dir(Some(caches.into()), Some(home.into()));
        assert_eq!(folder("/c", "/h").unwrap(), Path::new("/c/meridian"));
        assert_eq!(folder("c", "/h").unwrap(), Path::new("/h/.cache/meridian"));
        let error = cache_dir(None, None).unwrap_err().to_string();
        assert!(error.contains("set XDG_CACHE_HOME"), "{error}");
    }

    #[test]
    fn an_atomic_write_replaces_the_file_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/file");
        write_atomically(&path, b"one").unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_lock_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".lock");
        let first = lock(&path, || panic!("nobody else holds it")).unwrap();
        let (waiting, waits) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| lock(&path, move || waiting.send(()).unwrap()).unwrap());
            waits.recv().unwrap();
            drop(first);
            second.join().unwrap();
        });
    }
}
