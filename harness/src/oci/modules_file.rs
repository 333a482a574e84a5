//! The list of packed modules, `pack --json`, from which manifests are rendered.

use serde::{Deserialize, Serialize};

/// The document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModulesFile {
    /// The revision of the policy inside, twelve hexadecimal digits; `None` without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Each module.
    pub modules: Vec<PackedModule>,
}

/// One module's image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedModule {
    /// `ingress`, `egress` or `sidecar`.
    pub name: String,
    /// The vantage points that it serves.
    pub vantages: Vec<String>,
    /// True if it measures nothing when a request ends.
    pub lean: bool,
    /// The gateway whose slice of the policy is inside.
    pub gateway: Option<String>,
    /// `REGISTRY/REPO/NAME:TAG` where it was pushed.
    pub reference: Option<String>,
    /// The digest of the image's manifest, `sha256:…`.
    pub digest: String,
    /// The SHA-256 of the module itself, in hexadecimal digits.
    pub sha256: String,
    /// The size of the module itself.
    pub bytes: u64,
}
