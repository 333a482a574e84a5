//! The Envoys that Meridian is tested with: one of each minor version that a supported Istio runs.

use anyhow::Context;

use super::version::Version;

/// The version that is downloaded where none is named, and whose `major.minor` an `envoy` on the
/// PATH must have: the newest of [`RELEASES`].
pub const VERSION: &str = RELEASES[0].version;

/// A release of Envoy that can be downloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    /// `MAJOR.MINOR.PATCH`.
    pub version: &'static str,
    /// The SHA-256 of the wheel for x86-64, in hexadecimal digits.
    pub(super) x86_64: &'static str,
    /// The same for aarch64.
    pub(super) aarch64: &'static str,
}

/// The releases, newest first. Not every patch release will do: the wheel of 1.38.3 has no V8.
pub const RELEASES: [Release; 5] = [
    Release {
        version: "1.40.0",
        x86_64: "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
        aarch64: "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
    },
    Release {
        version: "1.39.3",
        x86_64: "ee848b81b10b86f1d919f793b75852d24884928f2733752b4443bcd66d7bc5a6",
        aarch64: "2c624b8623c132e05f6f615f2e34b34fcdd1fdd0aaef065b3af55697178d2a50",
    },
    Release {
        version: "1.38.2",
        x86_64: "c1e2e293364686e3ee79b32f9743bb1f7fd40c196945cb9062fbb25655d35188",
        aarch64: "8b1b1bea393578e886a26350e3ab8738a066372869e82f54be464f4a914c9df4",
    },
    Release {
        version: "1.37.0",
        x86_64: "bf7a89ecfa8133a77d066c3d3f9cd0b9b975ed26a5d5d9e508896e57b78cabfc",
        aarch64: "ee3e51fb44bb8f1a7053556b6e216ecd7a92cae07d092cd8315bd336586bd315",
    },
    Release {
        version: "1.36.4",
        x86_64: "86dfc14ae7fad32de3b3ace54fbd400187c3b4fd6731781ff5bc633fa133f3f9",
        aarch64: "05b06a19c4f6499c752f1a5a034a02752f0cdbd0422c3d8eb515237a36e82cd2",
    },
];

impl Version {
    /// The newest that Meridian is tested with, as [`VERSION`].
    pub const NEWEST: Self = Self::new(1, 40);
    /// The oldest.
    pub const OLDEST: Self = Self::new(1, 36);
}

impl Release {
    /// The release of this very version.
    ///
    /// # Errors
    /// If there is none: lists those that there are.
    pub fn of(version: &str) -> anyhow::Result<Self> {
        RELEASES
            .into_iter()
            .find(|release| release.version == version)
            .with_context(|| {
                let versions = RELEASES.map(|release| release.version).join(", ");
                format!(
                    "`{version}` is no version of Envoy that can be downloaded; there are {versions}"
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_releases_go_from_the_newest_to_the_oldest() {
        let versions = RELEASES.map(|release| release.version.parse::<Version>().unwrap());
        assert!(versions.is_sorted_by(|newer, older| newer > older));
        assert!(versions[0].is_same_minor(Version::NEWEST));
        assert!(versions[versions.len() - 1].is_same_minor(Version::OLDEST));
    }

    #[test]
    fn a_version_that_cannot_be_downloaded_is_answered_with_those_that_can() {
        assert_eq!(Release::of("1.38.2").unwrap(), RELEASES[2]);
        let error = Release::of("1.38").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`1.38` is no version of Envoy that can be downloaded; there are 1.40.0, 1.39.3, \
             1.38.2, 1.37.0, 1.36.4"
        );
    }
}
