//! What is written on every image: the version, and where its sources are.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use jiff::Timestamp;
use oci_spec::image::{
    ANNOTATION_CREATED, ANNOTATION_LICENSES, ANNOTATION_REVISION, ANNOTATION_SOURCE,
    ANNOTATION_TITLE, ANNOTATION_VERSION,
};
use serde::{Deserialize, Serialize};
use url::Url;

/// The annotations that all modules of one checkout have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annotations {
    /// The commit, where the work tree has no changes beside it.
    pub revision: Option<String>,
    /// When that commit was made, RFC 3339 in UTC: the time of packing would differ every time.
    pub created: Option<String>,
    /// The repository, where `origin` is one on a network.
    pub source: Option<String>,
}

impl Annotations {
    /// What git knows of the checkout; nothing where there is no git or no repository.
    pub fn of_checkout(root: &Path) -> Self {
        let source = git(root, &["remote", "get-url", "origin"]);
        let mut annotations = Self {
            source: source.and_then(|address| public_address(&address)),
            ..Self::default()
        };
        // A commit says nothing of sources that were changed since.
        let changes = git(root, &["status", "--porcelain", "--untracked-files=no"]);
        if changes.is_some_and(|changes| changes.is_empty()) {
            annotations.revision = git(root, &["rev-parse", "HEAD"]);
            let seconds = git(root, &["show", "--no-patch", "--format=%ct", "HEAD"]);
            annotations.created = seconds.and_then(|seconds| {
                let time = Timestamp::from_second(seconds.parse().ok()?).ok()?;
                Some(time.to_string())
            });
        }
        annotations
    }

    /// The annotations of a manifest with this title.
    pub(super) fn titled(&self, title: &str) -> HashMap<String, String> {
        let known = [
            (ANNOTATION_TITLE, Some(title)),
            (ANNOTATION_VERSION, Some(env!("CARGO_PKG_VERSION"))),
            (ANNOTATION_LICENSES, Some(env!("CARGO_PKG_LICENSE"))),
            (ANNOTATION_REVISION, self.revision.as_deref()),
            (ANNOTATION_CREATED, self.created.as_deref()),
            (ANNOTATION_SOURCE, self.source.as_deref()),
        ];
        known
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))
            .collect()
    }
}

fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(arguments)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// A repository's address as anyone may read it, over HTTPS and without a user; `None` for a path,
/// which means something on one machine alone.
fn public_address(address: &str) -> Option<String> {
    let (host, path) = match Url::parse(address) {
        Ok(url) if ["https", "http", "ssh", "git"].contains(&url.scheme()) => {
            let port = url.port().filter(|_| url.scheme().starts_with("http"));
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            (format!("{}{port}", url.host_str()?), url.path().to_owned())
        }
        Ok(_) => return None,
        // `git@HOST:PATH`, as ssh writes it.
        Err(_) => {
            let (host, path) = address.split_once(':')?;
            let host = host.rsplit('@').next()?;
            if host.contains('/') {
                return None;
            }
            (host.to_owned(), format!("/{path}"))
        }
    };
    let path = path.trim_end_matches('/').trim_end_matches(".git");
    (!host.is_empty() && path.len() > 1).then(|| format!("https://{host}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_that_anyone_may_read() {
        for (address, expected) in [
            (
                "https://git.example/a/b.git",
                Some("https://git.example/a/b"),
            ),
            (
                "https://user:secret@git.example/a/b",
                Some("https://git.example/a/b"),
            ),
            (
                "http://git.example:8080/a",
                Some("https://git.example:8080/a"),
            ),
            (
                "ssh://git@git.example:2222/a/b.git",
                Some("https://git.example/a/b"),
            ),
            ("git@git.example:a/b.git", Some("https://git.example/a/b")),
            ("/srv/meridian", None),
            ("../meridian", None),
            ("./a:b", None),
            ("file:///srv/meridian", None),
            ("", None),
        ] {
            assert_eq!(public_address(address).as_deref(), expected, "{address}");
        }
    }

    #[test]
    fn a_commit_is_named_only_where_it_is_all_of_the_sources() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert_eq!(Annotations::of_checkout(root), Annotations::default());
        let run = |arguments: &[&str]| {
            let output = Command::new("git")
                .arg("-C")
                .arg(root)
                .args(["-c", "user.name=a", "-c", "user.email=a@b.example"])
                .args(arguments)
                .env("GIT_COMMITTER_DATE", "2026-11-05T10:00:00+02:00")
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
        };
        run(&["init", "--quiet"]);
        std::fs::write(root.join("a"), "1").unwrap();
        run(&["add", "a"]);
        run(&["commit", "--quiet", "--message=a"]);
        let clean = Annotations::of_checkout(root);
        assert_eq!(clean.revision.as_deref().map(str::len), Some(40));
        assert_eq!(clean.created.as_deref(), Some("2026-11-05T08:00:00Z"));
        assert_eq!(clean.source, None);

        std::fs::write(root.join("a"), "2").unwrap();
        run(&["remote", "add", "origin", "git@git.example:a/b.git"]);
        let changed = Annotations::of_checkout(root);
        assert_eq!((changed.revision, changed.created), (None, None));
        assert_eq!(changed.source.as_deref(), Some("https://git.example/a/b"));
    }
}
