//! The demo of a compose project from outside: it is started, its service `traffic` runs, and it is
//! ended unless it ran before.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::lab::{paths, programs};

/// The project of the checkout.
pub(super) const DEFAULT: &str = "examples/docker";
/// The service that sends the traffic.
const TRAFFIC: &str = "traffic";

/// Runs the demo. The exit code is that of the service.
pub(super) fn run(folder: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let project = Project::open(folder)?;
    let ran = !project.output(&["ps", "-q"])?.trim().is_empty();
    let played = project.play(json);
    if !ran {
        eprintln!("ending the project");
        let ended = project.progress(&["down", "--volumes", "--remove-orphans"]);
        // What went wrong first is what is told.
        if played.is_ok() {
            ended?;
        }
    }
    played
}

struct Project {
    folder: PathBuf,
    compose: Vec<PathBuf>,
}

impl Project {
    fn open(folder: &Path) -> anyhow::Result<Self> {
        let folder = match folder == Path::new(DEFAULT) && !folder.exists() {
            true => paths::workspace_root()?.join(folder),
            false => folder.to_owned(),
        };
        ensure!(
            folder.join("docker-compose.yml").is_file(),
            "no docker-compose.yml in {}: write one with `meridian render compose --policy FILE --out {}`",
            folder.display(),
            folder.display()
        );
        Ok(Self {
            folder,
            compose: compose_command()?,
        })
    }

    /// The project up, and the traffic through it.
    fn play(&self, json: bool) -> anyhow::Result<ExitCode> {
        eprintln!("starting the project in {}", self.folder.display());
        self.progress(&["up", "--detach", "--remove-orphans"])?;
        let mut arguments = vec![
            "run".to_owned(),
            "--rm".to_owned(),
            "-T".to_owned(),
            TRAFFIC.to_owned(),
        ];
        if json {
            arguments.extend(self.traffic()?);
            arguments.push("--json".to_owned());
        }
        let status = self
            .command(&arguments)
            .status()
            .context("cannot run compose")?;
        Ok(match status.code() {
            Some(0) => ExitCode::SUCCESS,
            Some(1) => ExitCode::FAILURE,
            _ => ExitCode::from(2),
        })
    }

    /// What the service runs.
    fn traffic(&self) -> anyhow::Result<Vec<String>> {
        let config = self.output(&["--profile", TRAFFIC, "config"])?;
        let config: Value = yaml_serde::from_str(&config).context("compose's config")?;
        let command = &config["services"][TRAFFIC]["command"];
        serde_json::from_value(command.clone())
            .with_context(|| format!("the service {TRAFFIC} has no command"))
    }

    fn command(&self, arguments: &[impl AsRef<std::ffi::OsStr>]) -> Command {
        let mut words = self.compose.iter();
        let mut command = Command::new(words.next().map_or(Path::new("docker"), PathBuf::as_path));
        command
            .args(words)
            .args(arguments)
            .current_dir(&self.folder)
            .stdin(Stdio::null());
        command
    }

    /// Runs a command whose output is progress.
    fn progress(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let mut command = self.command(arguments);
        command.stdout(std::io::stderr());
        let status = command.status().context("cannot run compose")?;
        ensure!(
            status.success(),
            "`{}` failed: {status}",
            arguments.join(" ")
        );
        Ok(())
    }

    fn output(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self
            .command(arguments)
            .stderr(Stdio::inherit())
            .output()
            .context("cannot run compose")?;
        ensure!(
            output.status.success(),
            "`{}` failed: {}",
            arguments.join(" "),
            output.status
        );
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// `docker compose`, or docker-compose.
fn compose_command() -> anyhow::Result<Vec<PathBuf>> {
    if let Some(docker) = programs::find("docker") {
        let version = Command::new(&docker)
            .args(["compose", "version"])
            .stdin(Stdio::null())
            .output();
        if version.is_ok_and(|output| output.status.success()) {
            return Ok(vec![docker, "compose".into()]);
        }
    }
    match programs::find("docker-compose") {
        Some(compose) => Ok(vec![compose]),
        None => bail!(
            "neither `docker compose` nor docker-compose is here: install docker with its compose plugin, \
             or Debian's packages docker.io and docker-compose"
        ),
    }
}
