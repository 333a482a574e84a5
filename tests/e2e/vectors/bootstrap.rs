//! The bootstrap of an Envoy that serves vectors.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use meridian::lab::config::stats::stats_config;
use meridian_policy::Vantage;
use serde_json::{Value, json};

use crate::certificates::Certificates;
use meridian_vectors::Case;

/// The header that says which case a request is of; it stands in the access log.
pub(super) const CASE_HEADER: &str = "x-case";
/// The header that chooses a cluster by its number in [`clusters`].
pub(super) const CLUSTER_HEADER: &str = "x-case-cluster";
/// The cluster of all other requests; its name tells the filter nothing.
const PLAIN_CLUSTER: &str = "echo";

/// How a client connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Transport {
    /// TCP over IPv4, to any address of 127.0.0.0/8.
    V4,
    /// TCP over IPv6.
    V6,
    /// A Unix socket.
    Pipe,
}

impl Transport {
    /// How the client of a case connects.
    pub(super) fn of(case: &Case) -> Self {
        match case.source {
            Some(IpAddr::V4(_)) => Self::V4,
            Some(IpAddr::V6(_)) => Self::V6,
            None => Self::Pipe,
        }
    }
}

/// One listener.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) name: String,
    pub(super) at: Vantage,
    pub(super) transport: Transport,
    pub(super) is_tls: bool,
    /// Where it listens when the transport is a pipe.
    pub(super) socket: PathBuf,
    /// The wasm filter.
    pub(super) filter: Value,
}

/// The clusters that cases name, with their numbers.
pub(super) fn clusters<'c>(cases: impl Iterator<Item = &'c Case>) -> BTreeMap<String, usize> {
    let names: BTreeSet<&String> = cases.filter_map(|case| case.cluster.as_ref()).collect();
    names
        .into_iter()
        .enumerate()
        .map(|(number, name)| (name.clone(), number))
        .collect()
}

/// The whole bootstrap; every cluster leads to `upstream`.
pub(super) fn bootstrap<'l>(
    namespace: &str,
    listeners: impl Iterator<Item = &'l Listener>,
    clusters: &BTreeMap<String, usize>,
    upstream: SocketAddr,
    certificates: &Certificates,
    access_log: &Path,
) -> Value {
    let shared = Shared {
        clusters,
        certificates,
        access_log,
    };
    let names = clusters
        .keys()
        .map(String::as_str)
        .chain(std::iter::once(PLAIN_CLUSTER));
    json!({
        "node": {"id": namespace, "cluster": namespace, "metadata": {"NAMESPACE": namespace}},
        "stats_config": stats_config(),
        "static_resources": {
            "listeners": listeners.map(|listener| shared.listener(listener)).collect::<Vec<_>>(),
            "clusters": names.map(|name| cluster(name, upstream)).collect::<Vec<_>>(),
        },
    })
}

struct Shared<'s> {
    clusters: &'s BTreeMap<String, usize>,
    certificates: &'s Certificates,
    access_log: &'s Path,
}

impl Shared<'_> {
    fn listener(&self, listener: &Listener) -> Value {
        let socket =
            |address: &str| json!({"socket_address": {"address": address, "port_value": 0}});
        let mut chain = json!({"filters": [self.connection_manager(listener)]});
        if listener.is_tls {
            chain["transport_socket"] = self.transport_socket();
        }
        let inspector = json!({
            "name": "envoy.filters.listener.tls_inspector",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
            },
        });
        json!({
            "name": listener.name,
            // Without it the filter reads no server name, though Envoy terminates TLS.
            "listener_filters": Vec::from_iter(listener.is_tls.then_some(inspector)),
            "address": match listener.transport {
                Transport::V4 => socket("0.0.0.0"),
                Transport::V6 => socket("::1"),
                Transport::Pipe => json!({"pipe": {"path": listener.socket}}),
            },
            "traffic_direction": match listener.at {
                Vantage::Inbound => "INBOUND",
                // Istio calls gateways outbound too.
                Vantage::Ingress | Vantage::Egress | Vantage::Outbound => "OUTBOUND",
            },
            "filter_chains": [chain],
        })
    }

    fn transport_socket(&self) -> Value {
        let file = |path: &Path| json!({"filename": path});
        json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": {
                    "alpn_protocols": ["h2", "http/1.1"],
                    "tls_certificates": [{
                        "certificate_chain": file(&self.certificates.server_file),
                        "private_key": file(&self.certificates.key_file),
                    }],
                    "validation_context": {"trusted_ca": file(&self.certificates.ca_file)},
                },
            },
        })
    }

    /// The connection manager, as open as Envoy can be: what it lets through, the filter must
    /// stand. Of the client's address it believes what Istio makes it believe.
    fn connection_manager(&self, listener: &Listener) -> Value {
        let is_gateway = matches!(listener.at, Vantage::Ingress | Vantage::Egress);
        json!({
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "vectors",
                "use_remote_address": is_gateway,
                "http_protocol_options": {"accept_http_10": true},
                "http2_protocol_options": {"allow_connect": true},
                "upgrade_configs": [{"upgrade_type": "websocket"}, {"upgrade_type": "CONNECT"}],
                "access_log": [{
                    "name": "envoy.access_loggers.file",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                        "path": self.access_log,
                        "log_format": {"json_format": {
                            "case": format!("%REQ({CASE_HEADER})%"),
                            "client": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
                            "details": "%RESPONSE_CODE_DETAILS%",
                            "listener": listener.name,
                        }},
                    },
                }],
                "http_filters": [listener.filter, {
                    "name": "envoy.filters.http.router",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                    },
                }],
                "route_config": {"virtual_hosts": [{
                    "name": "all",
                    "domains": ["*"],
                    "routes": self.routes(),
                }]},
            },
        })
    }

    fn routes(&self) -> Vec<Value> {
        let mut routes: Vec<Value> = self
            .clusters
            .iter()
            .map(|(name, number)| {
                json!({
                    "match": {"prefix": "/", "headers": [{
                        "name": CLUSTER_HEADER,
                        "string_match": {"exact": number.to_string()},
                    }]},
                    "route": {"cluster": name},
                })
            })
            .collect();
        for matched in [json!({"connect_matcher": {}}), json!({"prefix": "/"})] {
            routes.push(json!({"match": matched, "route": {"cluster": PLAIN_CLUSTER}}));
        }
        routes
    }
}

fn cluster(name: &str, upstream: SocketAddr) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {
                "address": upstream.ip().to_string(),
                "port_value": upstream.port(),
            }}}}]}],
        },
    })
}
