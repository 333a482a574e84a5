//! The HTTP connection manager and its access log.

use serde_json::{Value, json};

use super::access_log::{AccessLog, Logged};
use super::cluster::MAX_CONCURRENT_STREAMS;
use super::position::Position;
use super::routes::{Route, route_config};
use super::type_url::type_url;
use crate::lab::envoy::Version;

/// One HTTP connection manager.
#[derive(Debug)]
pub struct HttpConnectionManager<'a> {
    /// The Envoy that runs it.
    pub envoy: Version,
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

impl HttpConnectionManager<'_> {
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
            // Without a default host: a request that names none is answered 400, and not decided as if
            // it had asked for another.
            "http_protocol_options": {"accept_http_10": true},
            "http2_protocol_options": {
                "max_concurrent_streams": MAX_CONCURRENT_STREAMS,
                "initial_stream_window_size": 65536,
                "initial_connection_window_size": 1_048_576,
            },
            "request_headers_timeout": "10s",
            "stream_idle_timeout": "300s",
            "upgrade_configs": [{"upgrade_type": "websocket"}],
        });
        self.position.apply(&mut manager);
        manager["access_log"] = json!([self.logged.requests(self.access_log)]);
        if let Some(tag) = self.logged.span_tag(self.envoy) {
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
