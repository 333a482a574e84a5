//! What everybody in the mesh sees of the file system.

use std::fs;
use std::path::Path;

use anyhow::Context;

use super::control_plane::ISTIOD;
use super::roles::{NODE, REGISTRY};
use super::tools::Tools;
use crate::lab::namespaces::{Mount, Mounts};

/// Where agents see what they need: its own place may be in a folder that only root can enter.
const INSIDE: &str = "/var/lib/meridian";
/// The run folder, as every pod and the node see it.
pub const RUN: &str = "/var/lib/meridian/run";
/// The programs that were built.
pub(super) const PROGRAMS: &str = "/var/lib/meridian/programs";
/// The folder of Istio's module.
pub(super) const ISTIO: &str = "/var/lib/meridian/istio";
/// The Envoy of every pod.
pub(super) const ENVOY: &str = "/var/lib/meridian/envoy";

/// Names for istiod and the registry, a place where agents keep modules, and what agents need where
/// they can reach it.
pub(super) fn create(folder: &Path, tools: &Tools, envoy: &Path) -> anyhow::Result<Mounts> {
    let hosts = folder.join("hosts");
    let registry = REGISTRY.split(':').next().unwrap_or(REGISTRY);
    fs::write(
        &hosts,
        format!("127.0.0.1 localhost\n{NODE} {ISTIOD} {registry}\n"),
    )
    .with_context(|| format!("cannot write {}", hosts.display()))?;
    let bind = |source: &Path, target: &str| Mount::Bind {
        source: source.to_path_buf(),
        target: target.into(),
    };
    Mounts::create(&[
        Mount::Bind {
            source: hosts,
            target: "/etc/hosts".into(),
        },
        // Agents keep modules in /var/lib/istio, which need not be there.
        Mount::Empty("/var/lib".into()),
        Mount::Folder("/var/lib/istio/data".into()),
        Mount::Folder(INSIDE.into()),
        bind(folder, RUN),
        bind(&tools.programs, PROGRAMS),
        bind(&tools.istio, ISTIO),
        bind(&std::path::absolute(envoy)?, ENVOY),
    ])
}
