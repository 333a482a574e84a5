//! Clusters: where requests go.

use std::time::Duration;

use serde_json::{Value, json};

use super::address::Address;
use super::dynamic_forward_proxy::dns_cache;
use super::identity::MeshIdentity;
use super::tls;
use super::type_url::type_url;

/// The streams of an HTTP/2 connection: what every listener takes, and so what every cluster opens.
pub(super) const MAX_CONCURRENT_STREAMS: u32 = 100;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// One place that requests are sent to.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// The cluster's name; filters read the destination from it, so services have Istio's form,
    /// [`outbound`].
    pub cluster: String,
    /// Where it is, or `None`: wherever each request's authority says.
    pub endpoint: Option<Address>,
    /// The principal at the other end of mutual TLS, or `None` for plaintext.
    pub principal: Option<String>,
}

/// The name that Istio gives the cluster of `host` on `port`.
pub fn outbound(port: u16, host: &str) -> String {
    format!("outbound|{port}||{host}")
}

/// The full name of a Kubernetes service, in the usual domain `cluster.local`.
pub fn service_host(name: &str, namespace: &str) -> String {
    format!("{name}.{namespace}.svc.cluster.local")
}

impl Upstream {
    /// The service `host` of the mesh on port 80, by mutual TLS with `principal`.
    pub fn service(host: &str, endpoint: Address, principal: &str) -> Self {
        Self {
            cluster: outbound(80, host),
            endpoint: Some(endpoint),
            principal: Some(principal.to_owned()),
        }
    }

    /// Envoy's `Cluster`. Connections speak the protocol of the request that they carry.
    pub fn to_config(&self, identity: &MeshIdentity) -> Value {
        let mut cluster = json!({
            "name": self.cluster,
            "connect_timeout": format!("{}s", CONNECT_TIMEOUT.as_secs()),
            "circuit_breakers": {"thresholds": [unlimited()]},
        });
        match &self.endpoint {
            Some(endpoint) => {
                cluster["type"] = json!(match endpoint {
                    Address::Name(..) => "STRICT_DNS",
                    Address::Socket(_) | Address::Pipe(_) => "STATIC",
                });
                cluster["load_assignment"] = json!({
                    "cluster_name": self.cluster,
                    "endpoints": [{
                        "lb_endpoints": [{"endpoint": {"address": endpoint.to_config()}}],
                    }],
                });
            }
            None => {
                cluster["lb_policy"] = json!("CLUSTER_PROVIDED");
                cluster["cluster_type"] = json!({
                    "name": "envoy.clusters.dynamic_forward_proxy",
                    "typed_config": {
                        "@type": type_url("extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig"),
                        "dns_cache_config": dns_cache(),
                    },
                });
            }
        }
        if let Some(principal) = &self.principal {
            cluster["transport_socket"] = tls::upstream(identity, &self.sni(), principal);
        }
        let mut protocols = json!({
            "@type": type_url("extensions.upstreams.http.v3.HttpProtocolOptions"),
        });
        if self.endpoint.is_none() {
            // Envoy insists, for the day on which the cluster gets TLS.
            protocols["upstream_http_protocol_options"] =
                json!({"auto_sni": true, "auto_san_validation": true});
        }
        protocols["use_downstream_protocol_config"] = json!({
            "http_protocol_options": {},
            // Until the next hop has said how many streams it takes, Envoy would open any number, and
            // those above would be refused.
            "http2_protocol_options": {
                "allow_connect": true,
                "max_concurrent_streams": MAX_CONCURRENT_STREAMS,
            },
        });
        cluster["typed_extension_protocol_options"] =
            json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocols});
        cluster
    }

    /// Istio's SNI for a cluster, `outbound_.80_._.HOST` for `outbound|80||HOST`.
    fn sni(&self) -> String {
        self.cluster.replace('|', "_.")
    }
}

/// Circuit breakers that never open, as Istio's: of Envoy's own, 3 retries at once are the first that
/// a burst meets.
fn unlimited() -> Value {
    json!({
        "max_connections": u32::MAX,
        "max_pending_requests": u32::MAX,
        "max_requests": u32::MAX,
        "max_retries": u32::MAX,
    })
}
