//! What the files of a project have in common: its images, and where its containers see what is mounted.

use serde_json::Value;

/// Where the project's containers see what is mounted: the modules, the filters, the policy.
pub(super) const MODULES: &str = "/modules";
pub(super) const FILTERS: &str = "/filters";
pub(super) const POLICY: &str = "/policy/policy.yaml";
/// Where a part sees its certificates.
pub(super) const CERTIFICATES: &str = "/etc/certs";

/// The images of a project, each as a name with tag or digest.
#[derive(Debug, Clone)]
pub(super) struct Images {
    pub(super) envoy: String,
    pub(super) prometheus: String,
    pub(super) grafana: String,
    pub(super) nginx: String,
    pub(super) meridian: String,
}

/// A file: its header, and a value in YAML.
pub(super) fn yaml(header: &str, value: &Value) -> anyhow::Result<String> {
    Ok(format!("{header}{}", yaml_serde::to_string(value)?))
}
