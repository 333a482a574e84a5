//! The access log: one JSON object a line, with the decision of the filter beside what Envoy knows.

use std::path::PathBuf;

use meridian_policy::{Tags, Vantage};
use serde_json::{Map, Value, json};

use super::type_url::type_url;
use crate::lab::envoy::Version;

/// Where an access log goes.
#[derive(Debug, Clone)]
pub enum AccessLog {
    /// Envoy's stdout.
    Stdout,
    /// A file, which Envoy creates.
    File(PathBuf),
}

/// The tag of a span that carries the direction.
pub const SPAN_TAG: &str = "traffic.direction";

/// What the spans of `envoy` lack, in a sentence.
pub fn spans_lack(envoy: Version, tags: &Tags) -> Option<&'static str> {
    (tags.filter_state && !envoy.has_span_tag_values()).then_some(
        "Spans carry the direction of the tag header, and `unknown` for refused requests, which have none: \
         before Envoy 1.37 a span cannot tell the filter state.",
    )
}

/// What a log tells of a decision, and where a field of it comes from.
///
/// With `tags.filterState` the filter tells all; without, the tag headers of what was allowed are there,
/// and the details name the rule of what was refused.
const DECISION: [&str; 9] = [
    "reporter",
    "direction",
    "evidence",
    "component_type",
    "decision",
    "rule",
    "dry_run",
    "host",
    "port",
];

impl AccessLog {
    /// Envoy's `AccessLog` that writes `format`.
    fn to_config(&self, format: &Value) -> Value {
        let (name, message) = match self {
            Self::Stdout => ("stdout", "stream.v3.StdoutAccessLog"),
            Self::File(_) => ("file", "file.v3.FileAccessLog"),
        };
        let mut config = json!({
            "@type": type_url(&format!("extensions.access_loggers.{message}")),
            "log_format": {"json_format": format},
        });
        if let Self::File(path) = self {
            config["path"] = json!(path);
        }
        json!({"name": format!("envoy.access_loggers.{name}"), "typed_config": config})
    }
}

/// Whose log it is.
#[derive(Debug, Clone)]
pub struct Logged<'l> {
    /// The proxy's name; Envoy's command operators may stand in it.
    pub proxy: &'l str,
    /// The namespace of its workload.
    pub namespace: &'l str,
    /// The tags of the filter's policy; `None` for a proxy that runs none.
    pub tags: Option<&'l Tags>,
    /// Where the filter stands; `None` where one format serves all proxies.
    pub vantage: Option<Vantage>,
    /// The name of the listener.
    pub listener: &'l str,
}

impl Logged<'_> {
    /// The log of HTTP requests.
    pub fn requests(&self, log: &AccessLog) -> Value {
        log.to_config(&self.request_format())
    }

    /// The fields of a request's line.
    pub fn request_format(&self) -> Value {
        let mut line = self.decision(true);
        line.extend(fields(json!({
            "listener": self.listener,
            "method": "%REQ(:METHOD)%",
            "authority": "%REQ(:AUTHORITY)%",
            "path": "%REQ(:PATH)%",
            "protocol": "%PROTOCOL%",
            "status": "%RESPONSE_CODE%",
            // For a refusal the filter's reason, with the rule: `meridian_deny{RULE}`.
            "details": "%RESPONSE_CODE_DETAILS%",
        })));
        line.extend(fields(json!({
            "sni": "%REQUESTED_SERVER_NAME%",
            "request_id": "%REQ(X-REQUEST-ID)%",
        })));
        line.extend(both_ends());
        Value::Object(line)
    }

    /// The log of connections that pass unread.
    pub fn connections(&self, log: &AccessLog) -> Value {
        let mut line = self.decision(false);
        line.extend(fields(json!({
            "listener": self.listener,
            "sni": "%REQUESTED_SERVER_NAME%",
            // For a refusal the filter's reason, with the rule: `meridian_deny{RULE}`.
            "details": "%FILTER_STATE(wasm.meridian_details:PLAIN)%",
        })));
        line.extend(both_ends());
        log.to_config(&Value::Object(line))
    }

    /// The tag for the spans of requests, a `CustomTag` of Envoy's: the direction out of the filter
    /// state, or where that is not there or `envoy` cannot read it for a span, out of the tag header,
    /// which a refused request does not have.
    pub fn span_tag(&self, envoy: Version) -> Option<Value> {
        let tags = self.tags?;
        Some(if tags.filter_state && envoy.has_span_tag_values() {
            json!({"tag": SPAN_TAG, "value": "%CEL(filter_state['wasm.meridian'].direction)%"})
        } else {
            let header = &tags.direction_header;
            json!({"tag": SPAN_TAG, "request_header": {"name": header, "default_value": "unknown"}})
        })
    }

    fn decision(&self, is_request: bool) -> Map<String, Value> {
        let mut line = fields(json!({
            "time": "%START_TIME%",
            "proxy": self.proxy,
            "namespace": self.namespace,
        }));
        let Some(tags) = self.tags else {
            return line;
        };
        for field in DECISION {
            let value = match field {
                "component_type" if !is_request => continue,
                // A constant, so that the line tells it of a request that no filter saw.
                "reporter" if self.vantage.is_some() => {
                    self.vantage.map(|vantage| vantage.as_str().to_owned())
                }
                _ if tags.filter_state => {
                    Some(format!("%CEL(filter_state['wasm.meridian'].{field})%"))
                }
                "dry_run" => Some("%FILTER_STATE(wasm.meridian_dry_run:PLAIN)%".to_owned()),
                _ if is_request => header(tags, field).map(|header| format!("%REQ({header})%")),
                _ => None,
            };
            if let Some(value) = value {
                line.insert(field.to_owned(), json!(value));
            }
        }
        line
    }
}

/// What the lines of requests and of connections tell of both ends.
fn both_ends() -> Map<String, Value> {
    fields(json!({
        "flags": "%RESPONSE_FLAGS%",
        "duration_ms": "%DURATION%",
        "received_bytes": "%BYTES_RECEIVED%",
        "sent_bytes": "%BYTES_SENT%",
        // Why Envoy itself ended the connection.
        "termination": "%CONNECTION_TERMINATION_DETAILS%",
        "source": "%DOWNSTREAM_REMOTE_ADDRESS%",
        "peer": "%DOWNSTREAM_PEER_URI_SAN%",
        // What was dialled.
        "destination": "%DOWNSTREAM_LOCAL_ADDRESS%",
        // Its own name: `%UPSTREAM_CLUSTER%` is the one for statistics, which Istio changes.
        "cluster": "%UPSTREAM_CLUSTER_RAW%",
        // What Istio's registry knows of the cluster: its services, and whether they are outside.
        "services": "%METADATA(CLUSTER:istio:services)%",
        "external": "%METADATA(CLUSTER:istio:external)%",
        "upstream": "%UPSTREAM_HOST%",
    }))
}

/// The header that carries a field.
fn header<'t>(tags: &'t Tags, field: &str) -> Option<&'t str> {
    match field {
        "direction" => Some(&tags.direction_header),
        "component_type" => tags.component_header.as_deref(),
        "evidence" => tags.evidence_header.as_deref(),
        _ => None,
    }
}

fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
