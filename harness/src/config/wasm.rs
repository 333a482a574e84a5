//! The policy filters as Envoy's wasm filters, for HTTP and for connections.

use std::path::PathBuf;

use meridian_policy::{Policy, Tags, Vantage};
use serde_json::{Value, json};

use super::type_url;

/// The name of the filter in every filter chain, and of the plugin in its statistics.
pub const FILTER_NAME: &str = "meridian";

/// The file name of the module that serves `vantage`.
pub fn module(vantage: Vantage) -> &'static str {
    match vantage {
        Vantage::Ingress => "meridian_ingress.wasm",
        Vantage::Egress => "meridian_egress.wasm",
        Vantage::Inbound | Vantage::Outbound => "meridian_sidecar.wasm",
    }
}

/// The modules and the policy of one Envoy.
#[derive(Debug, Clone)]
pub struct Filters {
    modules: PathBuf,
    policy: String,
    tags: Tags,
}

impl Filters {
    /// The modules in a folder as Envoy sees it, with a policy document in JSON, which goes to every
    /// filter as it is: one with errors is for Envoy to refuse.
    pub fn new(modules: PathBuf, policy: String) -> Self {
        let tags = Policy::from_json(policy.as_bytes()).map(|policy| policy.tags);
        Self {
            modules,
            policy,
            tags: tags.unwrap_or_default(),
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
        self.filter(message, vantage, vantage.as_str())
    }

    /// The network filter for `vantage`, a gateway's: it decides over connections that pass unread,
    /// before whatever stands behind it knows of them. A module that fails closes them.
    pub fn network_filter(&self, vantage: Vantage) -> Value {
        let message = "extensions.filters.network.wasm.v3.Wasm";
        self.filter(message, vantage, &format!("{vantage}.tcp"))
    }

    fn filter(&self, message: &str, vantage: Vantage, root_id: &str) -> Value {
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
                        "code": {"local": {"filename": self.modules.join(module(vantage))}},
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
