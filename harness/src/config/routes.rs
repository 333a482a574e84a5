//! Virtual hosts: which authority goes to which cluster.

use serde_json::{Value, json};

use super::cluster::Upstream;

/// A virtual host.
#[derive(Debug, Clone)]
pub struct Route {
    /// The virtual host's name.
    pub name: String,
    /// Host names, `*.suffix` or `*`, without ports: any port matches.
    pub domains: Vec<String>,
    /// Where its requests go.
    pub upstream: Upstream,
}

impl Route {
    /// A virtual host of one domain, named after it.
    pub fn new(domain: &str, upstream: Upstream) -> Self {
        Self {
            name: domain.to_owned(),
            domains: vec![domain.to_owned()],
            upstream,
        }
    }
}

/// Envoy's `RouteConfiguration`.
///
/// Names match with and without a trailing dot, as for the filters; Envoy itself ignores case.
/// CONNECT is forwarded as it came: Envoy opens no tunnel of its own.
pub fn route_config(name: &str, routes: &[Route]) -> Value {
    let virtual_hosts: Vec<Value> = routes.iter().map(virtual_host).collect();
    json!({
        "name": name,
        "virtual_hosts": virtual_hosts,
        "ignore_port_in_host_matching": true,
        "validate_clusters": true,
    })
}

fn virtual_host(route: &Route) -> Value {
    let domains: Vec<String> = route
        .domains
        .iter()
        .flat_map(|domain| match domain.as_str() {
            "*" => vec![domain.clone()],
            name => vec![name.to_owned(), format!("{name}.")],
        })
        .collect();
    let cluster = &route.upstream.cluster;
    json!({
        "name": route.name,
        "domains": domains,
        "routes": [
            {"match": {"connect_matcher": {}}, "route": {"cluster": cluster}},
            {"match": {"prefix": "/"}, "route": {"cluster": cluster}},
        ],
    })
}

/// The distinct upstreams of `routes`, in their order.
pub fn upstreams<'a>(routes: impl IntoIterator<Item = &'a Route>) -> Vec<&'a Upstream> {
    let mut distinct: Vec<&Upstream> = Vec::new();
    for route in routes {
        if distinct
            .iter()
            .all(|upstream| upstream.cluster != route.upstream.cluster)
        {
            distinct.push(&route.upstream);
        }
    }
    distinct
}
