//! The local topology: a small mesh of real Envoys on the loopback network, and the world around it.
//!
//! ```text
//! outside client ──> ingress gateway ══> sidecar ──> workload          ── plaintext
//!        └─────────> NGINX ═══════════> sidecar ──> console            ══ mutual TLS
//!                    workload ──> sidecar ══> sidecar ──> workload
//!                                    ╚════> egress gateway ──> outside server
//! ```
//!
//! Routes let everything through on purpose: only the filters refuse. Who is who is in [`roles`];
//! ports are the kernel's choice.

mod certificates;
pub mod client;
mod description;
mod nginx;
mod ports;
pub mod raw;
mod reply;
pub mod roles;
mod running;
mod servers;
mod start;
mod stream;
mod tls;
mod watch_over;

pub use certificates::{Certificates, Identity, read_certificate};
pub use client::Call;
pub use description::Description;
pub use nginx::Nginx;
pub use ports::Doors;
pub use reply::Reply;
pub use running::{EgressGateway, IngressGateway, Topology, WorkloadSidecar};
pub use servers::{Arrival, Arrivals, FETCH, Server};
pub use start::TopologyOptions;
pub use stream::Stream;
pub use tls::Tls;
pub use watch_over::OnEnd;
