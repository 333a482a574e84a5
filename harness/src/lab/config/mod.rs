//! Envoy's v3 configuration as JSON values: each piece of it is built in one place.
//!
//! The pieces ([`listener`], [`http_connection_manager`], [`cluster`], [`tls`], [`wasm`],
//! [`look_alikes`], [`stats`]) know Envoy; the roles ([`ingress`], [`egress`], [`sidecar`]) put them
//! together into the bootstrap of one Envoy. The local topology and `meridian render envoy` both start
//! from the roles, so what is rendered is what is tested. Nothing here opens a socket, reads a file or
//! knows an address of its own.

pub mod access_log;
mod address;
mod bootstrap;
pub mod cluster;
pub mod dynamic_forward_proxy;
pub mod egress;
pub mod http_connection_manager;
pub mod identity;
pub mod ingress;
pub mod listener;
pub mod look_alikes;
mod metrics;
pub mod passthrough;
pub mod position;
pub mod routes;
pub mod sidecar;
pub mod stats;
pub mod tls;
mod type_url;
pub mod wasm;

pub use address::Address;
pub use bootstrap::{Proxy, bootstrap};
pub(crate) use type_url::type_url;
