//! A policy file that is followed while somebody edits it.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often the file is looked at. By looking, not by inotify: that does not tell of changes that are
/// made on the other side of every mount of a container.
const INTERVAL: Duration = Duration::from_millis(150);

/// A file whose changes are waited for.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    /// What was last told; `None` if the file could not be read then.
    told: Option<Vec<u8>>,
}

impl Watch {
    /// Follows `path` from now on; what it holds now is no change.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            told: std::fs::read(path).ok(),
        }
    }

    /// The content after the next change, or why the file cannot be read any more; each is told once.
    ///
    /// A change counts when the file is the same at two looks, so that an editor can finish writing.
    ///
    /// # Errors
    /// If the file cannot be read since; a later call waits until it can.
    pub async fn next(&mut self) -> std::io::Result<Vec<u8>> {
        let mut last = self.told.clone();
        loop {
            tokio::time::sleep(INTERVAL).await;
            let read = tokio::fs::read(&self.path).await;
            let now = read.as_ref().ok().cloned();
            let is_settled = now == last;
            if is_settled && now != self.told {
                self.told = now;
                return read;
            }
            last = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_is_told_once_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.yaml");
        std::fs::write(&path, "one").unwrap();
        let mut watch = Watch::new(&path);
        let quiet = tokio::time::timeout(INTERVAL * 4, watch.next()).await;
        assert!(quiet.is_err(), "nothing has changed");

        std::fs::write(&path, "two").unwrap();
        assert_eq!(watch.next().await.unwrap(), b"two");

        // As most editors do.
        let new = folder.path().join(".policy.yaml.swp");
        std::fs::write(&new, "three").unwrap();
        std::fs::rename(&new, &path).unwrap();
        assert_eq!(watch.next().await.unwrap(), b"three");

        std::fs::remove_file(&path).unwrap();
        let error = watch.next().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        std::fs::write(&path, "three").unwrap();
        assert_eq!(watch.next().await.unwrap(), b"three");
    }
}
