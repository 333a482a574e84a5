//! The ingress gateway: where requests enter the cluster.

use meridian_policy::Vantage;
use serde_json::Value;

use super::http_connection_manager::HttpConnectionManager;
use super::identity::Credentials;
use super::listener::{Listener, TrafficDirection, plaintext, terminated};
use super::passthrough::Passthrough;
use super::position::Position;
use super::routes::{Route, upstreams};
use super::tls::{self, ClientCertificate};
use super::{Address, Proxy, bootstrap};

/// What an ingress gateway has beyond a [`Proxy`].
#[derive(Debug)]
pub struct Ingress {
    /// Where it serves HTTP.
    pub http: Vec<Address>,
    /// Where it serves HTTPS.
    pub https: Vec<Address>,
    /// The certificate that clients outside see.
    pub public: Credentials,
    /// Its virtual hosts.
    pub routes: Vec<Route>,
    /// What passes through it unread.
    pub passthrough: Passthrough,
}

impl Ingress {
    /// The bootstrap.
    ///
    /// HTTPS asks for a client certificate but does without: a pod that comes back in through the
    /// gateway may show its identity.
    pub fn to_config(&self, proxy: &Proxy) -> Value {
        let filters = proxy.http_filters(Vantage::Ingress);
        let connections = |name| {
            HttpConnectionManager {
                envoy: proxy.envoy,
                name,
                position: Position::Ingress,
                access_log: &proxy.access_log,
                logged: proxy.logged(Vantage::Ingress, name),
                filters: &filters,
                routes: &self.routes,
            }
            .to_config()
        };
        let tls = tls::downstream(
            &self.public,
            &proxy.identity.ca,
            ClientCertificate::Optional,
        );
        let mut listeners = vec![
            Listener {
                name: "http",
                addresses: &self.http,
                direction: TrafficDirection::Outbound,
                filter_chains: vec![plaintext(&connections("http"))],
            }
            .to_config(),
            Listener {
                name: "https",
                addresses: &self.https,
                direction: TrafficDirection::Outbound,
                filter_chains: vec![terminated(tls, &connections("https"))],
            }
            .to_config(),
        ];
        listeners.extend(self.passthrough.to_config(proxy, Vantage::Ingress));
        let passed = self.passthrough.routes_of(proxy.envoy);
        let clusters: Vec<Value> = upstreams(self.routes.iter().chain(passed))
            .into_iter()
            .map(|upstream| upstream.to_config(&proxy.identity))
            .collect();
        bootstrap(proxy, &listeners, &clusters)
    }
}
