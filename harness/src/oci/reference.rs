//! Where images go: a registry, the first parts of the repositories' names, and a tag.

use std::fmt;
use std::str::FromStr;

use anyhow::{bail, ensure};

/// What OCI's registries allow.
const MAX_TAG: usize = 128;
const MAX_NAME: usize = 255;

/// `REGISTRY/REPO`, below which each module has a repository of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// `HOST` or `HOST:PORT`.
    pub registry: String,
    /// The path on it.
    pub repository: String,
}

impl Destination {
    /// The repository of a module on its registry.
    pub fn repository_of(&self, name: &str) -> String {
        format!("{}/{name}", self.repository)
    }

    /// A module's reference, as `docker pull` takes it.
    pub fn reference(&self, name: &str, tag: &str) -> String {
        format!("{self}/{name}:{tag}")
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)
    }
}

impl FromStr for Destination {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let address = text.strip_prefix("oci://").unwrap_or(text);
        if let Some((scheme, rest)) = address.split_once("://") {
            bail!("{scheme}:// is not written here: write {rest}, and --plain-http for HTTP");
        }
        let Some((registry, repository)) = address.split_once('/') else {
            bail!("the repository is missing: write REGISTRY/REPO, as in ghcr.io/me/meridian");
        };
        let is_registry = registry == "localhost"
            || registry.contains(['.', ':']) && !registry.starts_with(['.', ':']);
        ensure!(
            is_registry && registry.bytes().all(is_of_registry),
            "{registry:?} is no registry: write REGISTRY/REPO, as in ghcr.io/me/meridian or \
             docker.io/me"
        );
        // A module's name follows.
        ensure!(
            repository.split('/').all(is_component)
                && repository.len() + "/ingress".len() <= MAX_NAME,
            "{repository:?} is no repository: write lower-case letters, digits and single `.`, `_` or \
             `-` between them, parts divided by `/`, and no tag, which --tag sets"
        );
        Ok(Self {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
        })
    }
}

fn is_of_registry(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let is_separator = |separator: &str| {
        matches!(separator, "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
    };
    let is_alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(is_alphanumeric)
        && text.ends_with(is_alphanumeric)
        && text.split(is_alphanumeric).all(is_separator)
}

/// Refuses what is no tag, or too long with what is put behind it.
///
/// # Errors
/// If it is not; says what to write.
pub fn check_tag(tag: &str) -> anyhow::Result<()> {
    let is_tag = tag.bytes().enumerate().all(|(place, byte)| {
        byte.is_ascii_alphanumeric() || byte == b'_' || place > 0 && b".-".contains(&byte)
    });
    ensure!(
        is_tag && !tag.is_empty() && tag.len() <= MAX_TAG,
        "{tag:?} is no tag: write at most {MAX_TAG} letters, digits, `_`, `.` and `-`, the last two \
         not first"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_a_registry_and_a_repository() {
        for (text, registry, repository) in [
            ("ghcr.io/me/meridian", "ghcr.io", "me/meridian"),
            ("localhost/m", "localhost", "m"),
            ("oci://127.0.0.1:5000/a_b/c-d", "127.0.0.1:5000", "a_b/c-d"),
            ("[::1]:5000/m", "[::1]:5000", "m"),
        ] {
            let destination: Destination = text.parse().unwrap();
            assert_eq!(destination.registry, registry, "{text}");
            assert_eq!(destination.repository, repository, "{text}");
        }
        let destination: Destination = "ghcr.io/me".parse().unwrap();
        assert_eq!(destination.reference("egress", "1"), "ghcr.io/me/egress:1");
    }

    #[test]
    fn what_is_none_is_told_what_to_write() {
        for (text, expected) in [
            (
                "http://127.0.0.1:5000/m",
                "write 127.0.0.1:5000/m, and --plain-http",
            ),
            ("ghcr.io", "the repository is missing"),
            ("me/meridian", "\"me\" is no registry"),
            ("a b.io/m", "is no registry"),
            ("ghcr.io/Me", "\"Me\" is no repository"),
            ("ghcr.io/", "\"\" is no repository"),
            ("ghcr.io/a//b", "is no repository"),
            ("ghcr.io/a:1", "no tag, which --tag sets"),
            ("ghcr.io/a..b", "is no repository"),
            ("ghcr.io/a-", "is no repository"),
        ] {
            let error = text.parse::<Destination>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_tag_is_what_registries_take() {
        for tag in ["0.1.0", "_", "A-b_c.d", &"a".repeat(128)] {
            check_tag(tag).unwrap();
        }
        for tag in ["", ".a", "-a", "a b", "a:b", "ä", &"a".repeat(129)] {
            check_tag(tag).unwrap_err();
        }
    }
}
