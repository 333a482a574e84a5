//! The way to hosts outside by their names: Envoy's dynamic forward proxy, and what it may resolve to.

use ipnet::IpNet;
use serde_json::{Value, json};

use super::type_url::type_url;

/// The HTTP filter that resolves a request's authority, for an [`Upstream`](super::cluster::Upstream)
/// without endpoint. It stands last before the router: it looks names up, so a policy filter has to
/// come first.
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
/// [`dynamic_forward_proxy_filter`]: the policy decides on names, and whoever owns an allowed name
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
/// there, for an [`Upstream`](super::cluster::Upstream) without endpoint. A policy filter has to come
/// before it.
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
pub(super) fn dns_cache() -> Value {
    json!({
        "name": "outside",
        "dns_lookup_family": "V4_PREFERRED",
        // Each host and port is an entry: enough for a caller who tries ports, and soon forgotten.
        "max_hosts": 16384,
        "host_ttl": "60s",
        // A burst may wait for one slow name; what it costs is bounded by the streams.
        "dns_cache_circuit_breaker": {"max_pending_requests": u32::MAX},
    })
}
