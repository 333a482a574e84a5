//! Listeners and their filter chains.

use serde_json::{Value, json};

use super::address::Address;
use super::identity::MeshIdentity;
use super::tls::{self, ClientCertificate};
use super::type_url::type_url;

/// Whose requests a listener takes, seen from the workload beside it. Istio calls the listeners
/// of its gateways outbound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrafficDirection {
    /// To the workload.
    Inbound,
    /// From the workload, or through a gateway.
    Outbound,
}

/// Who may connect to a listener that serves the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerAuthentication {
    /// Mutual TLS alone.
    Strict,
    /// Mutual TLS, and plaintext from callers without an identity: Istio's PERMISSIVE.
    Permissive,
}

/// One listener.
#[derive(Debug)]
pub struct Listener<'a> {
    /// Its name.
    pub name: &'a str,
    /// The exact addresses it listens on, at least one.
    pub addresses: &'a [Address],
    /// The direction that filters read as `xds.listener_direction`.
    pub direction: TrafficDirection,
    /// Its filter chains, from [`plaintext`] or [`mesh`], by what TLS says, or with a transport socket from
    /// [`tls::downstream`].
    pub filter_chains: Vec<Value>,
}

impl Listener<'_> {
    /// Envoy's `Listener`. The TLS inspector is there if a filter chain takes TLS or is
    /// chosen by it.
    pub fn to_config(&self) -> Value {
        let mut addresses = self.addresses.iter().map(Address::to_config);
        let mut listener = json!({
            "name": self.name,
            "address": addresses.next(),
        });
        let additional: Vec<Value> = addresses
            .map(|address| json!({"address": address}))
            .collect();
        if !additional.is_empty() {
            listener["additional_addresses"] = json!(additional);
        }
        listener["traffic_direction"] = json!(match self.direction {
            TrafficDirection::Inbound => "INBOUND",
            TrafficDirection::Outbound => "OUTBOUND",
        });
        listener["per_connection_buffer_limit_bytes"] = json!(32768);
        // Filters read the SNI that the inspector found; Envoy does not take it from the connection
        // that it terminates, and without it no mismatch with the authority would be seen.
        let inspects = |chain: &Value| {
            !chain["filter_chain_match"].is_null() || !chain["transport_socket"].is_null()
        };
        if self.filter_chains.iter().any(inspects) {
            listener["listener_filters"] = json!([{
                "name": "envoy.filters.listener.tls_inspector",
                "typed_config": {
                    "@type": type_url("extensions.filters.listener.tls_inspector.v3.TlsInspector"),
                },
            }]);
        }
        listener["filter_chains"] = json!(self.filter_chains);
        listener
    }
}

/// A filter chain for every connection, without TLS.
pub fn plaintext(connections: &Value) -> Value {
    json!({"name": "plaintext", "filters": [connections]})
}

/// A filter chain for TLS connections to `transport_socket`.
///
/// Only for what the TLS inspector took for TLS: of a ClientHello that it cannot read, such as one over
/// 16 KiB in small records, a filter sees no server name, but TLS would end here all the same.
pub fn terminated(transport_socket: Value, connections: &Value) -> Value {
    json!({
        "name": "tls",
        "filter_chain_match": {"transport_protocol": "tls"},
        "filters": [connections],
        "transport_socket": transport_socket,
    })
}

/// The filter chains that callers inside the mesh connect to.
pub fn mesh(
    identity: &MeshIdentity,
    authentication: PeerAuthentication,
    connections: &Value,
) -> Vec<Value> {
    let mutual_tls = tls::downstream(
        &identity.credentials,
        &identity.ca,
        ClientCertificate::Required,
    );
    match authentication {
        PeerAuthentication::Strict => vec![json!({
            "name": "mtls",
            "filters": [connections],
            "transport_socket": mutual_tls,
        })],
        PeerAuthentication::Permissive => vec![
            json!({
                "name": "mtls",
                "filter_chain_match": {"transport_protocol": "tls"},
                "filters": [connections],
                "transport_socket": mutual_tls,
            }),
            json!({
                "name": "plaintext",
                "filter_chain_match": {"transport_protocol": "raw_buffer"},
                "filters": [connections],
            }),
        ],
    }
}
