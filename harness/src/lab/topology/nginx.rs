//! NGINX as the ingress of system components, the way ingress-nginx stands before a mesh.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::net::TcpStream;

use super::roles;
use crate::lab::child::{ChildProcess, describe_exit, until_a_child_ends};
use crate::lab::config::identity::MeshIdentity;
use crate::lab::envoy::quote_log;
use crate::lab::nginx;

const READY_TIMEOUT: Duration = Duration::from_secs(10);
const STOP_GRACE: Duration = Duration::from_secs(3);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A running NGINX; it ends with this value and with this process.
#[derive(Debug)]
pub struct Nginx {
    address: SocketAddr,
    launch: Launch,
    life: Mutex<Life>,
}

/// What it is started from, as often as need be.
#[derive(Debug)]
struct Launch {
    program: PathBuf,
    arguments: [String; 6],
    folder: PathBuf,
}

/// The process, where its part of the error log begins, and whether its end has been told.
#[derive(Debug)]
struct Life {
    process: ChildProcess,
    errors_start: u64,
    is_end_told: bool,
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
        let launch = Launch {
            program: program.to_path_buf(),
            arguments,
            folder: folder.to_path_buf(),
        };
        let life = launch.run(options.address).await?;
        Ok(Self {
            address: options.address,
            launch,
            life: Mutex::new(life),
        })
    }

    /// Starts it again after it has ended, on the same port, and waits until it listens.
    pub(super) async fn restart(&self) -> anyhow::Result<()> {
        let life = self.launch.run(self.address).await?;
        *self.life() = life;
        Ok(())
    }

    /// Waits until it has ended by itself, and tells in a sentence how, with its last errors.
    pub(super) async fn ended(&self) -> anyhow::Result<String> {
        let status = until_a_child_ends(|| self.life().process.try_wait()).await?;
        let mut life = self.life();
        life.is_end_told = true;
        Ok(format!(
            "NGINX {}; its files are in {}{}",
            describe_exit(status),
            self.launch.folder.display(),
            quote_log(&self.launch.errors(), life.errors_start)
        ))
    }

    /// Where it serves HTTP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.life().process.id()
    }

    /// Ends it.
    ///
    /// # Errors
    /// If it had ended before.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        let Life {
            mut process,
            errors_start,
            is_end_told,
        } = self
            .life
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(status) = process.try_wait()? {
            let lines = match is_end_told {
                true => String::new(),
                false => quote_log(&self.launch.errors(), errors_start),
            };
            bail!(
                "NGINX {} before it was stopped; its files are in {}{lines}",
                describe_exit(status),
                self.launch.folder.display()
            );
        }
        process.stop(STOP_GRACE).await?;
        Ok(())
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Launch {
    /// The file that it writes its errors to, of all its lives.
    fn errors(&self) -> PathBuf {
        self.folder.join("error.log")
    }

    /// Starts it and waits until it listens at `address`.
    async fn run(&self, address: SocketAddr) -> anyhow::Result<Life> {
        let errors_start = fs::metadata(self.errors()).map_or(0, |errors| errors.len());
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        let mut process = ChildProcess::spawn(command, &self.folder.join("nginx.log"))?;
        await_listening(&mut process, address)
            .await
            .with_context(|| {
                let folder = self.folder.display();
                format!("NGINX did not start; its files are in {folder}")
            })?;
        Ok(Life {
            process,
            errors_start,
            is_end_told: false,
        })
    }
}

async fn await_listening(process: &mut ChildProcess, address: SocketAddr) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        if let Some(status) = process.try_wait()? {
            let lines = quote_log(process.log_path(), process.log_start());
            bail!("it {}{lines}", describe_exit(status));
        }
        // The reservation of the port does not listen, so only NGINX can accept this.
        match TcpStream::connect(address).await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() >= deadline => {
                return Err(error).context(format!("{address} does not answer"));
            }
            Err(_) => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}
