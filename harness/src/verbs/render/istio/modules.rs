//! Where the proxies get the modules.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use meridian_policy::Vantage;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::lab::config::wasm::{module, module_name};
use crate::oci::Destination;
use crate::oci::ModulesFile;

/// How long an agent may take to fetch a module.
const TIMEOUT: &str = "30s";

/// Where the modules are.
#[derive(Debug)]
pub(super) enum Modules {
    /// In a registry, by digest.
    Packed {
        /// The list's file, for errors.
        file: PathBuf,
        list: ModulesFile,
    },
    /// In a registry, by this version's tags: `REGISTRY/REPO`.
    Tagged(String),
    /// At a web server.
    Https {
        folder: String,
        /// The list's file, for errors.
        file: PathBuf,
        list: Vec<Digest>,
    },
    /// In the proxies' file systems.
    Mounted(PathBuf),
}

/// What `build --json` and `pack --json` both write of a module.
#[derive(Debug, Deserialize)]
pub(super) struct Digest {
    name: String,
    lean: bool,
    sha256: String,
}

/// A module as manifests name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// `oci://…` or `https://…`; the SHA-256 where the URL does not say it.
    Remote { url: String, sha256: Option<String> },
    /// A file of the proxy's.
    Mounted(PathBuf),
}

impl Modules {
    /// Reads `--modules WHERE` and `--digests FILE`.
    ///
    /// # Errors
    /// If it is none of the forms, or a file cannot be read.
    pub(super) fn read(place: &str, digests: Option<&Path>) -> anyhow::Result<Self> {
        if digests.is_some() && !place.starts_with("https://") {
            bail!("--digests: only modules behind https:// need it; leave it out");
        }
        let place = place.trim_end_matches('/');
        match place.split_once("://") {
            None => {
                let file = PathBuf::from(place);
                let list = read_json(&file, "`meridian pack --json`")?;
                Ok(Self::Packed { file, list })
            }
            Some(("oci", prefix)) if !prefix.is_empty() => {
                let checked: Result<Destination, _> = prefix.parse();
                checked.with_context(|| format!("--modules {place}"))?;
                Ok(Self::Tagged(prefix.to_owned()))
            }
            Some(("file", folder)) if folder.starts_with('/') => Ok(Self::Mounted(folder.into())),
            Some(("https", host)) if !host.is_empty() => {
                let digests = digests.context(
                    "--modules https://…: write --digests FILE too, what `meridian build --json` wrote, \
                     or nothing would tell that a module was changed on its way",
                )?;
                Ok(Self::Https {
                    folder: place.to_owned(),
                    file: digests.to_owned(),
                    list: Digest::read_all(digests)?,
                })
            }
            Some(_) => bail!(
                "--modules {place}: write a file of `meridian pack --json`, oci://REGISTRY/REPO, \
                 https://HOST/DIR or file:///DIR"
            ),
        }
    }

    /// The revision of the policy that is inside the modules.
    pub(super) fn policy(&self) -> Option<&str> {
        match self {
            Self::Packed { list, .. } => list.policy.as_deref(),
            Self::Tagged(_) | Self::Https { .. } | Self::Mounted(_) => None,
        }
    }

    /// What can go wrong with them that no manifest shows.
    pub(super) fn warning(&self) -> Option<&'static str> {
        match self {
            Self::Tagged(_) => Some(
                "tags can move: a proxy that starts later may get another module; name images by digest \
                 with what `meridian pack --json` wrote",
            ),
            Self::Packed { .. } | Self::Https { .. } | Self::Mounted(_) => None,
        }
    }

    /// The folder of modules that are in the proxies' file systems.
    pub(super) fn mounted(&self) -> Option<&Path> {
        match self {
            Self::Mounted(folder) => Some(folder),
            Self::Packed { .. } | Self::Tagged(_) | Self::Https { .. } => None,
        }
    }

    /// The module of a filter at `vantage`, the lean one if that will do.
    ///
    /// # Errors
    /// If the list has none.
    pub(super) fn source(
        &self,
        vantage: Vantage,
        is_lean: bool,
        gateway: Option<&str>,
    ) -> anyhow::Result<Source> {
        let name = module_name(vantage);
        match self {
            Self::Mounted(folder) => Ok(Source::Mounted(folder.join(module(vantage, is_lean)))),
            Self::Tagged(prefix) => {
                let lean = if is_lean { "-lean" } else { "" };
                let version = env!("CARGO_PKG_VERSION");
                Ok(Source::Remote {
                    url: format!("oci://{prefix}/{name}:{version}{lean}"),
                    sha256: None,
                })
            }
            Self::Https { folder, file, list } => {
                let of_kind = |lean| {
                    let mut modules = list.iter();
                    modules.find(|module| module.name == name && module.lean == lean)
                };
                let found = lean_or_full(is_lean, of_kind);
                let module = found.with_context(|| missing(file, name, None))?;
                Ok(Source::Remote {
                    url: format!("{folder}/{}", self::module(vantage, module.lean)),
                    sha256: Some(module.sha256.clone()),
                })
            }
            Self::Packed { file, list } => {
                // Without a policy inside one module serves every gateway.
                let gateway = gateway.filter(|_| list.policy.is_some());
                let of_kind = |lean| {
                    list.modules.iter().find(|module| {
                        (module.name.as_str(), module.lean) == (name, lean)
                            && module.gateway.as_deref() == gateway
                    })
                };
                let found = lean_or_full(is_lean, of_kind);
                let module = found.with_context(|| missing(file, name, gateway))?;
                let Some(reference) = &module.reference else {
                    bail!(
                        "{}: the modules are in no registry; write what `meridian pack --push \
                         REGISTRY/REPO --json` prints",
                        file.display()
                    );
                };
                Ok(Source::Remote {
                    url: format!("oci://{}@{}", without_tag(reference), module.digest),
                    sha256: None,
                })
            }
        }
    }
}

impl Digest {
    /// Reads what `build --json` wrote, or `pack --json`.
    fn read_all(file: &Path) -> anyhow::Result<Vec<Self>> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Built(Vec<Digest>),
            Packed { modules: Vec<Digest> },
        }
        let written = read_json(file, "`meridian build --json` or `pack --json`")?;
        let (Written::Built(modules) | Written::Packed { modules }) = written;
        Ok(modules)
    }
}

fn read_json<T: DeserializeOwned>(file: &Path, writer: &str) -> anyhow::Result<T> {
    let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_slice(&text)
        .with_context(|| format!("{} is not what {writer} writes", file.display()))
}

/// The lean module where it will do and is there, else the full one, which does more.
fn lean_or_full<'m, T>(is_lean: bool, of_kind: impl Fn(bool) -> Option<&'m T>) -> Option<&'m T> {
    let lean = if is_lean { of_kind(true) } else { None };
    lean.or_else(|| of_kind(false))
}

fn missing(file: &Path, name: &str, gateway: Option<&str>) -> String {
    let gateway = gateway.map_or_else(String::new, |name| format!(" for the gateway {name}"));
    format!("{} has no module `{name}`{gateway}", file.display())
}

impl Source {
    /// Envoy's `AsyncDataSource`, as Istio's agent reads it: it fetches what is remote itself, and no
    /// cluster of that name is needed.
    pub(super) fn envoy_code(&self) -> Value {
        match self {
            Self::Mounted(path) => json!({"local": {"filename": path}}),
            Self::Remote { url, sha256 } => {
                let http_uri = json!({"uri": url, "timeout": TIMEOUT, "cluster": "none"});
                let mut remote = json!({"http_uri": http_uri});
                if let Some(sha256) = sha256 {
                    remote["sha256"] = json!(sha256);
                }
                json!({"remote": remote})
            }
        }
    }

    /// The URL of Istio's plugins, and the SHA-256 where the URL does not say it.
    pub(super) fn plugin_url(&self) -> (String, Option<&str>) {
        match self {
            Self::Mounted(path) => (format!("file://{}", path.display()), None),
            Self::Remote { url, sha256 } => (url.clone(), sha256.as_deref()),
        }
    }
}

/// `REGISTRY/REPO/NAME` of `REGISTRY/REPO/NAME:TAG`; a registry may have a port.
fn without_tag(reference: &str) -> &str {
    match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => reference,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(json: &Value) -> (tempfile::TempDir, Modules) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("modules.json");
        fs::write(&file, json.to_string()).unwrap();
        let modules = Modules::read(file.to_str().unwrap(), None).unwrap();
        (folder, modules)
    }

    fn image(name: &str, lean: bool, gateway: Option<&str>, digest: &str) -> Value {
        json!({
            "name": name, "vantages": [], "lean": lean, "gateway": gateway, "digest": digest,
            "reference": format!("registry.example:5000/mesh/{name}:0.1.0"), "sha256": "ab", "bytes": 1,
        })
    }

    fn url(source: anyhow::Result<Source>) -> String {
        source.unwrap().plugin_url().0
    }

    #[test]
    fn an_image_is_named_by_its_digest() {
        let (_folder, modules) = packed(&json!({"modules": [
            image("ingress", false, None, "sha256:11"),
            image("ingress", true, None, "sha256:22"),
            image("sidecar", false, None, "sha256:33"),
        ]}));
        let at = |vantage, is_lean| url(modules.source(vantage, is_lean, Some("public")));
        let image = "oci://registry.example:5000/mesh";
        assert_eq!(
            at(Vantage::Ingress, false),
            format!("{image}/ingress@sha256:11")
        );
        assert_eq!(
            at(Vantage::Ingress, true),
            format!("{image}/ingress@sha256:22")
        );
        assert_eq!(
            at(Vantage::Inbound, true),
            format!("{image}/sidecar@sha256:33")
        );
        let missing = modules.source(Vantage::Egress, false, None).unwrap_err();
        assert!(
            missing.to_string().ends_with("has no module `egress`"),
            "{missing}"
        );
    }

    #[test]
    fn a_module_with_a_policy_inside_is_its_gateway_s_alone() {
        let (_folder, modules) = packed(&json!({"policy": "0123456789ab", "modules": [
            image("ingress", false, Some("public"), "sha256:11"),
            image("ingress", false, None, "sha256:22"),
        ]}));
        assert_eq!(modules.policy(), Some("0123456789ab"));
        let at = |gateway| modules.source(Vantage::Ingress, false, gateway);
        assert!(url(at(Some("public"))).ends_with("sha256:11"));
        assert!(url(at(None)).ends_with("sha256:22"));
        assert!(at(Some("internal")).is_err());
    }

    #[test]
    fn every_other_place_has_its_own_form() {
        let at = |place: &str| {
            url(Modules::read(place, None)
                .unwrap()
                .source(Vantage::Egress, true, None))
        };
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            at("oci://r.example/m/"),
            format!("oci://r.example/m/egress:{version}-lean")
        );
        assert_eq!(
            at("file:///etc/m"),
            "file:///etc/m/meridian_egress_lean.wasm"
        );

        let folder = tempfile::tempdir().unwrap();
        let digests = folder.path().join("build.json");
        fs::write(
            &digests,
            r#"[{"name": "egress", "lean": false, "sha256": "ab", "path": "/x"}]"#,
        )
        .unwrap();
        let modules = Modules::read("https://m.example/v1", Some(&digests)).unwrap();
        let expected = Source::Remote {
            url: "https://m.example/v1/meridian_egress.wasm".to_owned(),
            sha256: Some("ab".to_owned()),
        };
        assert_eq!(
            modules.source(Vantage::Egress, true, None).unwrap(),
            expected
        );

        for (place, digests, says) in [
            ("https://m.example", None, "write --digests FILE"),
            ("oci://r.example/m", Some(&*digests), "leave it out"),
            ("http://m.example", None, "write a file of"),
            ("file://etc", None, "write a file of"),
            ("/nowhere/modules.json", None, "cannot read"),
        ] {
            let error = Modules::read(place, digests).unwrap_err();
            assert!(error.to_string().contains(says), "{place}: {error}");
        }
    }
}
