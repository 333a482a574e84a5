//! A gateway with room for two VMs of the three that its filter needs, so that its worker has none. The
//! harness refuses to run such an Envoy, so it is started here.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::ensure;
use meridian::lab::child::ChildProcess;
use meridian::lab::config::wasm::Filters;
use meridian::lab::envoy::Admin;
use serde_json::json;

use super::gateway::{bootstrap, publish};

/// In KiB: a VM reserves 10 GB, Envoy itself takes about 3 GB.
const ADDRESS_SPACE: u32 = 26_000_000;
/// How long it may take until it is live.
const READY: Duration = Duration::from_secs(20);

pub(crate) struct Starved {
    _process: ChildProcess,
    pub(crate) admin: SocketAddr,
    pub(crate) http: SocketAddr,
}

impl Starved {
    pub(crate) async fn start(
        binary: &Path,
        folder: &Path,
        filters: &Filters,
    ) -> anyhow::Result<Self> {
        let [discovered, config, admin, log] = ["discovered.json", "json", "admin", "log"]
            .map(|end| folder.join(format!("starved.{end}")));
        publish(&discovered, 0, filters)?;
        let mut bootstrap = bootstrap(&discovered);
        bootstrap["admin"] =
            json!({"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}});
        fs::write(&config, bootstrap.to_string())?;
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(format!("ulimit -v {ADDRESS_SPACE}; exec \"$0\" \"$@\""))
            .arg(binary)
            .arg("--config-path")
            .arg(&config)
            .arg("--admin-address-path")
            .arg(&admin)
            .args(["--disable-hot-restart", "--concurrency", "1"]);
        let mut process = ChildProcess::spawn(command, &log)?;
        let deadline = Instant::now() + READY;
        loop {
            ensure!(process.try_wait()?.is_none(), "ended: {}", log.display());
            let address = fs::read_to_string(&admin).ok();
            if let Some(address) = address.and_then(|address| address.trim().parse().ok())
                && let admin = Admin::new(address)
                && admin.is_ready().await.unwrap_or(false)
            {
                return Ok(Self {
                    _process: process,
                    admin: address,
                    http: admin.listener_address("http").await?,
                });
            }
            ensure!(Instant::now() < deadline, "not live: {}", log.display());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
