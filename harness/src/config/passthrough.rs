//! A listener whose connections pass on unread: TLS by its server name, all else too.

use meridian_policy::Vantage;
use serde_json::{Value, json};

use super::cluster::sni_dynamic_forward_proxy_filter;
use super::listener::{Listener, TrafficDirection};
use super::routes::Route;
use super::{Address, Proxy, type_url};

/// The name of the listener, and `listener` in its access log.
const NAME: &str = "tls-passthrough";
/// Where TLS is served.
const HTTPS_PORT: u16 = 443;

/// What a gateway passes on.
#[derive(Debug)]
pub struct Passthrough {
    /// Where it listens.
    pub addresses: Vec<Address>,
    /// Where a connection goes, by its server name; the domain `*` also takes what has none. An
    /// upstream without endpoint is the server name itself, on port 443.
    pub routes: Vec<Route>,
}

impl Passthrough {
    /// The listener of the gateway `proxy`.
    pub(super) fn to_config(&self, proxy: &Proxy, vantage: Vantage) -> Value {
        let chains = self.routes.iter().map(|route| {
            let names: Vec<String> = route
                .domains
                .iter()
                .filter(|domain| *domain != "*")
                .flat_map(|domain| [domain.clone(), format!("{domain}.")])
                .collect();
            let matched = match names.is_empty() {
                true => json!({}),
                false => json!({"server_names": names}),
            };
            let mut filters = proxy.network_filters(vantage);
            if route.upstream.endpoint.is_none() {
                filters.push(sni_dynamic_forward_proxy_filter(HTTPS_PORT));
            }
            filters.push(tcp_proxy(proxy, &route.upstream.cluster));
            json!({"name": route.name, "filter_chain_match": matched, "filters": filters})
        });
        Listener {
            name: NAME,
            addresses: &self.addresses,
            direction: TrafficDirection::Outbound,
            filter_chains: chains.collect(),
        }
        .to_config()
    }
}

fn tcp_proxy(proxy: &Proxy, cluster: &str) -> Value {
    let format = json!({"json_format": {
        "time": "%START_TIME%",
        "listener": NAME,
        "sni": "%REQUESTED_SERVER_NAME%",
        "destination": "%DOWNSTREAM_LOCAL_ADDRESS%",
        // For a refusal the filter's reason, with the rule: `meridian_deny{RULE}`.
        "details": "%FILTER_STATE(wasm.meridian_details:PLAIN)%",
        "dry_run": "%FILTER_STATE(wasm.meridian_dry_run:PLAIN)%",
        "flags": "%RESPONSE_FLAGS%",
        "duration_ms": "%DURATION%",
        "received_bytes": "%BYTES_RECEIVED%",
        "sent_bytes": "%BYTES_SENT%",
        "source": "%DOWNSTREAM_REMOTE_ADDRESS%",
        "cluster": "%UPSTREAM_CLUSTER%",
        "upstream": "%UPSTREAM_HOST%",
    }});
    json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": type_url("extensions.filters.network.tcp_proxy.v3.TcpProxy"),
            "stat_prefix": NAME,
            "cluster": cluster,
            "access_log": [proxy.access_log.to_config(&format)],
        },
    })
}
