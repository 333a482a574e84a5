//! A real Istio on one machine, without a container or a kubelet: etcd, kube-apiserver, istiod, an OCI
//! registry, and in each pod's network namespace an agent with its Envoy. No packet leaves it.
//!
//! [`Mesh::start`] brings it up. What a kubelet would do is done here, once: pods are written as
//! objects, with their addresses; a service's endpoints are its pods; nothing is restarted.

mod agent;
mod api;
mod control_plane;
mod description;
mod links;
mod mesh_config;
mod mounts;
mod objects;
pub mod roles;
mod running;
mod start;
mod tools;

/// Gateways, routes, and the world outside, as manifests: `examples/istio/routes.yaml`.
pub const ROUTES: &str = include_str!("../../../../examples/istio/routes.yaml");

pub use api::Api;
pub use description::{Description, PodDescription};
pub use mounts::RUN;
pub use running::{Mesh, MeshNginx, Pod};
pub use start::MeshOptions;
pub use tools::{Missing, Tools, missing};
