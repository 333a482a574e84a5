//! How an Envoy is started: its options, its bootstrap in a file, and the wait until it is live.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::Admin;
use super::log::{LogLevel, has_all_vms, quote_log};
use crate::lab::child::{ChildProcess, describe_exit};

/// How long an Envoy may take until it is live.
const READY_TIMEOUT: Duration = Duration::from_secs(20);
/// How much longer for each byte of policy: 30 s a megabyte. Five Envoys that start at once on two idle
/// cores take a sixth of it, most of it for the names of the counters.
const READY_TIMEOUT_PER_BYTE: Duration = Duration::from_micros(30);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// How to run an Envoy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvoyOptions {
    /// The number of workers, each a thread with its own copy of every filter; 1 by default.
    pub concurrency: u32,
    /// Info by default.
    pub log_level: LogLevel,
    /// Environment variables, by name, beside those of this process; none by default.
    pub environment: Vec<(String, OsString)>,
    /// The bytes of the policies that its filters load before it is live, which say how long it may
    /// take; 0 by default.
    pub policy_bytes: usize,
}

impl EnvoyOptions {
    /// How long the Envoy may take until it is live: 20 s, and 30 s more for each megabyte of policy.
    pub fn ready_timeout(&self) -> Duration {
        let bytes = u32::try_from(self.policy_bytes).unwrap_or(u32::MAX);
        READY_TIMEOUT + READY_TIMEOUT_PER_BYTE * bytes
    }
}

impl Default for EnvoyOptions {
    fn default() -> Self {
        Self {
            concurrency: 1,
            log_level: LogLevel::default(),
            environment: Vec::new(),
            policy_bytes: 0,
        }
    }
}

/// What one Envoy is started from, as often as need be.
#[derive(Debug)]
pub(super) struct Launch {
    /// The Envoy binary.
    pub(super) binary: PathBuf,
    /// Where its files are.
    pub(super) folder: PathBuf,
    /// What its files are called.
    pub(super) name: String,
    /// How it runs.
    pub(super) options: EnvoyOptions,
}

impl Launch {
    /// The file of its output, of all its lives.
    pub(super) fn log_path(&self) -> PathBuf {
        self.file("log")
    }

    /// Writes the bootstrap that [`Self::run`] takes; without an admin it gets the one at `admin`, or
    /// one on a port of the kernel's choice.
    pub(super) fn write_bootstrap(
        &self,
        bootstrap: Value,
        admin: Option<SocketAddr>,
    ) -> anyhow::Result<()> {
        write_bootstrap(&self.file("json"), bootstrap, admin)
    }

    /// Has the next [`Self::run`] listen for its admin at `admin`, whatever the bootstrap said.
    pub(super) fn keep_admin(&self, admin: SocketAddr) -> anyhow::Result<()> {
        let path = self.file("json");
        let read = || -> anyhow::Result<Value> { Ok(serde_json::from_slice(&fs::read(&path)?)?) };
        let mut bootstrap = read().with_context(|| format!("cannot read {}", path.display()))?;
        if let Some(bootstrap) = bootstrap.as_object_mut() {
            bootstrap.remove("admin");
        }
        self.write_bootstrap(bootstrap, Some(admin))
    }

    /// Starts it and waits until it is live.
    pub(super) async fn run(&self) -> anyhow::Result<(ChildProcess, Admin)> {
        let admin_path = self.file("admin");
        // Left by an earlier Envoy of that name in the same folder.
        match fs::remove_file(&admin_path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).context(format!("cannot remove {}", admin_path.display()));
            }
            _ => {}
        }
        let options = &self.options;
        let mut command = Command::new(&self.binary);
        command
            .arg("--config-path")
            .arg(self.file("json"))
            .arg("--admin-address-path")
            .arg(&admin_path)
            .arg("--disable-hot-restart")
            .args(["--concurrency", &options.concurrency.to_string()])
            .args(["--log-level", options.log_level.as_str()])
            .envs(
                options
                    .environment
                    .iter()
                    .map(|(name, value)| (name, value)),
            );
        let mut process = ChildProcess::spawn(command, &self.log_path())?;
        let live = await_live(&mut process, &admin_path, options.ready_timeout()).await;
        let admin = live.and_then(|admin| {
            has_all_vms(process.log_path(), process.log_start())?;
            Ok(admin)
        });
        let admin = admin.map_err(|why| {
            let lines = quote_log(process.log_path(), process.log_start());
            anyhow::anyhow!(
                "Envoy `{}` {why:#}; its files are in {}{lines}",
                self.name,
                self.folder.display()
            )
        })?;
        Ok((process, admin))
    }

    fn file(&self, extension: &str) -> PathBuf {
        self.folder.join(format!("{}.{extension}", self.name))
    }
}

/// Writes a bootstrap; without an admin it gets the one at `admin`, or one on 127.0.0.1 on a port of
/// the kernel's choice.
pub(super) fn write_bootstrap(
    path: &Path,
    mut bootstrap: Value,
    admin: Option<SocketAddr>,
) -> anyhow::Result<()> {
    let admin = admin.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
    bootstrap
        .as_object_mut()
        .context("a bootstrap is an object")?
        .entry("admin")
        .or_insert_with(|| {
            json!({"address": {"socket_address": {
                "address": admin.ip().to_string(), "port_value": admin.port(),
            }}})
        });
    fs::write(path, serde_json::to_vec_pretty(&bootstrap)?)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Waits for the file that Envoy writes once the admin port is bound, so that port 0 cannot race,
/// and then for `/ready`. The error completes the sentence "Envoy `name` …".
async fn await_live(
    process: &mut ChildProcess,
    admin_path: &Path,
    timeout: Duration,
) -> anyhow::Result<Admin> {
    let deadline = Instant::now() + timeout;
    let mut last = "it never opened its admin port".to_owned();
    loop {
        if let Some(status) = process.try_wait()? {
            bail!("{} before it was live", describe_exit(status));
        }
        // Read anew each time: the first read may have met half an address.
        let address = fs::read_to_string(admin_path)
            .ok()
            .and_then(|address| address.trim().parse().ok());
        if let Some(address) = address {
            let admin = Admin::new(address);
            match admin.is_ready().await {
                Ok(true) => return Ok(admin),
                Ok(false) => last = "/ready still says that it is not".to_owned(),
                Err(error) => last = format!("{error:#}"),
            }
        }
        if Instant::now() >= deadline {
            bail!("is not live after {} s: {last}", timeout.as_secs());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
