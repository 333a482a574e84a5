//! NGINX as the ingress of system components, the way ingress-nginx stands before a mesh.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::net::TcpStream;

use super::roles;
use crate::lab::child::{ChildProcess, describe_exit};
use crate::lab::config::identity::MeshIdentity;

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

/// The program, from the PATH or where Debian keeps it, which is not on every user's PATH.
pub(super) fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join("nginx"))
        .find(|candidate| candidate.is_file())
}

impl Nginx {
    /// Starts the `program` and waits until it listens.
    pub(super) async fn start(program: &Path, options: &NginxOptions<'_>) -> anyhow::Result<Self> {
        let folder = options.folder;
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let configuration = folder.join("nginx.conf");
        fs::write(&configuration, render(options))
            .with_context(|| format!("cannot write {}", configuration.display()))?;
        let log = folder.join("nginx.log");
        let mut command = Command::new(program);
        command
            .arg("-e")
            .arg(folder.join("error.log"))
            .arg("-p")
            .arg(folder)
            .arg("-c")
            .arg(&configuration);
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

/// The configuration: one process, so that it dies with its parent; every path in the folder.
///
/// `x-forwarded-for` is appended to, and all other headers pass, as with ingress-nginx'
/// `compute-full-forwarded-for`: what a client forges gets as far as it can.
fn render(options: &NginxOptions<'_>) -> String {
    let NginxOptions {
        address,
        upstream,
        upstream_host,
        identity,
        folder,
    } = options;
    let quoted = |path: &Path| format!("\"{}\"", path.display());
    let temporary = |name: &str| quoted(&folder.join(name));
    let certificate = quoted(&identity.credentials.certificate);
    let key = quoted(&identity.credentials.key);
    let ca = quoted(&identity.ca);
    let pid = temporary("nginx.pid");
    let access_log = temporary("access.log");
    let [body, proxy, fastcgi, uwsgi, scgi] =
        ["body", "proxy", "fastcgi", "uwsgi", "scgi"].map(temporary);
    let source = roles::NGINX;
    format!(
        r#"daemon off;
master_process off;
worker_processes 1;
pid {pid};
events {{ worker_connections 512; }}
http {{
    access_log {access_log};
    client_body_temp_path {body};
    proxy_temp_path {proxy};
    fastcgi_temp_path {fastcgi};
    uwsgi_temp_path {uwsgi};
    scgi_temp_path {scgi};
    server {{
        listen {address} reuseport;
        server_name _;
        location / {{
            proxy_pass https://{upstream};
            proxy_http_version 1.1;
            proxy_bind {source};
            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_ssl_certificate {certificate};
            proxy_ssl_certificate_key {key};
            proxy_ssl_trusted_certificate {ca};
            proxy_ssl_verify on;
            proxy_ssl_server_name on;
            proxy_ssl_name {upstream_host};
        }}
    }}
}}
"#
    )
}
