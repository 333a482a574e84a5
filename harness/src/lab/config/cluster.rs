//! Clusters: where requests go.

use std::time::Duration;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::address::Address;
use super::tls::{self, MeshIdentity};
use super::type_url::type_url;

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
            "http2_protocol_options": {"allow_connect": true},
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

/// The HTTP filter that resolves a request's authority, for an [`Upstream`] without endpoint. It
/// stands last before the router: it looks names up, so a policy filter has to come first.
pub fn dynamic_forward_proxy_filter() -> Value {
    json!({
        "name": "envoy.filters.http.dynamic_forward_proxy",
        "typed_config": {
            "@type": type_url("extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig"),
            "dns_cache_config": dns_cache(),
            "save_upstream_address": true,
        },
    })
}

/// Networks that no host outside is in: this host, link-local addresses, and in them the metadata
/// services of clouds.
const NEVER_OUTSIDE: [(&str, u8); 7] = [
    ("0.0.0.0", 8),
    ("127.0.0.0", 8),
    ("169.254.0.0", 16),
    ("::", 128),
    ("::1", 128),
    // IPv4-mapped addresses.
    ("::ffff:0:0", 96),
    ("fe80::", 10),
];

/// The HTTP filter that refuses what a name resolved to, if that is not outside. It stands behind
/// [`dynamic_forward_proxy_filter`]: the policy decides over names, and whoever owns an allowed name
/// chooses its address.
pub fn inside_filter(inside: &[IpNet]) -> Value {
    json!({
        "name": "envoy.filters.http.rbac",
        "typed_config": {
            "@type": type_url("extensions.filters.http.rbac.v3.RBAC"),
            "rules": inside_rules(inside),
        },
    })
}

/// The same as a network filter, behind [`sni_dynamic_forward_proxy_filter`]. It refuses at the first
/// byte, so what stands behind it must not connect before.
pub fn inside_network_filter(inside: &[IpNet]) -> Value {
    json!({
        "name": "envoy.filters.network.rbac",
        "typed_config": {
            "@type": type_url("extensions.filters.network.rbac.v3.RBAC"),
            "stat_prefix": "inside.",
            "rules": inside_rules(inside),
        },
    })
}

fn inside_rules(inside: &[IpNet]) -> Value {
    let inside = inside
        .iter()
        .map(|network| (network.addr().to_string(), network.prefix_len()));
    let permissions: Vec<Value> = NEVER_OUTSIDE
        .iter()
        .map(|(address, prefix)| ((*address).to_owned(), *prefix))
        .chain(inside)
        .map(|(address, prefix)| {
            json!({"matcher": {
                "name": "envoy.rbac.matchers.upstream_ip_port",
                "typed_config": {
                    "@type": type_url("extensions.rbac.matchers.upstream_ip_port.v3.UpstreamIpPortMatcher"),
                    "upstream_ip": {"address_prefix": address, "prefix_len": prefix},
                },
            }})
        })
        .collect();
    json!({
        "action": "DENY",
        "policies": {"inside": {"permissions": permissions, "principals": [{"any": true}]}},
    })
}

/// The network filter that resolves the server name of a TLS connection and sends it to `port`
/// there, for an [`Upstream`] without endpoint. A policy filter has to come before it.
pub fn sni_dynamic_forward_proxy_filter(port: u16) -> Value {
    json!({
        "name": "envoy.filters.network.sni_dynamic_forward_proxy",
        "typed_config": {
            "@type": type_url("extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig"),
            "port_value": port,
            "dns_cache_config": dns_cache(),
            "save_upstream_address": true,
        },
    })
}

/// The filters and the cluster share the cache by its name, and Envoy wants the settings equal.
fn dns_cache() -> Value {
    json!({
        "name": "outside",
        "dns_lookup_family": "V4_PREFERRED",
        // Each host and port is an entry: enough for a caller who tries ports, and soon forgotten.
        "max_hosts": 16384,
        "host_ttl": "60s",
    })
}
