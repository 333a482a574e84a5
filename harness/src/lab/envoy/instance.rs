//! One running Envoy, and `envoy --mode validate`.

use std::fs;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

use super::launch::{EnvoyOptions, Launch, write_bootstrap};
use super::log::quote_log;
use super::{Admin, RunFolder};
use crate::lab::child::{ChildProcess, describe_exit, until_a_child_ends};

/// How long `--mode validate` may take.
const VALIDATE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an Envoy may take to end by itself.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// A running Envoy that was live. It is killed with this value and with this process.
///
/// Everything of its [`Admin`] can be asked of it.
#[derive(Debug)]
pub struct Envoy {
    launch: Launch,
    admin: Admin,
    life: Mutex<Life>,
}

/// The process, and whether its end has been told.
#[derive(Debug)]
struct Life {
    process: ChildProcess,
    is_end_told: bool,
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
        let launch = Launch {
            binary: binary.to_path_buf(),
            folder: folder.path().to_path_buf(),
            name: name.to_owned(),
            options: options.clone(),
        };
        launch.write_bootstrap(bootstrap.clone(), None)?;
        let (process, admin) = launch.run().await?;
        Ok(Self {
            launch,
            admin,
            life: Mutex::new(Life::of(process)),
        })
    }

    /// Starts it again after it has ended, as it was started first and on the same ports, the admin's
    /// too, and waits until it is live.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn restart(&self) -> anyhow::Result<()> {
        self.launch.keep_admin(self.admin())?;
        let (process, _) = self.launch.run().await?;
        *self.life() = Life::of(process);
        Ok(())
    }

    /// Waits until it has ended by itself, and tells in a sentence how, with the lines of its log that
    /// matter.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub async fn ended(&self) -> anyhow::Result<String> {
        let status = until_a_child_ends(|| self.life().process.try_wait()).await?;
        let mut life = self.life();
        life.is_end_told = true;
        Ok(format!(
            "Envoy `{}` {}; its files are in {}{}",
            self.name(),
            describe_exit(status),
            self.launch.folder.display(),
            quote_log(life.process.log_path(), life.process.log_start())
        ))
    }

    /// The name it was started with.
    pub fn name(&self) -> &str {
        &self.launch.name
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.life().process.id()
    }

    /// The address of its admin.
    pub fn admin(&self) -> SocketAddr {
        self.admin.address()
    }

    /// The file with everything that it has written to stdout and stderr.
    pub fn log_path(&self) -> PathBuf {
        self.launch.log_path()
    }

    /// What it has logged so far.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        let path = self.log_path();
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
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
        let name = format!("{}.config_dump.json", self.name());
        let path = self.launch.folder.join(name);
        fs::write(&path, dump).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Ends it: SIGTERM, and SIGKILL if it still runs after 3 s.
    ///
    /// # Errors
    /// If it had ended before, by a crash for example: quotes its log, unless [`Self::ended`] has.
    pub async fn stop(self) -> anyhow::Result<()> {
        let Life {
            mut process,
            is_end_told,
        } = self
            .life
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(status) = process.try_wait()? {
            let lines = match is_end_told {
                true => String::new(),
                false => quote_log(process.log_path(), process.log_start()),
            };
            bail!(
                "Envoy `{}` {} before it was stopped; its files are in {}{lines}",
                self.launch.name,
                describe_exit(status),
                self.launch.folder.display(),
            );
        }
        process.stop(STOP_GRACE).await?;
        Ok(())
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Life {
    fn of(process: ChildProcess) -> Self {
        Self {
            process,
            is_end_told: false,
        }
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
    write_bootstrap(&bootstrap_path, bootstrap.clone(), None)?;
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
            quote_log(process.log_path(), process.log_start())
        ),
        None => bail!(
            "`envoy --mode validate` has no result after {} s{}",
            VALIDATE_TIMEOUT.as_secs(),
            quote_log(process.log_path(), process.log_start())
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
