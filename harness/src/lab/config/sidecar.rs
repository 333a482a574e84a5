//! A sidecar: what its workload receives (inbound) and what it sends (outbound).

use meridian_policy::Vantage;
use serde_json::Value;

use super::cluster::Upstream;
use super::http_connection_manager::HttpConnectionManager;
use super::listener::{Listener, PeerAuthentication, TrafficDirection, mesh, plaintext};
use super::position::Position;
use super::routes::{Route, upstreams};
use super::{Address, Proxy, bootstrap};

/// What a sidecar has beyond a [`Proxy`].
#[derive(Debug)]
pub struct Sidecar {
    /// Where callers reach the workload.
    pub inbound: Vec<Address>,
    /// Who may connect there.
    pub authentication: PeerAuthentication,
    /// The workload itself.
    pub workload: Address,
    /// Where the workload sends its requests.
    pub outbound: Vec<Address>,
    /// Where they go, by authority; see [`service_route`].
    pub routes: Vec<Route>,
}

/// The virtual host of the service `host`, `NAME.NAMESPACE.svc.DOMAIN`: by its full name, and as
/// `NAME.NAMESPACE` and `NAME.NAMESPACE.svc`.
pub fn service_route(host: &str, upstream: Upstream) -> Route {
    let mut domains = vec![host.to_owned()];
    if let Some((service, _domain)) = host.split_once(".svc.") {
        domains.extend([service.to_owned(), format!("{service}.svc")]);
    }
    Route {
        name: host.to_owned(),
        domains,
        upstream,
    }
}

impl Sidecar {
    /// The bootstrap.
    pub fn to_config(&self, proxy: &Proxy) -> Value {
        let workload = Route::new(
            "*",
            Upstream {
                cluster: "inbound|80||".to_owned(),
                endpoint: Some(self.workload.clone()),
                principal: None,
            },
        );
        let inbound = HttpConnectionManager {
            envoy: proxy.envoy,
            name: "inbound",
            position: Position::Inbound,
            access_log: &proxy.access_log,
            logged: proxy.logged(Vantage::Inbound, "inbound"),
            filters: &proxy.http_filters(Vantage::Inbound),
            routes: std::slice::from_ref(&workload),
        }
        .to_config();
        let outbound = HttpConnectionManager {
            envoy: proxy.envoy,
            name: "outbound",
            position: Position::Outbound,
            access_log: &proxy.access_log,
            logged: proxy.logged(Vantage::Outbound, "outbound"),
            filters: &proxy.http_filters(Vantage::Outbound),
            routes: &self.routes,
        }
        .to_config();
        let listeners = [
            Listener {
                name: "inbound",
                addresses: &self.inbound,
                direction: TrafficDirection::Inbound,
                filter_chains: mesh(&proxy.identity, self.authentication, &inbound),
            }
            .to_config(),
            Listener {
                name: "outbound",
                addresses: &self.outbound,
                direction: TrafficDirection::Outbound,
                filter_chains: vec![plaintext(&outbound)],
            }
            .to_config(),
        ];
        let clusters: Vec<Value> = upstreams([&workload].into_iter().chain(&self.routes))
            .into_iter()
            .map(|upstream| upstream.to_config(&proxy.identity))
            .collect();
        bootstrap(proxy, &listeners, &clusters)
    }
}
