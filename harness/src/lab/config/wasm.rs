//! The policy filters as Envoy's wasm filters, for HTTP and for connections.

use std::path::PathBuf;

use meridian_policy::{Policy, Tags, Vantage};
use serde_json::{Value, json};

use super::type_url;
use crate::lab::modules::LEAN;

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
    policy: String,
    tags: Tags,
    measures_ends: bool,
}

impl Filters {
    /// The modules in a folder as Envoy sees it, with a policy document in JSON, which goes to every
    /// filter as it is: one with errors is for Envoy to refuse.
    pub fn new(modules: PathBuf, policy: String) -> Self {
        let known = Policy::from_json(policy.as_bytes());
        let known = known.map(|policy| (policy.tags, policy.metrics.any()));
        let (tags, measures_ends) = known.unwrap_or_default();
        Self {
            modules,
            policy,
            tags,
            measures_ends,
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

    /// The network filter for `vantage`, a gateway's: it decides over connections that pass unread,
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
                        "value": self.policy,
                    },
                },
            },
        })
    }
}
