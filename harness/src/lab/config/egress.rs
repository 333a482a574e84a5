//! The egress gateway: where requests leave the cluster.

use ipnet::IpNet;
use meridian_policy::Vantage;
use serde_json::Value;

use super::dynamic_forward_proxy::{dynamic_forward_proxy_filter, inside_filter};
use super::http_connection_manager::HttpConnectionManager;
use super::listener::{Listener, PeerAuthentication, TrafficDirection, mesh};
use super::passthrough::Passthrough;
use super::position::Position;
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
    /// The networks of the mesh: no name leads there from here.
    pub inside: Vec<IpNet>,
    /// What passes through it unread.
    pub passthrough: Passthrough,
}

impl Egress {
    /// The bootstrap.
    pub fn to_config(&self, proxy: &Proxy) -> Value {
        let mut filters = proxy.http_filters(Vantage::Egress);
        if self
            .routes
            .iter()
            .any(|route| route.upstream.endpoint.is_none())
        {
            filters.push(dynamic_forward_proxy_filter());
            filters.push(inside_filter(&self.inside));
        }
        let connections = HttpConnectionManager {
            envoy: proxy.envoy,
            name: "egress",
            position: Position::Egress,
            access_log: &proxy.access_log,
            logged: proxy.logged(Vantage::Egress, "egress"),
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
        let mut listeners = vec![listener];
        listeners.extend(self.passthrough.to_config(proxy, Vantage::Egress));
        let passed = self.passthrough.routes_of(proxy.envoy);
        let routes = self.routes.iter().chain(passed);
        let clusters: Vec<Value> = upstreams(routes)
            .into_iter()
            .map(|upstream| upstream.to_config(&proxy.identity))
            .collect();
        bootstrap(proxy, &listeners, &clusters)
    }
}
