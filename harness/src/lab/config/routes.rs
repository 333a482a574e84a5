//! Virtual hosts: which authority goes to which cluster.

use serde_json::{Value, json};

use super::cluster::Upstream;
use super::position::Position;
use super::type_url::type_url;

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
/// CONNECT, where it passes, is forwarded as it came: Envoy opens no tunnel of its own.
pub fn route_config(name: &str, routes: &[Route], position: Position) -> Value {
    let virtual_hosts: Vec<Value> = routes
        .iter()
        .map(|route| virtual_host(route, position))
        .collect();
    let mut config = json!({
        "name": name,
        "virtual_hosts": virtual_hosts,
        "ignore_port_in_host_matching": true,
        "validate_clusters": true,
    });
    if position == Position::Egress {
        config["request_headers_to_remove"] = json!(MESH_HEADERS);
    }
    config
}

/// What proxies of the mesh say of it, which is nobody's business outside.
const MESH_HEADERS: [&str; 6] = [
    "x-forwarded-for",
    "x-forwarded-client-cert",
    "x-envoy-external-address",
    "x-envoy-decorator-operation",
    "x-envoy-peer-metadata",
    "x-envoy-peer-metadata-id",
];

fn virtual_host(route: &Route, position: Position) -> Value {
    let domains: Vec<String> = route
        .domains
        .iter()
        .flat_map(|domain| match domain.as_str() {
            "*" => vec![domain.clone()],
            name => vec![name.to_owned(), format!("{name}.")],
        })
        .collect();
    let cluster = &route.upstream.cluster;
    let mut routes = vec![json!({"match": {"prefix": "/"}, "route": {"cluster": cluster}})];
    if position.takes_connect() {
        let connect = json!({"match": {"connect_matcher": {}}, "route": {"cluster": cluster}});
        routes.insert(0, connect);
    }
    json!({
        "name": route.name,
        "domains": domains,
        "retry_policy": retry_policy(position),
        "routes": routes,
    })
}

/// Istio's default: what the next hop has not looked at is sent again, and a gRPC call that it says
/// it could not serve.
///
/// A workload's own answer is the caller's business, who retries it: a sidecar that did so too would
/// multiply the attempts.
fn retry_policy(position: Position) -> Value {
    let retry_on = match position {
        Position::Inbound => "connect-failure,refused-stream",
        Position::Ingress | Position::Egress | Position::Outbound => {
            "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
        }
    };
    json!({
        "retry_on": retry_on,
        "num_retries": 2,
        "retry_host_predicate": [{
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {
                "@type": type_url("extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"),
            },
        }],
        "host_selection_retry_max_attempts": 5,
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
