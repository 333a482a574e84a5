//! Where the modules come from, as a checkout knows it, or as a program that carries them was told.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::annotations::Annotations;
use super::sbom::{Crates, rust_version, tree};
use crate::lab::{carried, paths};

/// The modules, which are the crates `meridian-NAME`.
const MODULES: [&str; 3] = ["ingress", "egress", "sidecar"];

/// The commit of the modules, and what each of them was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// What is said of every module.
    pub annotations: Annotations,
    /// The version of Rust.
    rust: String,
    /// By module, what Cargo says of its crate.
    trees: BTreeMap<String, String>,
}

impl Origin {
    /// The name of the file that a program carries it in.
    pub const FILE: &'static str = "origin.json";

    /// What this program was told, else what git and Cargo know of the checkout, for modules that are
    /// compiled for `target`.
    ///
    /// # Errors
    /// If there is no checkout, or Cargo or the compiler cannot be asked.
    pub fn find(target: &str) -> anyhow::Result<Self> {
        if let Some(files) = carried::files()? {
            let told = carried::find(files, Self::FILE)?;
            return serde_json::from_slice(told)
                .with_context(|| format!("{} cannot be read", Self::FILE));
        }
        Self::of_checkout(&paths::workspace_root()?, target)
    }

    fn of_checkout(root: &Path, target: &str) -> anyhow::Result<Self> {
        let trees = MODULES.map(|module| {
            let tree = tree(root, &format!("meridian-{module}"), target)?;
            // Where the checkout is, is nobody's business.
            let tree = tree.replace(&root.display().to_string(), "/meridian");
            anyhow::Ok((module.to_owned(), tree))
        });
        Ok(Self {
            annotations: Annotations::of_checkout(root),
            rust: rust_version(root)?,
            trees: trees.into_iter().collect::<anyhow::Result<_>>()?,
        })
    }

    /// The crates of a module.
    ///
    /// # Errors
    /// If nothing is known of it.
    pub fn crates(&self, module: &str) -> anyhow::Result<Crates> {
        let tree = self.trees.get(module);
        let tree = tree.with_context(|| format!("nothing says what {module} is made of"))?;
        Crates::from_tree(tree, &self.rust)
            .with_context(|| format!("what cargo says of {module} cannot be read"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_checkout_knows_can_be_told_and_names_no_place() {
        let root = paths::workspace_root().unwrap();
        let origin = Origin::of_checkout(&root, "wasm32-unknown-unknown").unwrap();
        let told = serde_json::to_string(&origin).unwrap();
        assert!(!told.contains(&root.display().to_string()), "{told}");
        assert_eq!(serde_json::from_str::<Origin>(&told).unwrap(), origin);
        for module in MODULES {
            let crates = origin.crates(module).unwrap();
            let asked = Crates::of_package(
                &root,
                &format!("meridian-{module}"),
                "wasm32-unknown-unknown",
            );
            assert_eq!(crates, asked.unwrap());
        }
        assert!(origin.crates("yardstick").is_err());
    }
}
