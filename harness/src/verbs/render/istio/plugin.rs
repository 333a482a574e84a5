//! TrafficExtensions and WasmPlugins: the HTTP filters by Istio's own interfaces.
//!
//! Neither has a context, so a sidecar's are for one namespace, never for the whole mesh: in the root
//! namespace they would reach gateways, and the outbound filter would take a request from outside for
//! one from the mesh. Network filters by these interfaces would stand before HTTP, too, and close what
//! names no host; they stay EnvoyFilters.

use meridian_policy::Vantage;
use serde_json::{Map, Value, json};

use super::options::Form;
use super::plan::{Filter, PRIORITY, Plan, Selection};
use crate::lab::config::wasm::root_id;

/// The API of both kinds.
const API: &str = "extensions.istio.io/v1alpha1";

/// The filter as an object of this form.
///
/// # Errors
/// If its slice of the policy is no JSON.
pub(super) fn http(
    plan: &Plan<'_>,
    selection: &Selection,
    filter: &Filter,
) -> anyhow::Result<Value> {
    let mut spec = Map::new();
    if !selection.labels.is_empty() {
        spec.insert(
            "selector".to_owned(),
            json!({"matchLabels": selection.labels}),
        );
    }
    let mode = match filter.vantage {
        Vantage::Inbound => Some("SERVER"),
        Vantage::Outbound => Some("CLIENT"),
        // All that a gateway serves.
        Vantage::Ingress | Vantage::Egress => None,
    };
    if let Some(mode) = mode {
        spec.insert("match".to_owned(), json!([{"mode": mode}]));
    }
    spec.insert("phase".to_owned(), json!("AUTHN"));
    spec.insert("priority".to_owned(), json!(PRIORITY));
    let wasm = wasm(filter)?;
    let kind = match plan.args.form {
        Form::WasmPlugin => {
            spec.extend(wasm);
            "WasmPlugin"
        }
        Form::TrafficExtension | Form::EnvoyFilter => {
            spec.insert("wasm".to_owned(), Value::Object(wasm));
            "TrafficExtension"
        }
    };
    Ok(plan.object(API, kind, selection, &Value::Object(spec)))
}

fn wasm(filter: &Filter) -> anyhow::Result<Map<String, Value>> {
    let mut wasm = Map::new();
    let (url, sha256) = filter.source.plugin_url();
    wasm.insert("url".to_owned(), json!(url));
    if let Some(sha256) = sha256 {
        wasm.insert("sha256".to_owned(), json!(sha256));
    }
    wasm.insert("type".to_owned(), json!("HTTP"));
    wasm.insert("failStrategy".to_owned(), json!("FAIL_RELOAD"));
    let root_id = root_id(filter.vantage, filter.subject);
    wasm.insert("pluginName".to_owned(), json!(root_id));
    // Plugins of one module would share a VM, and die together; an environment of its own keeps each
    // apart, and no module reads it.
    let env = json!([{"name": "MERIDIAN_FILTER", "value": root_id}]);
    wasm.insert("vmConfig".to_owned(), json!({"env": env}));
    if let Some(policy) = &filter.policy {
        wasm.insert("pluginConfig".to_owned(), serde_json::from_str(policy)?);
    }
    Ok(wasm)
}
