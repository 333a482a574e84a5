//! NGINX as the ingress of system components, the way ingress-nginx stands before a mesh.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::net::TcpStream;

use super::roles;
use crate::lab::child::{ChildProcess, describe_exit};
use crate::lab::config::identity::MeshIdentity;
use crate::lab::nginx;

const READY_TIMEOUT: Duration = Duration::from_secs(10);
const STOP_GRACE: Duration = Duration::from_secs(3);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A running NGINX; it ends with this value and with this process.
#[derive(Debug)]
pub struct Nginx {
    address: SocketAddr,
    process: ChildProcess,
}

/// What NGINX needs to know.
#[derive(Debug)]
pub(super) struct NginxOptions<'a> {
    /// Where it listens; the port is reserved.
    pub address: SocketAddr,
    /// The inbound listener of the system component's sidecar.
    pub upstream: SocketAddr,
    /// The host name of that service: the SNI, and the DNS name that its certificate must have.
    pub upstream_host: &'a str,
    /// NGINX' own identity.
    pub identity: &'a MeshIdentity,
    /// Its folder, which is created: the configuration and everything that it writes.
    pub folder: &'a Path,
}

impl Nginx {
    /// Starts the `program` and waits until it listens.
    pub(super) async fn start(program: &Path, options: &NginxOptions<'_>) -> anyhow::Result<Self> {
        let folder = options.folder;
        let location = nginx::mutual_tls(
            &options.upstream.to_string(),
            options.upstream_host,
            options.identity,
            Some(roles::NGINX.into()),
        );
        let arguments = nginx::prepare(folder, &options.address.to_string(), &location)?;
        let log = folder.join("nginx.log");
        let mut command = Command::new(program);
        command.args(arguments);
        let mut nginx = Self {
            address: options.address,
            process: ChildProcess::spawn(command, &log)?,
        };
        nginx.await_listening().await.with_context(|| {
            format!("NGINX did not start; its files are in {}", folder.display())
        })?;
        Ok(nginx)
    }

    /// Where it serves HTTP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.process.stop(STOP_GRACE).await?;
        Ok(())
    }

    async fn await_listening(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            if let Some(status) = self.process.try_wait()? {
                let log = fs::read_to_string(self.process.log_path()).unwrap_or_default();
                bail!("it {}: {}", describe_exit(status), log.trim());
            }
            // The reservation of the port does not listen, so only NGINX can accept this.
            match TcpStream::connect(self.address).await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= deadline => {
                    return Err(error).context(format!("{} does not answer", self.address));
                }
                Err(_) => tokio::time::sleep(POLL_INTERVAL).await,
            }
        }
    }
}
