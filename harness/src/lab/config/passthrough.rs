//! A listener whose connections pass on unread: TLS by its server name, all else too.

use ipnet::IpNet;
use meridian_policy::Vantage;
use serde_json::{Value, json};

use super::dynamic_forward_proxy::{inside_network_filter, sni_dynamic_forward_proxy_filter};
use super::listener::{Listener, TrafficDirection};
use super::routes::Route;
use super::type_url::type_url;
use super::{Address, Proxy};
use crate::lab::envoy::Version;

/// The name of the listener, and `listener` in its access log.
const NAME: &str = "tls-passthrough";
/// Where TLS is served.
const HTTPS_PORT: u16 = 443;
/// How much of a client's first bytes waits for the upstream.
const EARLY_BYTES: u32 = 32768;

/// What a gateway passes on.
#[derive(Debug)]
pub struct Passthrough {
    /// Where it listens.
    pub addresses: Vec<Address>,
    /// Where a connection goes, by its server name; the domain `*` also takes what has none. An
    /// upstream without endpoint is the server name itself, on port 443.
    pub routes: Vec<Route>,
    /// True if what is not TLS passes too. What Envoy cannot read of TLS, such as a ClientHello over
    /// 16 KiB in small records, is then like plain TCP: without a server name.
    pub plain_tcp: bool,
    /// The networks of the mesh: no server name leads there from here.
    pub inside: Vec<IpNet>,
}

impl Passthrough {
    /// The routes that `envoy` can serve.
    ///
    /// Where a server name leads is known when Envoy has resolved it, and is checked at the first byte. An
    /// Envoy that cannot wait for that byte has connected before, so it has no route to the server name
    /// itself.
    pub fn routes_of(&self, envoy: Version) -> impl Iterator<Item = &Route> {
        self.routes
            .iter()
            .filter(move |route| route.upstream.endpoint.is_some() || envoy.can_connect_on_data())
    }

    /// What `envoy` does not serve of this, in a sentence.
    pub fn lacks(&self, envoy: Version) -> Option<&'static str> {
        (self.routes_of(envoy).count() < self.routes.len()).then_some(
            "No TLS passes unread to the host of its server name: before Envoy 1.37 that host would be \
             connected to before its address is checked.",
        )
    }

    /// The listener of the gateway `proxy`, if its Envoy can serve any of the routes.
    pub(super) fn to_config(&self, proxy: &Proxy, vantage: Vantage) -> Option<Value> {
        let chains = self.routes_of(proxy.envoy).map(|route| {
            let names: Vec<String> = route
                .domains
                .iter()
                .filter(|domain| *domain != "*")
                .flat_map(|domain| [domain.clone(), format!("{domain}.")])
                .collect();
            let matched = match names.is_empty() {
                true if self.plain_tcp => json!({}),
                true => json!({"transport_protocol": "tls"}),
                false => json!({"server_names": names}),
            };
            let mut filters = proxy.network_filters(vantage);
            let mut tcp_proxy = tcp_proxy(proxy, vantage, &route.upstream.cluster);
            if route.upstream.endpoint.is_none() {
                filters.push(sni_dynamic_forward_proxy_filter(HTTPS_PORT));
                filters.push(inside_network_filter(&self.inside));
                // With the ClientHello, when the filter before it has refused what it must.
                tcp_proxy["typed_config"]["upstream_connect_mode"] = json!("ON_DOWNSTREAM_DATA");
                tcp_proxy["typed_config"]["max_early_data_bytes"] = json!(EARLY_BYTES);
            }
            filters.push(tcp_proxy);
            json!({"name": route.name, "filter_chain_match": matched, "filters": filters})
        });
        let filter_chains: Vec<Value> = chains.collect();
        if filter_chains.is_empty() {
            return None;
        }
        let listener = Listener {
            name: NAME,
            addresses: &self.addresses,
            direction: TrafficDirection::Outbound,
            filter_chains,
        };
        Some(listener.to_config())
    }
}

fn tcp_proxy(proxy: &Proxy, vantage: Vantage, cluster: &str) -> Value {
    json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": type_url("extensions.filters.network.tcp_proxy.v3.TcpProxy"),
            "stat_prefix": NAME,
            "cluster": cluster,
            "access_log": [proxy.logged(vantage, NAME).connections(&proxy.access_log)],
        },
    })
}
