//! Where the proxies get the modules.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use meridian_policy::Vantage;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::lab::config::wasm::{module, module_name};

/// How long an agent may take to fetch a module.
const TIMEOUT: &str = "30s";

/// Where the modules are.
#[derive(Debug)]
pub(super) enum Modules {
    /// In a registry, by digest.
    Packed {
        /// The list's file, for errors.
        file: PathBuf,
        list: ModuleList,
    },
    /// In a registry, by this version's tags: `REGISTRY/REPO`.
    Tagged(String),
    /// At a web server.
    Https {
        folder: String,
        digests: PathBuf,
        list: ModuleList,
    },
    /// In the proxies' file systems.
    Mounted(PathBuf),
}

/// What `pack --json` writes; `build --json` writes the list alone.
#[derive(Debug, Deserialize)]
pub(super) struct ModuleList {
    /// The revision of the policy inside.
    #[serde(default)]
    policy: Option<String>,
    modules: Vec<ListedModule>,
}

#[derive(Debug, Deserialize)]
struct ListedModule {
    name: String,
    lean: bool,
    #[serde(default)]
    gateway: Option<String>,
    #[serde(default)]
    reference: Option<String>,
    #[serde(default)]
    digest: Option<String>,
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
                let list = ModuleList::read(&file)?;
                Ok(Self::Packed { file, list })
            }
            Some(("oci", prefix)) if !prefix.is_empty() => Ok(Self::Tagged(prefix.to_owned())),
            Some(("file", folder)) if folder.starts_with('/') => Ok(Self::Mounted(folder.into())),
            Some(("https", host)) if !host.is_empty() => {
                let digests = digests.context(
                    "--modules https://…: write --digests FILE too, what `meridian build --json` wrote, \
                     or nothing would tell that a module was changed on its way",
                )?;
                Ok(Self::Https {
                    folder: place.to_owned(),
                    digests: digests.to_owned(),
                    list: ModuleList::read(digests)?,
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
        let file = module(vantage, is_lean);
        match self {
            Self::Mounted(folder) => Ok(Source::Mounted(folder.join(file))),
            Self::Tagged(prefix) => {
                let lean = if is_lean { "-lean" } else { "" };
                let (name, version) = (module_name(vantage), env!("CARGO_PKG_VERSION"));
                Ok(Source::Remote {
                    url: format!("oci://{prefix}/{name}:{version}{lean}"),
                    sha256: None,
                })
            }
            Self::Https {
                folder,
                digests,
                list,
            } => {
                let listed = list.find(digests, vantage, is_lean, None)?;
                Ok(Source::Remote {
                    url: format!("{folder}/{}", module(vantage, listed.lean)),
                    sha256: Some(listed.sha256.clone()),
                })
            }
            Self::Packed { file, list } => {
                // Without a policy inside one module serves every gateway.
                let gateway = gateway.filter(|_| list.policy.is_some());
                let listed = list.find(file, vantage, is_lean, gateway)?;
                let (Some(reference), Some(digest)) = (&listed.reference, &listed.digest) else {
                    bail!(
                        "{}: the modules are in no registry; write what `meridian pack --push \
                         REGISTRY/REPO --json` prints",
                        file.display()
                    );
                };
                Ok(Source::Remote {
                    url: format!("oci://{}@{digest}", without_tag(reference)),
                    sha256: None,
                })
            }
        }
    }
}

impl ModuleList {
    fn read(file: &Path) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Packed(ModuleList),
            Built(Vec<ListedModule>),
        }
        let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let written = serde_json::from_slice(&text).with_context(|| {
            format!(
                "{} is not what `meridian pack --json` or `build --json` writes",
                file.display()
            )
        })?;
        Ok(match written {
            Written::Packed(list) => list,
            Written::Built(modules) => Self {
                policy: None,
                modules,
            },
        })
    }

    /// The lean module where it will do and is there, else the full one, which does more.
    fn find(
        &self,
        file: &Path,
        vantage: Vantage,
        is_lean: bool,
        gateway: Option<&str>,
    ) -> anyhow::Result<&ListedModule> {
        let name = module_name(vantage);
        let of_kind = |lean: bool| {
            self.modules.iter().find(|module| {
                module.name == name && module.lean == lean && module.gateway.as_deref() == gateway
            })
        };
        let found = if is_lean { of_kind(true) } else { None };
        found.or_else(|| of_kind(false)).with_context(|| {
            let gateway =
                gateway.map_or_else(String::new, |name| format!(" for the gateway {name}"));
            format!("{} has no module `{name}`{gateway}", file.display())
        })
    }
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
