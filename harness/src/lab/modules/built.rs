//! The finished modules and where they are.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::lab::paths;

/// The three modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Modules {
    /// The path of the ingress gateway's module.
    pub ingress: PathBuf,
    /// The path of the egress gateway's module.
    pub egress: PathBuf,
    /// The path of the sidecars' module.
    pub sidecar: PathBuf,
    /// Each of them in detail, in this order.
    pub built: [Module; 3],
    /// The same for policies that measure nothing when a request ends: `meridian_NAME_lean.wasm`.
    pub lean: [Module; 3],
}

/// One built module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// `ingress`, `egress` or `sidecar`.
    pub name: &'static str,
    /// True if it lacks the callback at the end of a request.
    pub is_lean: bool,
    /// Where it is.
    pub path: PathBuf,
    /// Its size as Cargo left it, in bytes.
    pub compiled_bytes: u64,
    /// Its size, in bytes.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal, as Istio's `sha256` wants it.
    pub sha256: String,
}

impl Modules {
    pub(super) fn of(built: [Module; 3], lean: [Module; 3]) -> Self {
        let [ingress, egress, sidecar] = built.each_ref().map(|module| module.path.clone());
        Self {
            ingress,
            egress,
            sidecar,
            built,
            lean,
        }
    }

    /// All six, the lean ones last.
    pub fn all(&self) -> impl Iterator<Item = &Module> {
        self.built.iter().chain(&self.lean)
    }

    /// The same modules, copied to `folder`.
    pub(super) fn copied_to(&self, folder: &Path) -> anyhow::Result<Self> {
        let copy = |module: &Module| {
            let path = folder.join(module.path.file_name().context("a module has no name")?);
            let contents = fs::read(&module.path)
                .with_context(|| format!("cannot read {}", module.path.display()))?;
            paths::write_atomically(&path, &contents)?;
            anyhow::Ok(Module {
                path,
                ..module.clone()
            })
        };
        let all = |modules: &[Module; 3]| {
            let [ingress, egress, sidecar] = modules.each_ref().map(copy);
            anyhow::Ok([ingress?, egress?, sidecar?])
        };
        Ok(Self::of(all(&self.built)?, all(&self.lean)?))
    }
}
