//! A folder for what one run writes: bootstraps, logs, configuration dumps.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::SystemTime;

use anyhow::Context;

use crate::lab::paths;

/// How many folders of ended runs are kept.
const KEPT: usize = 20;

/// The file whose lock says that the folder is in use.
const LOCK: &str = ".lock";

/// The folder `target/runs/NAME-PID-N`, kept after the run so that its logs can be read.
///
/// While the value lives, no other process removes the folder; once in the life of each process
/// the folders of ended runs are pruned to the newest 20.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    _lock: File,
}

impl RunFolder {
    /// Creates an empty folder for a run called `name`, such as `demo`.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn create(name: &str) -> anyhow::Result<Self> {
        static PRUNED: Once = Once::new();
        let runs = paths::runs_dir()?;
        PRUNED.call_once(|| prune(&runs, KEPT));
        create_in(&runs, name)
            .with_context(|| format!("cannot create a run folder in {}", runs.display()))
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn create_in(runs: &Path, name: &str) -> anyhow::Result<RunFolder> {
    fs::create_dir_all(runs)?;
    let pid = std::process::id();
    let mut number: u32 = 1;
    let path = loop {
        let path = runs.join(format!("{name}-{pid}-{number}"));
        match fs::create_dir(&path) {
            Ok(()) => break path,
            // By another thread, or by an earlier process of the same id.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error.into()),
        }
    };
    let lock = File::create(path.join(LOCK))?;
    lock.try_lock()?;
    Ok(RunFolder { path, _lock: lock })
}

/// Removes the folders of ended runs except the newest `kept`.
///
/// Failures are passed over: another process may be pruning too, and old logs do no harm.
fn prune(runs: &Path, kept: usize) {
    let Ok(entries) = fs::read_dir(runs) else {
        return;
    };
    let mut ended: Vec<(SystemTime, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let lock = File::open(entry.path().join(LOCK)).ok()?;
            lock.try_lock().ok()?;
            Some((lock.metadata().ok()?.modified().ok()?, entry.path()))
        })
        .collect();
    ended.sort_unstable_by(|a, b| b.cmp(a));
    for (_, path) in ended.into_iter().skip(kept) {
        let _ = fs::remove_dir_all(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_one_name_are_told_apart() {
        let runs = tempfile::tempdir().unwrap();
        let first = create_in(runs.path(), "demo").unwrap();
        let second = create_in(runs.path(), "demo").unwrap();
        let name = |folder: &RunFolder| folder.path().file_name().unwrap().to_owned();
        let pid = std::process::id();
        assert_eq!(name(&first), format!("demo-{pid}-1").as_str());
        assert_eq!(name(&second), format!("demo-{pid}-2").as_str());
    }

    #[test]
    fn the_newest_ended_runs_and_all_in_use_are_kept() {
        let runs = tempfile::tempdir().unwrap();
        let in_use = create_in(runs.path(), "used").unwrap();
        let mut ended = Vec::new();
        for age in [3, 2, 1] {
            let folder = create_in(runs.path(), "ended").unwrap();
            let when = SystemTime::now() - std::time::Duration::from_secs(age);
            folder._lock.set_modified(when).unwrap();
            ended.push(folder.path().to_path_buf());
        }
        prune(runs.path(), 1);
        assert!(in_use.path().exists());
        let exist: Vec<bool> = ended.iter().map(|path| path.exists()).collect();
        assert_eq!(exist, [false, false, true]);
    }
}
