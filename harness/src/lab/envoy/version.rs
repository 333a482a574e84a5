//! Versions of Envoy, and what older ones cannot do.

use std::fmt;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, bail, ensure};

/// A version of Envoy, of which the patch counts only where two are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

impl Version {
    /// The first patch release of a minor version.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self {
            major,
            minor,
            patch: 0,
        }
    }

    /// The version of a binary, as `--version` tells it.
    ///
    /// # Errors
    /// If the binary does not start, or says something else.
    pub fn of(binary: &Path) -> anyhow::Result<Self> {
        let version = || {
            let output = Command::new(binary)
                .arg("--version")
                .output()
                .context("it does not start")?;
            ensure!(
                output.status.success(),
                "`--version` fails ({})",
                output.status
            );
            let text = String::from_utf8_lossy(&output.stdout);
            told(&text).with_context(|| format!("`--version` says `{}`", text.trim()))
        };
        version().with_context(|| format!("{} has no version of Envoy", binary.display()))
    }

    /// True for two patch releases of one minor version.
    pub fn is_same_minor(self, other: Self) -> bool {
        (self.major, self.minor) == (other.major, other.minor)
    }

    /// The oldest version that takes what is configured for this one.
    pub fn oldest_alike(self) -> Self {
        match self.has_span_tag_values() && self.can_connect_on_data() {
            true => Self::new(1, 37),
            false => Self::OLDEST,
        }
    }

    /// True if a tag of a span may be made of command operators (`CustomTag.value`): since 1.37.
    pub fn has_span_tag_values(self) -> bool {
        self >= Self::new(1, 37)
    }

    /// True if the TCP proxy can wait for the client's first bytes before it connects
    /// (`upstream_connect_mode`): since 1.37.
    pub fn can_connect_on_data(self) -> bool {
        self >= Self::new(1, 37)
    }
}

/// The version in `envoy  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL`.
fn told(text: &str) -> Option<Version> {
    let version = text.split_once("version:")?.1.split('/').nth(1)?;
    version.parse().ok()
}

impl FromStr for Version {
    type Err = anyhow::Error;

    /// Reads `1.40.0`, `1.40`, or a version with a suffix such as `1.40.1-dev`.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let numbers: Option<Vec<u32>> = text
            .split_once('-')
            .map_or(text, |(version, _)| version)
            .split('.')
            .map(|number| number.parse().ok())
            .collect();
        match numbers.as_deref() {
            Some([major, minor]) => Ok(Self::new(*major, *minor)),
            Some([major, minor, patch]) => Ok(Self {
                major: *major,
                minor: *minor,
                patch: *patch,
            }),
            _ => bail!("`{text}` is no version of Envoy; write one such as 1.40 or 1.40.0"),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            major,
            minor,
            patch,
        } = self;
        write!(formatter, "{major}.{minor}.{patch}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_second_part_of_what_envoy_says() {
        let text = "\n/usr/bin/envoy  version: 4a6c6a0f/1.40.3/Clean/RELEASE/BoringSSL\n\n";
        assert_eq!(told(text).unwrap().to_string(), "1.40.3");
        assert_eq!(told("envoy version: unknown"), None);
        assert_eq!(told("nginx/1.2.3"), None);
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        let version = |text: &str| text.parse::<Version>().unwrap();
        assert!(version("1.9.12") < version("1.10"));
        assert!(version("1.37") < version("1.37.1-dev"));
        assert!(version("1.40.7").is_same_minor(Version::new(1, 40)));
        assert!(!version("2.40.0").is_same_minor(Version::new(1, 40)));
        for wrong in ["", "1", "v1.40", "1.40.0.0", "1.x", "latest"] {
            let error = wrong.parse::<Version>().unwrap_err().to_string();
            assert!(error.contains("such as 1.40"), "{error}");
        }
    }

    #[test]
    fn a_binary_that_is_no_envoy_is_named() {
        let error = format!("{:#}", Version::of(Path::new("/bin/true")).unwrap_err());
        let start = "/bin/true has no version of Envoy: `--version` says `";
        assert!(error.starts_with(start), "{error}");
        let error = format!("{:#}", Version::of(Path::new("/nonexistent")).unwrap_err());
        assert!(error.contains("it does not start"), "{error}");
    }
}
