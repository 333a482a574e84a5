//! The policy filters as Envoy's wasm filters, for HTTP and for connections.

use std::path::PathBuf;

use meridian_policy::{Tags, Vantage};
use serde_json::{Value, json};

use super::type_url::type_url;
use crate::lab::modules::LEAN;
use crate::policy::PolicyFile;

/// The name of the filter in every filter chain, and of the plugin in its statistics.
pub const FILTER_NAME: &str = "meridian";

/// The file name of the module that serves `vantage`; for a policy that measures nothing when a request
/// ends the lean one, which Envoy does not call then.
pub fn module(vantage: Vantage, is_lean: bool) -> String {
    let name = match vantage {
        Vantage::Ingress => "ingress",
        Vantage::Egress => "egress",
        Vantage::Inbound | Vantage::Outbound => "sidecar",
    };
    let lean = if is_lean { LEAN } else { "" };
    format!("meridian_{name}{lean}.wasm")
}

/// The modules and the policy of one Envoy.
#[derive(Debug, Clone)]
pub struct Filters {
    modules: PathBuf,
    /// The policy's document in JSON, which goes to every filter as it is.
    document: String,
    tags: Tags,
    measures_ends: bool,
}

impl Filters {
    /// The modules in a folder as Envoy sees it, with a policy.
    pub fn new(modules: PathBuf, policy: &PolicyFile) -> Self {
        Self::with_document(modules, policy, policy.json.to_string())
    }

    /// As [`Self::new`], with the policy's document on indented lines, for people to read.
    pub fn indented(modules: PathBuf, policy: &PolicyFile) -> Self {
        Self::with_document(modules, policy, format!("{:#}", policy.json))
    }

    /// As [`Self::new`], with a document that is no policy, for Envoy to refuse. It names no headers
    /// and measures nothing, so these are the ones of an empty policy.
    pub fn unchecked(modules: PathBuf, document: String) -> Self {
        Self {
            modules,
            document,
            tags: Tags::default(),
            measures_ends: false,
        }
    }

    fn with_document(modules: PathBuf, policy: &PolicyFile, document: String) -> Self {
        let PolicyFile { policy, .. } = policy;
        Self {
            modules,
            document,
            tags: policy.tags.clone(),
            measures_ends: policy.metrics.any(),
        }
    }

    /// Where the policy's tags go.
    pub fn tags(&self) -> &Tags {
        &self.tags
    }

    /// The HTTP filter for `vantage`.
    ///
    /// After a panic Envoy answers 503 and loads the module anew (`FAIL_RELOAD`): a request is
    /// never let through unseen. Each vantage has a VM of its own, because plugins that share a VM
    /// die together.
    pub fn http_filter(&self, vantage: Vantage) -> Value {
        let message = "extensions.filters.http.wasm.v3.Wasm";
        self.filter(message, vantage, vantage.as_str(), !self.measures_ends)
    }

    /// The network filter for `vantage`, a gateway's: it decides on connections that pass unread,
    /// before whatever stands behind it knows of them. A module that fails closes them.
    pub fn network_filter(&self, vantage: Vantage) -> Value {
        let message = "extensions.filters.network.wasm.v3.Wasm";
        // Nothing is measured of a connection's end.
        self.filter(message, vantage, &format!("{vantage}.tcp"), true)
    }

    fn filter(&self, message: &str, vantage: Vantage, root_id: &str, is_lean: bool) -> Value {
        json!({
            "name": FILTER_NAME,
            "typed_config": {
                "@type": type_url(message),
                "config": {
                    "name": FILTER_NAME,
                    "root_id": root_id,
                    "failure_policy": "FAIL_RELOAD",
                    "vm_config": {
                        "vm_id": format!("{FILTER_NAME}.{root_id}"),
                        "runtime": "envoy.wasm.runtime.v8",
                        "code": {"local": {"filename": self.modules.join(module(vantage, is_lean))}},
                    },
                    "configuration": {
                        "@type": "type.googleapis.com/google.protobuf.StringValue",
                        "value": self.document,
                    },
                },
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

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
            let filters = Filters::new("/modules".into(), &policy);
            assert_eq!(parts(&filters), (path(is_lean), document.to_owned()));
            assert_eq!(filters.tags().direction_header, header);

            let (module, indented) = parts(&Filters::indented("/modules".into(), &policy));
            assert_eq!(module, path(is_lean));
            let revision = meridian_policy::revision(indented.as_bytes());
            assert_eq!(revision, policy.revision());
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
