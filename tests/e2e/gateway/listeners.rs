//! The gateway's bootstrap: the connection manager that is rendered for gateways, at
//!
//! - `http`: plain TCP, HTTP/1 and HTTP/2, as it is rendered, and CONNECT to `db.example.com` is
//!   terminated;
//! - `strict`: plain TCP, as it is rendered but without HTTP/1.0, as Istio has it by default;
//! - `grpc-web`: as `http`, with Envoy's gRPC-Web bridge before the policy;
//! - `tls`: TLS that offers HTTP/2 and HTTP/1.1;
//! - `quic`: HTTP/3.

use std::net::SocketAddr;
use std::path::PathBuf;

use meridian::lab::config::access_log::{AccessLog, Logged};
use meridian::lab::config::http_connection_manager::HttpConnectionManager;
use meridian::lab::config::identity::Credentials;
use meridian::lab::config::position::Position;
use meridian::lab::config::stats::stats_config;
use meridian::lab::config::tls::{ClientCertificate, downstream};
use meridian::lab::envoy::Version;
use serde_json::{Value, json};

use crate::certificates::Certificates;

pub(super) struct Surroundings<'s> {
    /// The policy filter, and what stands behind it.
    pub(super) filters: Vec<Value>,
    pub(super) certificates: &'s Certificates,
    pub(super) access_log: PathBuf,
    pub(super) upstream: SocketAddr,
    pub(super) tunnel_end: SocketAddr,
}

fn type_url(message: &str) -> String {
    format!("type.googleapis.com/envoy.{message}")
}

impl Surroundings<'_> {
    pub(super) fn bootstrap(&self) -> Value {
        let grpc_web = json!({
            "name": "envoy.filters.http.grpc_web",
            "typed_config": {"@type": type_url("extensions.filters.http.grpc_web.v3.GrpcWeb")},
        });
        let open = open(self.connections(&[]));
        let bridged = self::open(self.connections(&[grpc_web]));
        let mut http3 = open.clone();
        http3["typed_config"]["codec_type"] = json!("HTTP3");
        http3["typed_config"]["http3_protocol_options"] = json!({"allow_extended_connect": true});
        json!({
            "node": {"id": "gateway", "cluster": "gateway"},
            "stats_config": stats_config(),
            "static_resources": {
                "listeners": [
                    tcp("http", &open, None),
                    tcp("strict", &strict(self.connections(&[])), None),
                    tcp("grpc-web", &bridged, None),
                    tcp("tls", &open, Some(&self.transport_socket())),
                    self.quic(&http3),
                ],
                "clusters": [
                    cluster("upstream", self.upstream),
                    cluster("tunnel-end", self.tunnel_end),
                ],
            },
        })
    }

    fn connections(&self, before: &[Value]) -> Value {
        let filters: Vec<Value> = before.iter().chain(&self.filters).cloned().collect();
        let mut connections = HttpConnectionManager {
            envoy: Version::NEWEST,
            name: "gateway",
            position: Position::Egress,
            access_log: &AccessLog::File(self.access_log.clone()),
            logged: Logged {
                proxy: "gateway",
                namespace: "default",
                tags: None,
                vantage: None,
                listener: "gateway",
            },
            filters: &filters,
            routes: &[],
        }
        .to_config();
        let manager = &mut connections["typed_config"];
        // The lines that the tests compare, and no more.
        manager["access_log"][0]["typed_config"]["log_format"] = json!({"json_format": {
            "protocol": "%PROTOCOL%",
            "method": "%REQ(:METHOD)%",
            "authority": "%REQ(:AUTHORITY)%",
            "path": "%REQ(:PATH)%",
            "status": "%RESPONSE_CODE%",
            "details": "%RESPONSE_CODE_DETAILS%",
            "grpc": "%GRPC_STATUS_NUMBER%",
            "sni": "%REQUESTED_SERVER_NAME%",
            "connection": "%CONNECTION_ID%",
        }});
        let forwarded = json!([
            {"match": {"connect_matcher": {}}, "route": {"cluster": "upstream"}},
            {"match": {"prefix": "/"}, "route": {"cluster": "upstream"}},
        ]);
        manager["route_config"]["virtual_hosts"] =
            json!([{"name": "all", "domains": ["*"], "routes": forwarded}]);
        connections
    }

    fn transport_socket(&self) -> Value {
        let credentials = Credentials {
            certificate: self.certificates.server_file.clone(),
            key: self.certificates.key_file.clone(),
        };
        downstream(
            &credentials,
            &self.certificates.ca_file,
            ClientCertificate::Optional,
        )
    }

    fn quic(&self, connections: &Value) -> Value {
        let mut context = self.transport_socket()["typed_config"].clone();
        // QUIC has TLS 1.3 and its own ALPN, and Envoy asks no client of it for a certificate.
        context["common_tls_context"] = json!({
            "tls_certificates": context["common_tls_context"]["tls_certificates"],
        });
        json!({
            "name": "quic",
            "address": {"socket_address": {
                "protocol": "UDP", "address": "127.0.0.1", "port_value": 0,
            }},
            "traffic_direction": "OUTBOUND",
            "udp_listener_config": {"quic_options": {}},
            "filter_chains": [{
                "filters": [connections],
                "transport_socket": {
                    "name": "envoy.transport_sockets.quic",
                    "typed_config": {
                        "@type": type_url("extensions.transport_sockets.quic.v3.QuicDownstreamTransport"),
                        "downstream_tls_context": {
                            "common_tls_context": context["common_tls_context"],
                        },
                    },
                },
            }],
        })
    }
}

fn strict(mut connections: Value) -> Value {
    connections["typed_config"]["http_protocol_options"]["accept_http_10"] = json!(false);
    connections
}

/// Lets everything in that Envoy can let in.
fn open(mut connections: Value) -> Value {
    let manager = &mut connections["typed_config"];
    let virtual_hosts = manager["route_config"]["virtual_hosts"].as_array_mut();
    let terminated = json!({
        "name": "terminated",
        "domains": ["db.example.com"],
        "routes": [{
            "match": {"connect_matcher": {}},
            "route": {
                "cluster": "tunnel-end",
                "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}],
            },
        }],
    });
    virtual_hosts
        .expect("a connection manager has virtual hosts")
        .push(terminated);
    connections
}

fn tcp(name: &str, connections: &Value, transport_socket: Option<&Value>) -> Value {
    let mut chain = json!({"filters": [connections]});
    let mut listener = json!({
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        // Istio calls gateways outbound.
        "traffic_direction": "OUTBOUND",
    });
    if let Some(transport_socket) = transport_socket {
        chain["transport_socket"] = transport_socket.clone();
        listener["listener_filters"] = json!([{
            "name": "envoy.filters.listener.tls_inspector",
            "typed_config": {
                "@type": type_url("extensions.filters.listener.tls_inspector.v3.TlsInspector"),
            },
        }]);
    }
    listener["filter_chains"] = json!([chain]);
    listener
}

/// Connections speak the protocol of the request that they carry; HTTP/3 becomes HTTP/2.
fn cluster(name: &str, address: SocketAddr) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": type_url("extensions.upstreams.http.v3.HttpProtocolOptions"),
                "use_downstream_protocol_config": {
                    "http_protocol_options": {},
                    "http2_protocol_options": {"allow_connect": true},
                },
            },
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {
                "address": address.ip().to_string(),
                "port_value": address.port(),
            }}}}]}],
        },
    })
}
