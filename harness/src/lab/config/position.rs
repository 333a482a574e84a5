//! Where in the mesh a connection manager stands, and what Envoy believes of requests there.

use serde_json::{Value, json};

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

impl Position {
    /// True if CONNECT passes: from the mesh to the outside. Towards a workload it would be a tunnel
    /// to it in which no filter sees a request.
    pub(super) fn takes_connect(self) -> bool {
        matches!(self, Self::Egress | Self::Outbound)
    }

    /// Sets what Envoy believes of a request there in a connection manager's configuration.
    pub(super) fn apply(self, manager: &mut Value) {
        if self.takes_connect() {
            manager["http2_protocol_options"]["allow_connect"] = json!(true);
            manager["upgrade_configs"] =
                json!([{"upgrade_type": "websocket"}, {"upgrade_type": "CONNECT"}]);
        }
        if self != Self::Outbound {
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
