//! The policy filters as Envoy's wasm filters, for HTTP and for connections.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use meridian_policy::{Subject, Tags, Vantage};
use serde_json::{Value, json};

use super::type_url::type_url;
use crate::lab::modules::LEAN;
use crate::policy::PolicyFile;

/// The name of the filter in every filter chain, and of the plugin in its statistics.
pub const FILTER_NAME: &str = "meridian";

/// The name of the module that serves `vantage`.
pub fn module_name(vantage: Vantage) -> &'static str {
    match vantage {
        Vantage::Ingress => "ingress",
        Vantage::Egress => "egress",
        Vantage::Inbound | Vantage::Outbound => "sidecar",
    }
}

/// The file name of the module that serves `vantage`; for a policy that measures nothing when a request
/// ends the lean one, which Envoy does not call then.
pub fn module(vantage: Vantage, is_lean: bool) -> String {
    let lean = if is_lean { LEAN } else { "" };
    format!("meridian_{}{lean}.wasm", module_name(vantage))
}

/// The modules, and the policy in a slice for each filter.
#[derive(Debug, Clone)]
pub struct Filters {
    modules: PathBuf,
    documents: Documents,
    tags: Tags,
    measures_ends: bool,
    /// The folder of the files that Envoy reads the filters from, or `None` if its configuration has
    /// them.
    discovered: Option<PathBuf>,
}

/// Every filter: the vantages, and what it decides on.
const ALL: [(Vantage, Subject); 6] = [
    (Vantage::Ingress, Subject::Request),
    (Vantage::Ingress, Subject::Connection),
    (Vantage::Egress, Subject::Request),
    (Vantage::Egress, Subject::Connection),
    (Vantage::Inbound, Subject::Request),
    (Vantage::Outbound, Subject::Request),
];

/// The documents that the filters get.
#[derive(Debug, Clone)]
enum Documents {
    /// Of a policy, what each filter reads of it.
    Slices(Arc<[(Vantage, Subject, String)]>),
    /// The same text for all.
    Unchecked(Arc<str>),
}

impl Filters {
    /// The modules in a folder as Envoy sees it, with a policy: that of its first gateways by name, see
    /// [`PolicyFile::slice`].
    pub fn new(modules: PathBuf, policy: &PolicyFile) -> Self {
        Self::with_slices(modules, policy, |slice| slice)
    }

    /// As [`Self::new`], with the policy on indented lines, for people to read.
    pub fn indented(modules: PathBuf, policy: &PolicyFile) -> Self {
        let indent = |slice: String| match serde_json::from_str::<Value>(&slice) {
            Ok(slice) => format!("{slice:#}"),
            Err(_) => slice,
        };
        Self::with_slices(modules, policy, indent)
    }

    /// As [`Self::new`], with a document that is no policy, for Envoy to refuse. It names no headers
    /// and measures nothing, so these are the ones of an empty policy.
    pub fn unchecked(modules: PathBuf, document: String) -> Self {
        Self {
            modules,
            documents: Documents::Unchecked(document.into()),
            tags: Tags::default(),
            measures_ends: false,
            discovered: None,
        }
    }

    /// The same filters, which Envoy reads from the files of [`Self::resources`] in `folder`, as it sees
    /// that, and reads again when one is replaced there by another.
    pub fn discovered(self, folder: PathBuf) -> Self {
        Self {
            discovered: Some(folder),
            ..self
        }
    }

    /// The files that Envoys discover the filters from, with their names: `ROOT_ID.json` each, in JSON an
    /// xDS `DiscoveryResponse` with the filter.
    ///
    /// `update` counts the policies that the Envoys have got before. While a stream or connection of an
    /// earlier one lasts, Envoy still has its plugins, and would take one of them for a new one that has
    /// the same configuration, without telling it: the gauge of the revision would stay that of the policy
    /// between them. So no two in a row of 256 are alike: white space behind the policy differs.
    pub fn resources(&self, update: u8) -> Vec<(String, String)> {
        let resource = |(vantage, subject): (Vantage, Subject)| {
            let root_id = root_id(vantage, subject);
            let mut filter = self.typed_config(vantage, subject);
            let policy = &mut filter["config"]["configuration"]["value"];
            if let Value::String(policy) = policy {
                policy.extend(std::iter::repeat_n(' ', update.into()));
            }
            let response = json!({"resources": [{
                "@type": type_url("config.core.v3.TypedExtensionConfig"),
                "name": discovered_name(&root_id),
                "typed_config": filter,
            }]});
            (resource_file(&root_id), format!("{response}\n"))
        };
        ALL.into_iter().map(resource).collect()
    }

    fn with_slices(
        modules: PathBuf,
        file: &PolicyFile,
        written: impl Fn(String) -> String,
    ) -> Self {
        let PolicyFile { policy, .. } = file;
        let ingress = policy.first_gateway(Vantage::Ingress);
        let egress = policy.first_gateway(Vantage::Egress);
        let slices = ALL.map(|(vantage, subject)| {
            let gateway = match vantage {
                Vantage::Ingress => ingress,
                Vantage::Egress => egress,
                Vantage::Inbound | Vantage::Outbound => None,
            };
            (
                vantage,
                subject,
                written(file.slice(vantage, subject, gateway)),
            )
        });
        Self {
            modules,
            documents: Documents::Slices(slices.into()),
            tags: policy.tags.clone(),
            measures_ends: policy.metrics.any(),
            discovered: None,
        }
    }

    /// The folder of the modules as Envoy sees it.
    pub fn modules(&self) -> &Path {
        &self.modules
    }

    /// Where the policy's tags go.
    pub fn tags(&self) -> &Tags {
        &self.tags
    }

    /// The bytes of the documents that the filters get, all together.
    pub fn policy_bytes(&self) -> usize {
        match &self.documents {
            Documents::Unchecked(document) => document.len(),
            Documents::Slices(slices) => slices.iter().map(|(_, _, slice)| slice.len()).sum(),
        }
    }

    /// The HTTP filter for `vantage`.
    ///
    /// After a panic Envoy answers 503 and loads the module anew (`FAIL_RELOAD`): a request is
    /// never let through unseen. Each vantage has a VM of its own, because plugins that share a VM
    /// die together.
    pub fn http_filter(&self, vantage: Vantage) -> Value {
        self.filter(vantage, Subject::Request)
    }

    /// The network filter for `vantage`, a gateway's: it decides on connections that pass unread,
    /// before whatever stands behind it knows of them. A module that fails closes them.
    pub fn network_filter(&self, vantage: Vantage) -> Value {
        self.filter(vantage, Subject::Connection)
    }

    fn filter(&self, vantage: Vantage, subject: Subject) -> Value {
        let Some(folder) = &self.discovered else {
            return json!({
                "name": FILTER_NAME,
                "typed_config": self.typed_config(vantage, subject),
            });
        };
        let root_id = root_id(vantage, subject);
        json!({
            "name": discovered_name(&root_id),
            "config_discovery": {
                "config_source": {
                    // The folder is watched, since a file that is mounted alone is never replaced.
                    "path_config_source": {
                        "path": folder.join(resource_file(&root_id)),
                        "watched_directory": {"path": folder},
                    },
                    "resource_api_version": "V3",
                },
                "type_urls": [type_url(message(subject))],
            },
        })
    }

    fn typed_config(&self, vantage: Vantage, subject: Subject) -> Value {
        let root_id = root_id(vantage, subject);
        // Nothing is measured of a connection's end.
        let is_lean = subject == Subject::Connection || !self.measures_ends;
        let code = json!({"local": {"filename": self.modules.join(module(vantage, is_lean))}});
        let plugin = plugin(&root_id, &code, self.document(vantage, subject));
        json!({"@type": type_url(message(subject)), "config": plugin})
    }

    fn document(&self, vantage: Vantage, subject: Subject) -> Option<&str> {
        match &self.documents {
            Documents::Unchecked(document) => Some(document),
            Documents::Slices(slices) => {
                let slice = slices
                    .iter()
                    .find(|(at, of, _)| (*at, *of) == (vantage, subject));
                slice.map(|(_, _, slice)| slice.as_str())
            }
        }
    }
}

/// Envoy's message of a filter.
fn message(subject: Subject) -> &'static str {
    match subject {
        Subject::Request => "extensions.filters.http.wasm.v3.Wasm",
        Subject::Connection => "extensions.filters.network.wasm.v3.Wasm",
    }
}

/// The name of a filter that is discovered, also in Envoy's statistics of the discovery.
fn discovered_name(root_id: &str) -> String {
    format!("{FILTER_NAME}.{root_id}")
}

fn resource_file(root_id: &str) -> String {
    format!("{root_id}.json")
}

/// How a plugin's root id tells its module which filter it is.
pub fn root_id(vantage: Vantage, subject: Subject) -> String {
    match subject {
        Subject::Request => vantage.to_string(),
        Subject::Connection => format!("{vantage}.tcp"),
    }
}

/// Envoy's `PluginConfig` of a filter, with its module's `code`; without a policy, the module holds one.
pub fn plugin(root_id: &str, code: &Value, policy: Option<&str>) -> Value {
    let mut plugin = json!({
        "name": FILTER_NAME,
        "root_id": root_id,
        "failure_policy": "FAIL_RELOAD",
        "vm_config": {
            "vm_id": format!("{FILTER_NAME}.{root_id}"),
            "runtime": "envoy.wasm.runtime.v8",
            "code": code,
        },
    });
    if let Some(policy) = policy {
        plugin["configuration"] = json!({
            "@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": policy,
        });
    }
    plugin
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use meridian_policy::Policy;

    use super::*;

    /// The path of the module and the document of an HTTP filter.
    fn parts(filters: &Filters) -> (String, String) {
        let config = filters.http_filter(Vantage::Ingress)["typed_config"]["config"].take();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (
            text(&config["vm_config"]["code"]["local"]["filename"]),
            text(&config["configuration"]["value"]),
        )
    }

    fn path(is_lean: bool) -> String {
        let path = Path::new("/modules").join(module(Vantage::Ingress, is_lean));
        path.to_str().unwrap().to_owned()
    }

    #[test]
    fn the_policy_says_which_module_runs_and_where_its_tags_go() {
        for (document, is_lean, header) in [
            (r#"{}"#, true, "x-traffic-direction"),
            (
                r#"{"metrics":{"durations":true},"tags":{"directionHeader":"x-way"}}"#,
                false,
                "x-way",
            ),
        ] {
            let policy = PolicyFile::parse(document.as_bytes()).unwrap();
            let slice = policy.slice(Vantage::Ingress, Subject::Request, None);
            let filters = Filters::new("/modules".into(), &policy);
            assert_eq!(parts(&filters), (path(is_lean), slice.clone()));
            assert_eq!(filters.tags().direction_header, header);

            let (module, indented) = parts(&Filters::indented("/modules".into(), &policy));
            assert_eq!(module, path(is_lean));
            let indented: Value = serde_json::from_str(&indented).unwrap();
            assert_eq!(indented.to_string(), slice);
        }
    }

    #[test]
    fn every_filter_tells_the_revision_of_the_whole_policy() {
        let policy = PolicyFile::load(None).unwrap();
        let filters = Filters::new("/modules".into(), &policy);
        let revision = |filter: Value| {
            let value = &filter["typed_config"]["config"]["configuration"]["value"];
            Policy::from_json(value.as_str().unwrap()).unwrap().revision
        };
        for vantage in Vantage::ALL {
            assert_eq!(
                revision(filters.http_filter(*vantage)),
                Some(policy.revision())
            );
        }
        for vantage in [Vantage::Ingress, Vantage::Egress] {
            assert_eq!(
                revision(filters.network_filter(vantage)),
                Some(policy.revision())
            );
        }
    }

    #[test]
    fn a_document_that_is_no_policy_goes_to_envoy_as_it_is() {
        let document = r#"{"metrics": {"durations": "perhaps"}"#;
        let filters = Filters::unchecked("/modules".into(), document.to_owned());
        assert_eq!(parts(&filters), (path(true), document.to_owned()));
        assert_eq!(filters.tags(), &Tags::default());
    }
}
