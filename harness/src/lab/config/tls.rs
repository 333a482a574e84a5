//! TLS contexts: mutual TLS inside the mesh, and the public side of the ingress gateway.

use serde_json::{Value, json};

use super::identity::{Credentials, MeshIdentity, spiffe_id};
use super::type_url::type_url;

/// Whether a client must show a certificate. One that is shown must be of the mesh in both cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificate {
    /// Mutual TLS.
    Required,
    /// TLS for everybody; a client of the mesh may say who it is.
    Optional,
}

/// A listener's transport socket that shows `credentials` and checks the client's certificate
/// against the mesh's CA.
pub fn downstream(
    credentials: &Credentials,
    mesh_ca: &std::path::Path,
    client: ClientCertificate,
) -> Value {
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": type_url("extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
            "require_client_certificate": client == ClientCertificate::Required,
            "common_tls_context": {
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificates": [certificate(credentials)],
                "validation_context": {"trusted_ca": {"filename": mesh_ca}},
            },
        },
    })
}

/// A cluster's transport socket for mutual TLS with the workload `principal` alone: a certificate
/// of the mesh with another SPIFFE ID is refused.
///
/// No ALPN is offered, so that each connection speaks what its requests came in.
pub fn upstream(identity: &MeshIdentity, sni: &str, principal: &str) -> Value {
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": type_url("extensions.transport_sockets.tls.v3.UpstreamTlsContext"),
            "sni": sni,
            "common_tls_context": {
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                "tls_certificates": [certificate(&identity.credentials)],
                "validation_context": {
                    "trusted_ca": {"filename": identity.ca},
                    "match_typed_subject_alt_names": [{
                        "san_type": "URI",
                        "matcher": {"exact": spiffe_id(principal)},
                    }],
                },
            },
        },
    })
}

fn certificate(credentials: &Credentials) -> Value {
    json!({
        "certificate_chain": {"filename": credentials.certificate},
        "private_key": {"filename": credentials.key},
    })
}
