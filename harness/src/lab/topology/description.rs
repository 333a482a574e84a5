//! Where everything of a topology listens, for people and programs.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;

use super::running::Topology;
use super::servers::Server;

/// Where everything listens; as JSON, what `meridian up --json` prints.
#[derive(Debug, Clone, Serialize)]
pub struct Description {
    /// True: a topology that is described is ready.
    pub ready: bool,
    /// The run folder.
    pub run: PathBuf,
    /// The ingress gateway.
    pub ingress: Ingress,
    /// The egress gateway.
    pub egress: Egress,
    /// The sidecars, by their workloads' names.
    pub sidecars: BTreeMap<String, Sidecar>,
    /// NGINX, or null where it is not installed.
    pub nginx: Option<Nginx>,
    /// The servers outside by host, with `*` for the one that answers for all other hosts.
    pub outside: BTreeMap<String, SocketAddr>,
    /// The workloads themselves, behind their sidecars.
    pub workloads: BTreeMap<String, SocketAddr>,
    /// The folder of the certificates.
    pub certificates: PathBuf,
}

/// The ingress gateway's addresses.
#[derive(Debug, Clone, Serialize)]
pub struct Ingress {
    /// Envoy's admin.
    pub admin: SocketAddr,
    /// For HTTP.
    pub http: SocketAddr,
    /// For HTTPS.
    pub https: SocketAddr,
    /// For TLS and TCP that pass on unread.
    pub tls_passthrough: SocketAddr,
}

/// The egress gateway's addresses.
#[derive(Debug, Clone, Serialize)]
pub struct Egress {
    /// Envoy's admin.
    pub admin: SocketAddr,
    /// For HTTP, by mutual TLS or in plaintext.
    pub http: SocketAddr,
    /// For TLS and TCP that pass on unread.
    pub tls_passthrough: SocketAddr,
}

/// A sidecar's addresses.
#[derive(Debug, Clone, Serialize)]
pub struct Sidecar {
    /// Envoy's admin.
    pub admin: SocketAddr,
    /// For callers, by mutual TLS or in plaintext.
    pub inbound: SocketAddr,
    /// For the workload's own requests.
    pub outbound: SocketAddr,
}

/// NGINX' address.
#[derive(Debug, Clone, Serialize)]
pub struct Nginx {
    /// For HTTP.
    pub http: SocketAddr,
}

impl Topology {
    /// Where everything listens.
    pub fn describe(&self) -> Description {
        Description::of(self)
    }
}

impl Description {
    fn of(topology: &Topology) -> Self {
        let addresses = |servers: &BTreeMap<&'static str, Server>| {
            servers
                .iter()
                .map(|(name, server)| ((*name).to_owned(), server.address()))
                .collect()
        };
        let sidecars = topology.sidecars.iter().map(|(name, sidecar)| {
            let sidecar = Sidecar {
                admin: sidecar.envoy.admin(),
                inbound: sidecar.inbound.v4,
                outbound: sidecar.outbound.v4,
            };
            ((*name).to_owned(), sidecar)
        });
        Self {
            ready: true,
            run: topology.run_folder().to_path_buf(),
            ingress: Ingress {
                admin: topology.ingress.envoy.admin(),
                http: topology.ingress.http.v4,
                https: topology.ingress.https.v4,
                tls_passthrough: topology.ingress.tls_passthrough.v4,
            },
            egress: Egress {
                admin: topology.egress.envoy.admin(),
                http: topology.egress.http.v4,
                tls_passthrough: topology.egress.tls_passthrough.v4,
            },
            sidecars: sidecars.collect(),
            nginx: topology.nginx.as_ref().map(|nginx| Nginx {
                http: nginx.address(),
            }),
            outside: addresses(&topology.outside),
            workloads: addresses(&topology.workloads),
            certificates: topology.certificates.folder().to_path_buf(),
        }
    }
}

/// One line with the addresses to start from.
impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ready: ingress http://{} https://{} passthrough {}",
            self.ingress.http, self.ingress.https, self.ingress.tls_passthrough
        )?;
        if let Some(nginx) = &self.nginx {
            write!(f, ", nginx http://{}", nginx.http)?;
        }
        write!(
            f,
            ", egress {} passthrough {}",
            self.egress.http, self.egress.tls_passthrough
        )?;
        for (name, sidecar) in &self.sidecars {
            write!(
                f,
                ", {name} in {} out {}",
                sidecar.inbound, sidecar.outbound
            )?;
        }
        write!(f, "; files in {}", self.run.display())
    }
}
