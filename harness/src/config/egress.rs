//! The egress gateway: where requests leave the cluster.

use meridian_policy::Vantage;
use serde_json::Value;

use super::cluster::dynamic_forward_proxy_filter;
use super::connections::{Connections, Position};
use super::listener::{Listener, PeerAuthentication, TrafficDirection, mesh};
use super::routes::{Route, upstreams};
use super::{Address, Proxy, bootstrap};

/// What an egress gateway has beyond a [`Proxy`].
#[derive(Debug)]
pub struct Egress {
    /// Where sidecars reach it.
    pub mesh: Vec<Address>,
    /// Who may connect there.
    pub authentication: PeerAuthentication,
    /// Its virtual hosts, outside.
    pub routes: Vec<Route>,
}

impl Egress {
    /// The bootstrap.
    pub fn to_config(&self, proxy: &Proxy) -> Value {
        let upstreams = upstreams(&self.routes);
        let mut filters = proxy.http_filters(Vantage::Egress);
        if upstreams.iter().any(|upstream| upstream.endpoint.is_none()) {
            filters.push(dynamic_forward_proxy_filter());
        }
        let connections = Connections {
            name: "egress",
            position: Position::Gateway,
            access_log: &proxy.access_log,
            filters: &filters,
            routes: &self.routes,
        }
        .to_config();
        let listener = Listener {
            name: "egress",
            addresses: &self.mesh,
            direction: TrafficDirection::Outbound,
            filter_chains: mesh(&proxy.identity, self.authentication, &connections),
        }
        .to_config();
        let clusters: Vec<Value> = upstreams
            .into_iter()
            .map(|upstream| upstream.to_config(&proxy.identity))
            .collect();
        bootstrap(proxy, &[listener], &clusters)
    }
}
