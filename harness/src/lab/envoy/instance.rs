//! One running Envoy, and `envoy --mode validate`.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::log::{LogLevel, has_all_vms, quote_log};
use super::{Admin, RunFolder};
use crate::lab::child::{ChildProcess, describe_exit};

/// How long an Envoy may take until it is live.
const READY_TIMEOUT: Duration = Duration::from_secs(20);
/// How much longer for each byte of policy: 30 s a megabyte. Five Envoys that start at once on two idle
/// cores take a sixth of it, most of it for the names of the counters.
const READY_TIMEOUT_PER_BYTE: Duration = Duration::from_micros(30);
/// How long `--mode validate` may take.
const VALIDATE_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// How long an Envoy may take to end by itself.
const STOP_GRACE: Duration = Duration::from_secs(3);

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

/// A running Envoy that is live. It is killed with this value and with this process.
///
/// Everything of its [`Admin`] can be asked of it.
#[derive(Debug)]
pub struct Envoy {
    name: String,
    folder: PathBuf,
    process: ChildProcess,
    admin: Admin,
}

impl Envoy {
    /// Starts the `binary` and waits until it is live.
    ///
    /// The run folder gets `NAME.json` (the bootstrap), `NAME.log` (all output) and `NAME.admin`
    /// (the admin's address). A `bootstrap` without `admin` gets one on 127.0.0.1; one that has
    /// it should say port 0.
    ///
    /// # Errors
    /// If Envoy ends early or is not live within [`EnvoyOptions::ready_timeout`]: the error names
    /// the run folder and quotes the lines of the log that matter.
    pub async fn start(
        binary: &Path,
        folder: &RunFolder,
        name: &str,
        bootstrap: &Value,
        options: &EnvoyOptions,
    ) -> anyhow::Result<Self> {
        let folder = folder.path();
        let bootstrap_path = folder.join(format!("{name}.json"));
        let admin_path = folder.join(format!("{name}.admin"));
        write_bootstrap(&bootstrap_path, bootstrap)?;
        // Left by an earlier Envoy of that name in the same folder.
        match fs::remove_file(&admin_path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).context(format!("cannot remove {}", admin_path.display()));
            }
            _ => {}
        }
        let mut command = Command::new(binary);
        command
            .arg("--config-path")
            .arg(&bootstrap_path)
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
        let mut process = ChildProcess::spawn(command, &folder.join(format!("{name}.log")))?;
        let live = await_live(&mut process, &admin_path, options.ready_timeout()).await;
        let admin = live.and_then(|admin| {
            has_all_vms(process.log_path())?;
            Ok(admin)
        });
        let admin = admin.map_err(|why| {
            let lines = quote_log(process.log_path());
            anyhow::anyhow!(
                "Envoy `{name}` {why:#}; its files are in {}{lines}",
                folder.display()
            )
        })?;
        Ok(Self {
            name: name.to_owned(),
            folder: folder.to_path_buf(),
            process,
            admin,
        })
    }

    /// The name it was started with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The address of its admin.
    pub fn admin(&self) -> SocketAddr {
        self.admin.address()
    }

    /// The file with everything that it has written to stdout and stderr.
    pub fn log_path(&self) -> &Path {
        self.process.log_path()
    }

    /// What it has logged so far.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        let path = self.log_path();
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Its metrics in the Prometheus text format, for [`crate::lab::prometheus::Samples::parse`].
    ///
    /// # Errors
    /// If the admin does not answer.
    pub async fn scrape(&self) -> anyhow::Result<String> {
        self.get("/stats/prometheus").await
    }

    /// Writes its whole configuration to `NAME.config_dump.json` in the run folder.
    ///
    /// # Errors
    /// If the admin does not answer or the file cannot be written.
    pub async fn save_config_dump(&self) -> anyhow::Result<PathBuf> {
        let dump = self.get("/config_dump?include_eds").await?;
        let path = self.folder.join(format!("{}.config_dump.json", self.name));
        fs::write(&path, dump).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Ends it: SIGTERM, and SIGKILL if it still runs after 3 s.
    ///
    /// # Errors
    /// If it had ended before, by a crash for example: quotes its log.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(status) = self.process.try_wait()? {
            bail!(
                "Envoy `{}` {} before it was stopped; its files are in {}{}",
                self.name,
                describe_exit(status),
                self.folder.display(),
                quote_log(self.log_path())
            );
        }
        self.process.stop(STOP_GRACE).await?;
        Ok(())
    }
}

impl Deref for Envoy {
    type Target = Admin;

    fn deref(&self) -> &Admin {
        &self.admin
    }
}

/// Has Envoy check a bootstrap, which runs every filter's `on_configure` too, and opens no port.
///
/// # Errors
/// If Envoy refuses it, with the lines that say why; if Envoy takes over 60 s.
pub async fn validate(binary: &Path, bootstrap: &Value) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
    let bootstrap_path = folder.path().join("bootstrap.json");
    write_bootstrap(&bootstrap_path, bootstrap)?;
    let mut command = Command::new(binary);
    command
        .args(["--mode", "validate", "--config-path"])
        .arg(&bootstrap_path)
        .args(["--disable-hot-restart", "--log-level", "info"]);
    let mut process = ChildProcess::spawn(command, &folder.path().join("log"))?;
    let deadline = Instant::now() + VALIDATE_TIMEOUT;
    match process.wait_until(deadline).await? {
        Some(status) if status.success() => Ok(()),
        Some(status) => bail!(
            "Envoy refuses the bootstrap: `--mode validate` {}{}",
            describe_exit(status),
            quote_log(process.log_path())
        ),
        None => bail!(
            "`envoy --mode validate` has no result after {} s{}",
            VALIDATE_TIMEOUT.as_secs(),
            quote_log(process.log_path())
        ),
    }
}

fn write_bootstrap(path: &Path, bootstrap: &Value) -> anyhow::Result<()> {
    let mut bootstrap = bootstrap.clone();
    bootstrap
        .as_object_mut()
        .context("a bootstrap is an object")?
        .entry("admin")
        .or_insert_with(
            || json!({"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}}),
        );
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A program in Envoy's place, which fails as Envoy does when its configuration is bad.
    fn failing_envoy(folder: &Path) -> PathBuf {
        let path = folder.join("envoy");
        let script = "#!/bin/sh\necho '[now][1][critical][main] bad bootstrap' >&2\nexit 1\n";
        fs::write(&path, script).unwrap();
        crate::lab::paths::set_mode(&path, 0o755).unwrap();
        path
    }

    #[tokio::test]
    async fn an_envoy_that_ends_early_is_reported_with_its_log_and_folder() {
        let folder = tempfile::tempdir().unwrap();
        let binary = failing_envoy(folder.path());
        let run = RunFolder::create("unit-test").unwrap();
        let error = Envoy::start(&binary, &run, "bad", &json!({}), &EnvoyOptions::default())
            .await
            .unwrap_err()
            .to_string();
        let expected = format!(
            "Envoy `bad` exited with status 1 before it was live; its files are in {}:\n  \
             [now][1][critical][main] bad bootstrap",
            run.path().display()
        );
        assert_eq!(error, expected);
        let written = fs::read_to_string(run.path().join("bad.json")).unwrap();
        assert!(written.contains("\"port_value\": 0"), "{written}");
    }

    #[tokio::test]
    async fn a_bootstrap_that_is_refused_is_reported_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let binary = failing_envoy(folder.path());
        let error = validate(&binary, &json!({})).await.unwrap_err().to_string();
        assert_eq!(
            error,
            "Envoy refuses the bootstrap: `--mode validate` exited with status 1:\n  \
             [now][1][critical][main] bad bootstrap"
        );
    }
}
