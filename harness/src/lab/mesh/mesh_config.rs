//! The mesh's configuration.

use serde_json::{Value, json};

use super::control_plane::ISTIOD;
use super::roles::ROOT_NAMESPACE;

/// The mesh's configuration, with `own` merged into it.
pub(super) fn with(own: &Value) -> Value {
    let mut config = json!({
        "trustDomain": "cluster.local",
        "rootNamespace": ROOT_NAMESPACE,
        "enablePrometheusMerge": false,
        // Their filters are in Istio's own build of Envoy alone.
        "defaultProviders": {"metrics": []},
        "outboundTrafficPolicy": {"mode": "ALLOW_ANY"},
        "defaultConfig": {
            "discoveryAddress": format!("{ISTIOD}:15012"),
            "tracing": {},
        },
    });
    merge(&mut config, own);
    config
}

/// Merges mappings; everything else is replaced.
pub(super) fn merge(into: &mut Value, own: &Value) {
    match (into, own) {
        (Value::Object(into), Value::Object(own)) => {
            for (name, value) in own {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, own) => *into = own.clone(),
    }
}
