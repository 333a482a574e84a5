//! A listener for scrapers on other hosts: Envoy's metrics without the rest of its admin, as Istio's
//! proxies have one on port 15090.

use serde_json::{Value, json};

use super::address::Address;
use super::type_url::type_url;

/// The name of the listener, of the cluster and in their statistics.
const NAME: &str = "metrics";
/// What is served.
const PATH: &str = "/stats/prometheus";

/// Serves the metrics at `address`; all other paths get 404.
pub(super) fn listener(address: &Address) -> Value {
    let manager = json!({
        "@type": type_url("extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": NAME,
        "route_config": {
            "name": NAME,
            "virtual_hosts": [{
                "name": NAME,
                "domains": ["*"],
                "routes": [{"match": {"path": PATH}, "route": {"cluster": NAME}}],
            }],
        },
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": type_url("extensions.filters.http.router.v3.Router")},
        }],
    });
    json!({
        "name": NAME,
        "address": address.to_config(),
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": manager,
        }]}],
    })
}

/// The admin that answers.
pub(super) fn cluster(admin: &Address) -> Value {
    json!({
        "name": NAME,
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": NAME,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": admin.to_config()}}]}],
        },
    })
}
