//! The docker compose project: who is who in it, on which addresses and ports. `meridian render
//! compose` writes it down, and the services of the project that run this program play in it.
//!
//! ```text
//!  host ──> 127.0.0.1:8080 ── outside ──> ingress ══> shop (sidecar, workload) ══> orders
//!       └─> 127.0.0.1:8081 ── outside ──> NGINX ════> console      ║
//!                             outside <── egress <══════════════════╝
//! ```
//!
//! The network `inside` has no way out, so that outside is reached through the egress gateway alone.

mod certificates;
mod networks;

pub use certificates::{CERTIFICATE_FOLDERS, SERVERS, write_certificates};
pub use networks::Networks;

/// The ingress gateway's port for HTTP, and NGINX'.
pub const HTTP_PORT: u16 = 8080;
/// The ingress gateway's port for HTTPS, a workload's own port for TLS, and the egress gateway's port
/// for mutual TLS.
pub const TLS_PORT: u16 = 8443;
/// A gateway's port for TLS that passes on unread.
pub const PASSTHROUGH_PORT: u16 = 15443;
/// A sidecar's port for requests to its workload.
pub const INBOUND_PORT: u16 = 15006;
/// A sidecar's port for requests of its workload, on the loopback address alone.
pub const OUTBOUND_PORT: u16 = 15001;
/// A workload's own port, on the loopback address alone.
pub const WORKLOAD_PORT: u16 = 8080;
/// Envoy's admin, on the loopback address alone.
pub const ADMIN_PORT: u16 = 15000;
/// Where every Envoy serves its metrics, and nothing else: the port that Istio's proxies have for it.
pub const METRICS_PORT: u16 = 15090;
/// Prometheus.
pub const PROMETHEUS_PORT: u16 = 9090;
/// Grafana.
pub const GRAFANA_PORT: u16 = 3000;
