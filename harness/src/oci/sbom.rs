//! What a module was made of, as CycloneDX in JSON.
//!
//! CycloneDX and not SPDX, which wants a time and a namespace of its own in each document: packing twice
//! would give two. Scanners read both.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::text::sha256::sha256;

/// The type of the document, in registries.
pub(super) const MEDIA_TYPE: &str = "application/vnd.cyclonedx+json";

/// One crate: its name and version.
type Key = (String, String);

/// The crates that are compiled into a module, and Rust's own library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crates {
    /// The crate of the module itself.
    root: Key,
    crates: BTreeMap<Key, Crate>,
    /// The version of Rust.
    rust: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Crate {
    licence: String,
    /// True where it comes from the workspace, and not from crates.io.
    is_local: bool,
    uses: BTreeSet<Key>,
}

impl Crates {
    /// Asks Cargo for what it links into `package` of the workspace at `root` for `target`.
    ///
    /// # Errors
    /// If Cargo or the compiler cannot be asked, or answers something else.
    pub fn of_package(root: &Path, package: &str, target: &str) -> anyhow::Result<Self> {
        Self::from_tree(&tree(root, package, target)?, &rust_version(root)?)
            .with_context(|| format!("what cargo says of {package} cannot be read"))
    }

    /// Reads lines of `DEPTH|NAME vVERSION (SOURCE)|LICENCE`, each below what uses it.
    pub(super) fn from_tree(tree: &str, rust: &str) -> anyhow::Result<Self> {
        let mut crates = BTreeMap::<Key, Crate>::new();
        let mut above: Vec<Key> = Vec::new();
        for line in tree.lines() {
            let fields: Vec<&str> = line.split('|').collect();
            let &[depth, package, licence] = fields.as_slice() else {
                bail!("{line:?} has not three fields");
            };
            let depth: usize = depth.parse().with_context(|| format!("in {line:?}"))?;
            let mut words = package.split(' ');
            let (Some(name), Some(version)) = (words.next(), words.next()) else {
                bail!("{line:?} has no version");
            };
            let version = version.trim_start_matches('v');
            let key = (name.to_owned(), version.to_owned());
            above.truncate(depth);
            if let Some(user) = above.last() {
                let user = crates.entry(user.clone()).or_default();
                user.uses.insert(key.clone());
            }
            let read = crates.entry(key.clone()).or_default();
            // Behind a crate whose own are listed before.
            read.licence = licence.trim_end_matches(" (*)").replace('/', " OR ");
            read.is_local = package.contains(" (/");
            above.push(key);
        }
        let root = above.into_iter().next().context("it is empty")?;
        Ok(Self {
            root,
            crates,
            rust: rust.to_owned(),
        })
    }

    /// The names of all crates.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.crates.keys().map(|(name, _)| name.as_str())
    }

    /// The document for a module in a file of this name.
    pub(super) fn sbom(&self, file: &str, wasm: &[u8]) -> Value {
        let std = format!("pkg:generic/rust-std@{}", self.rust);
        let libraries = self.crates.iter().filter(|(key, _)| **key != self.root);
        let mut components: Vec<Value> = libraries
            .map(|(key, library)| {
                let reference = self.reference(key);
                let mut component = json!({
                    "type": "library",
                    "bom-ref": reference,
                    "name": key.0,
                    "version": key.1,
                });
                if !library.licence.is_empty() {
                    component["licenses"] = json!([{"expression": library.licence}]);
                }
                if !library.is_local {
                    component["purl"] = reference.into();
                }
                component
            })
            .collect();
        components.push(json!({
            "type": "library",
            "bom-ref": std,
            "name": "rust-std",
            "version": self.rust,
            "purl": std,
            "licenses": [{"expression": "MIT OR Apache-2.0"}],
        }));
        let dependencies = self.crates.iter().map(|(key, library)| {
            let uses = library.uses.iter().map(|key| self.reference(key));
            let uses: Vec<String> = uses.chain([std.clone()]).collect();
            json!({"ref": self.reference(key), "dependsOn": uses})
        });
        json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "version": 1,
            "metadata": {
                "component": {
                    "type": "application",
                    "bom-ref": self.reference(&self.root),
                    "name": file,
                    "version": self.root.1,
                    "licenses": [{"expression": env!("CARGO_PKG_LICENSE")}],
                    "hashes": [{"alg": "SHA-256", "content": sha256(wasm)}],
                },
                "tools": {"components": [{
                    "type": "application",
                    "name": "meridian",
                    "version": env!("CARGO_PKG_VERSION"),
                }]},
            },
            "components": components,
            "dependencies": dependencies.collect::<Vec<_>>(),
        })
    }

    /// How the document refers to a crate: by its package URL, where it has one.
    fn reference(&self, key: &Key) -> String {
        let (name, version) = key;
        let is_local = self.crates.get(key).is_some_and(|library| library.is_local);
        let scheme = if is_local { "" } else { "pkg:cargo/" };
        format!("{scheme}{name}@{version}")
    }
}

/// What Cargo links into `package` of the workspace at `root`, in its own words.
pub(super) fn tree(root: &Path, package: &str, target: &str) -> anyhow::Result<String> {
    // `cargo metadata` would unite the features of the whole workspace, and name crates that are
    // the command line's alone.
    let tree = Command::new(program("CARGO", "cargo"))
        .current_dir(root)
        .args(["tree", "--locked", "--package", package, "--target", target])
        .args(["--edges", "normal,no-proc-macro", "--prefix", "depth"])
        .args(["--charset", "ascii", "--format", "|{p}|{l}"])
        .output()
        .context("cannot start cargo, which knows what a module is made of")?;
    if !tree.status.success() {
        bail!(
            "cargo does not say what {package} is made of: {}",
            String::from_utf8_lossy(&tree.stderr).trim()
        );
    }
    Ok(String::from_utf8(tree.stdout)?)
}

/// The version of the compiler that the workspace at `root` is compiled with.
pub(super) fn rust_version(root: &Path) -> anyhow::Result<String> {
    let version = Command::new(program("RUSTC", "rustc"))
        .current_dir(root)
        .args(["--version", "--verbose"])
        .output()
        .context("cannot start rustc, to ask for its version")?;
    let version = String::from_utf8(version.stdout)?;
    let rust = version
        .lines()
        .find_map(|line| line.strip_prefix("release: "));
    Ok(rust.context("rustc does not say its version")?.to_owned())
}

/// What the variable says, as Cargo sets it for what it runs, else the one on the PATH.
fn program(variable: &str, name: &str) -> OsString {
    std::env::var_os(variable).unwrap_or_else(|| name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "\
0|a v0.1.0 (/somewhere/a)|Apache-2.0
1|b v1.2.3|MIT/Apache-2.0
2|c v2.0.0|
1|d v0.1.0 (/somewhere/d)|Apache-2.0
2|b v1.2.3|MIT/Apache-2.0 (*)
";

    #[test]
    fn every_crate_is_listed_once_with_what_it_uses() {
        let crates = Crates::from_tree(TREE, "1.90.0").unwrap();
        let sbom = crates.sbom("a.wasm", b"abc");
        assert_eq!(sbom["metadata"]["component"]["bom-ref"], "a@0.1.0");
        let hash = &sbom["metadata"]["component"]["hashes"][0]["content"];
        assert_eq!(hash, &sha256(b"abc"));
        assert_eq!(
            sbom["components"][0],
            json!({"type": "library", "bom-ref": "pkg:cargo/b@1.2.3", "name": "b", "version": "1.2.3",
                "purl": "pkg:cargo/b@1.2.3", "licenses": [{"expression": "MIT OR Apache-2.0"}]})
        );
        assert_eq!(sbom["components"][1]["licenses"], Value::Null);
        assert_eq!(sbom["components"][2]["purl"], Value::Null);
        assert_eq!(sbom["components"].as_array().unwrap().len(), 4);
        let std = "pkg:generic/rust-std@1.90.0";
        assert_eq!(
            sbom["dependencies"],
            json!([
                {"ref": "a@0.1.0", "dependsOn": ["pkg:cargo/b@1.2.3", "d@0.1.0", std]},
                {"ref": "pkg:cargo/b@1.2.3", "dependsOn": ["pkg:cargo/c@2.0.0", std]},
                {"ref": "pkg:cargo/c@2.0.0", "dependsOn": [std]},
                {"ref": "d@0.1.0", "dependsOn": ["pkg:cargo/b@1.2.3", std]},
            ])
        );
        assert!(!sbom.to_string().contains("/somewhere"));
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        for tree in ["", "0|a", "x|a v1|MIT", "0|a|MIT"] {
            assert!(Crates::from_tree(tree, "1.90.0").is_err(), "{tree:?}");
        }
    }
}
