//! `meridian echo`: a server that answers with what arrived, as the workloads of the compose project
//! and the world outside of it.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueHint};

use crate::lab::topology::{Arrivals, Identity, Server};
use crate::runtime::{self, Signals};

/// How long `--probe` waits.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Answer every request with what arrived, in JSON, as a workload or a server outside
///
/// With --outbound, `GET /fetch/HOST/PATH` asks HOST through that proxy and answers with what came
/// back: so a workload makes requests of its own. Serves HTTP/1.1 and HTTP/2 until Ctrl-C or SIGTERM.
#[derive(Debug, Clone, Args)]
pub struct EchoArgs {
    /// The server's name, which stands in every answer
    #[arg(long, default_value = "echo")]
    pub name: String,
    /// Serve HTTP here
    #[arg(long, value_name = "ADDRESS:PORT", required_unless_present = "probe")]
    pub listen: Option<SocketAddr>,
    /// Serve HTTPS here, too
    #[arg(long, value_name = "ADDRESS:PORT", requires_all = ["certificate", "key"])]
    pub listen_tls: Option<SocketAddr>,
    /// The certificate for --listen-tls (PEM)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub certificate: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub key: Option<PathBuf>,
    /// The proxy for requests of its own: the sidecar's outbound listener
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub outbound: Option<SocketAddr>,
    /// Serve nothing: exit 0 if something accepts connections here, as a health check does
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with_all = ["listen", "listen_tls", "outbound"])]
    pub probe: Option<SocketAddr>,
}

/// Serves until SIGINT or SIGTERM, or probes.
///
/// # Errors
/// If an address is not to be had, or the certificate is none for a server; with `--probe`, if nothing
/// accepts connections there.
pub fn run(args: &EchoArgs) -> anyhow::Result<ExitCode> {
    if let Some(address) = args.probe {
        TcpStream::connect_timeout(&address, PROBE_TIMEOUT)
            .with_context(|| format!("nothing accepts connections at {address}"))?;
        return Ok(ExitCode::SUCCESS);
    }
    runtime::block_on(serve(args))
}

async fn serve(args: &EchoArgs) -> anyhow::Result<ExitCode> {
    let mut end = Signals::new()?;
    let name = args.name.as_str();
    let arrivals = Arrivals::default();
    let mut servers = Vec::new();
    if let Some(address) = args.listen {
        let listener = listen(address)?;
        servers.push(match args.outbound {
            Some(outbound) => Server::serve_workload(name, listener, arrivals.clone(), outbound)?,
            None => Server::serve(name, listener, None, arrivals.clone())?,
        });
    }
    if let (Some(address), Some(certificate), Some(key)) =
        (args.listen_tls, &args.certificate, &args.key)
    {
        let identity = Identity::read(certificate, key)?;
        let server = Server::serve(name, listen(address)?, Some(&identity), arrivals)?;
        servers.push(server);
    }
    for server in &servers {
        eprintln!("{name} listens on {}", server.address());
    }
    let signal = end.next().await;
    eprintln!("{signal}: stopping");
    Ok(ExitCode::SUCCESS)
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))
}
