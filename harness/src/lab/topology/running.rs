//! A topology that runs: its parts, and how it ends.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tokio::task::JoinSet;

use super::certificates::Certificates;
use super::nginx::Nginx;
use super::ports::{Doors, Ports};
use super::roles::Workload;
use super::servers::{Arrivals, Server};
use crate::lab::envoy::{Envoy, RunFolder};

/// The folder of the discovered filters in the run folder.
pub(super) const FILTERS: &str = "filters";

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
    pub(super) workloads: BTreeMap<&'static str, Server>,
    pub(super) outside: BTreeMap<&'static str, Server>,
    // Kept for their serving alone: the same servers by TLS.
    pub(super) _workloads_tls: BTreeMap<&'static str, Server>,
    pub(super) _outside_tls: BTreeMap<&'static str, Server>,
    pub(super) arrivals: Arrivals,
    // Both outlive the processes above: fields are dropped in this order.
    pub(super) _ports: Ports,
    pub(super) run: RunFolder,
}

impl Topology {
    /// The sidecar of a workload of [`super::roles`].
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

    /// The folder of the filters, where the Envoys discover them from files.
    pub fn filters(&self) -> PathBuf {
        self.run.path().join(FILTERS)
    }

    /// The folder with this run's bootstraps, logs, configuration dumps and certificates.
    pub fn run_folder(&self) -> &Path {
        self.run.path()
    }

    /// Ends everything, each Envoy by SIGTERM so that it flushes its access log.
    ///
    /// # Errors
    /// If an Envoy or NGINX had ended before, by a crash for example: names all that had. The others
    /// are ended all the same.
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
        let mut failed = Vec::new();
        while let Some(ended) = ending.join_next().await {
            if let Err(error) = ended
                .context("a task that ends a process panicked")
                .flatten()
            {
                failed.push(format!("{error:#}"));
            }
        }
        if !failed.is_empty() {
            failed.sort();
            bail!("{}", failed.join("\n"));
        }
        Ok(())
    }
}
