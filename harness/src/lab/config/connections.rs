//! The HTTP connection manager, its access log and how it treats what clients claim.

use serde_json::{Value, json};

use super::access_log::{AccessLog, Logged};
use super::routes::{Route, route_config};
use super::type_url;

/// Where in the mesh a connection manager stands; it decides what Envoy believes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// An ingress gateway: paths are made canonical, and the client's address is appended to
    /// `x-forwarded-for`.
    Ingress,
    /// An egress gateway: paths are made canonical, and what the mesh says of itself is left out.
    Egress,
    /// A sidecar before its workload.
    Inbound,
    /// A sidecar behind its workload: a request passes as the workload wrote it.
    Outbound,
}

/// One HTTP connection manager.
#[derive(Debug)]
pub struct Connections<'a> {
    /// The prefix of its statistics, the name of its routes, and `listener` in the access log.
    pub name: &'a str,
    /// Where it stands.
    pub position: Position,
    /// Where its access log goes.
    pub access_log: &'a AccessLog,
    /// Whose log it is.
    pub logged: Logged<'a>,
    /// The HTTP filters before the router, in order.
    pub filters: &'a [Value],
    /// Its virtual hosts.
    pub routes: &'a [Route],
}

impl Connections<'_> {
    /// The network filter, with the router as the last HTTP filter.
    pub fn to_config(&self) -> Value {
        let mut filters = self.filters.to_vec();
        let mut router = json!({"@type": type_url("extensions.filters.http.router.v3.Router")});
        if self.position == Position::Egress {
            router["suppress_envoy_headers"] = json!(true);
        }
        filters.push(json!({"name": "envoy.filters.http.router", "typed_config": router}));
        let mut manager = json!({
            "@type": type_url("extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": self.name,
            "codec_type": "AUTO",
            "common_http_protocol_options": {"idle_timeout": "3600s"},
            "http2_protocol_options": {
                "max_concurrent_streams": 100,
                "initial_stream_window_size": 65536,
                "initial_connection_window_size": 1_048_576,
            },
            "request_headers_timeout": "10s",
            "stream_idle_timeout": "300s",
            "upgrade_configs": [{"upgrade_type": "websocket"}],
        });
        self.position.apply(&mut manager);
        manager["access_log"] = json!([self.logged.requests(self.access_log)]);
        if let Some(tag) = self.logged.span_tag() {
            // Without a provider no span is sent; with one each carries the tag.
            manager["tracing"] = json!({"custom_tags": [tag]});
        }
        manager["http_filters"] = json!(filters);
        manager["route_config"] = route_config(self.name, self.routes, self.position);
        json!({
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": manager,
        })
    }
}

impl Position {
    /// True if CONNECT passes: from the mesh to the outside. Towards a workload it would be a tunnel
    /// to it in which no filter sees a request.
    pub(super) fn takes_connect(self) -> bool {
        matches!(self, Self::Egress | Self::Outbound)
    }

    fn apply(self, manager: &mut Value) {
        if self.takes_connect() {
            manager["http2_protocol_options"]["allow_connect"] = json!(true);
            manager["upgrade_configs"] =
                json!([{"upgrade_type": "websocket"}, {"upgrade_type": "CONNECT"}]);
        }
        if self != Self::Outbound {
            // Many frameworks read `X_Traffic_Direction` and `X-Traffic-Direction` as one.
            manager["common_http_protocol_options"]["headers_with_underscores_action"] =
                json!("DROP_HEADER");
            manager["normalize_path"] = json!(true);
        }
        match self {
            Self::Ingress | Self::Egress => {
                manager["use_remote_address"] = json!(true);
                manager["merge_slashes"] = json!(true);
                if self == Self::Egress {
                    manager["skip_xff_append"] = json!(true);
                }
            }
            Self::Inbound => {
                // The source that a policy sees is the connection's. Envoy takes it from
                // `x-forwarded-for` instead, unless that has fewer addresses than there are trusted
                // proxies, and no header has this many. `use_remote_address` would do it too, but
                // rewrites `x-forwarded-proto`, and the workload wants the gateway's.
                manager["use_remote_address"] = json!(false);
                manager["xff_num_trusted_hops"] = json!(u32::MAX);
            }
            Self::Outbound => manager["use_remote_address"] = json!(false),
        }
    }
}
