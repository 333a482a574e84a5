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
pub mod roles;
mod servers;
mod start;
mod tls;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::task::JoinSet;

pub use certificates::{Certificates, Identity};
pub use client::{Call, Reply};
pub use description::Description;
pub use nginx::Nginx;
pub use ports::Doors;
pub use servers::{Arrival, Arrivals, Server};
pub use tls::Tls;

use crate::lab::config::wasm::Filters;
use crate::lab::envoy::{Envoy, RunFolder};
use ports::Ports;
use roles::Workload;

/// What a topology is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The name of the run, and so of its folder.
    pub run: String,
    /// The Envoy binary.
    pub envoy: PathBuf,
    /// The filters of every Envoy, or `None` for the same topology without any.
    pub filters: Option<Filters>,
}

/// The ingress gateway.
#[derive(Debug)]
pub struct IngressGateway {
    /// Its Envoy.
    pub envoy: Envoy,
    /// Where it serves HTTP.
    pub http: Doors,
    /// Where it serves HTTPS.
    pub https: Doors,
    /// Where it passes TLS and TCP on unread: to the workload `shop`, whatever the server name.
    pub tls_passthrough: Doors,
}

/// The egress gateway.
#[derive(Debug)]
pub struct EgressGateway {
    /// Its Envoy.
    pub envoy: Envoy,
    /// Where it serves the mesh, by mutual TLS or in plaintext.
    pub http: Doors,
    /// Where it passes TLS and TCP on unread, to the server outside that the server name says.
    pub tls_passthrough: Doors,
}

/// A workload's sidecar.
#[derive(Debug)]
pub struct WorkloadSidecar {
    /// Its workload.
    pub workload: Workload,
    /// Its Envoy.
    pub envoy: Envoy,
    /// Where callers reach the workload, by mutual TLS or in plaintext.
    pub inbound: Doors,
    /// Where the workload sends its requests, in plaintext.
    pub outbound: Doors,
}

/// A running topology. Every process and server of it ends with this value.
#[derive(Debug)]
pub struct Topology {
    /// The ingress gateway.
    pub ingress: IngressGateway,
    /// The egress gateway.
    pub egress: EgressGateway,
    /// The sidecars, by their workloads' names.
    pub sidecars: BTreeMap<&'static str, WorkloadSidecar>,
    /// NGINX, where it is installed.
    pub nginx: Option<Nginx>,
    /// The certificates of the run.
    pub certificates: Certificates,
    workloads: BTreeMap<&'static str, Server>,
    outside: BTreeMap<&'static str, Server>,
    // Kept for their serving alone: the same servers by TLS.
    _workloads_tls: BTreeMap<&'static str, Server>,
    _outside_tls: BTreeMap<&'static str, Server>,
    arrivals: Arrivals,
    // Both outlive the processes above: fields are dropped in this order.
    _ports: Ports,
    run: RunFolder,
}

impl Topology {
    /// Starts everything and returns once all of it answers.
    ///
    /// # Errors
    /// If a part does not start, say because a filter refuses the policy: the error names the
    /// part, the reason and the run folder, and nothing is left running.
    pub async fn start(options: &Options) -> anyhow::Result<Self> {
        let run = RunFolder::create(&options.run)?;
        let folder = run.path().to_path_buf();
        start::start(run, options).await.with_context(|| {
            format!(
                "the topology did not start; its run is in {}",
                folder.display()
            )
        })
    }

    /// The sidecar of a workload of [`roles`].
    pub fn sidecar(&self, workload: &Workload) -> &WorkloadSidecar {
        &self.sidecars[workload.name]
    }

    /// What arrived at the workloads and the servers outside.
    pub fn arrivals(&self) -> &Arrivals {
        &self.arrivals
    }

    /// Every Envoy: ingress, egress, and the sidecars by name.
    pub fn envoys(&self) -> impl Iterator<Item = &Envoy> {
        [&self.ingress.envoy, &self.egress.envoy]
            .into_iter()
            .chain(self.sidecars.values().map(|sidecar| &sidecar.envoy))
    }

    /// The folder with this run's bootstraps, logs, configuration dumps and certificates.
    pub fn run_folder(&self) -> &Path {
        self.run.path()
    }

    /// Where everything listens.
    pub fn describe(&self) -> Description {
        Description::of(self)
    }

    /// Ends everything, each Envoy by SIGTERM so that it flushes its access log.
    ///
    /// # Errors
    /// If an Envoy had ended before, by a crash for example; the others are ended all the same.
    pub async fn stop(self) -> anyhow::Result<()> {
        let mut ending = JoinSet::new();
        ending.spawn(self.ingress.envoy.stop());
        ending.spawn(self.egress.envoy.stop());
        for sidecar in self.sidecars.into_values() {
            ending.spawn(sidecar.envoy.stop());
        }
        if let Some(nginx) = self.nginx {
            ending.spawn(nginx.stop());
        }
        let mut result = Ok(());
        while let Some(ended) = ending.join_next().await {
            result = result.and(ended.context("a task that ends a process panicked")?);
        }
        result
    }
}
