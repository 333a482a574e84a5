//! What an Envoy is in the mesh: certificates, and SPIFFE IDs.

use std::path::PathBuf;

/// The files of a certificate chain and its private key (PEM), as Envoy sees them.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The certificate chain, leaf first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// What an Envoy is in the mesh: its credentials and the CA that it believes.
#[derive(Debug, Clone)]
pub struct MeshIdentity {
    /// The workload certificate with the SPIFFE ID.
    pub credentials: Credentials,
    /// The mesh's root certificate.
    pub ca: PathBuf,
}

/// The `spiffe://` URI of a principal, which is written without the scheme as in Istio.
pub fn spiffe_id(principal: &str) -> String {
    format!("spiffe://{principal}")
}
