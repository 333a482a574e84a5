//! `meridian render`: files rendered from a policy, one module a target.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::ensure;
use clap::{Args, Subcommand, ValueHint};

use crate::lab::envoy::Version;
use crate::output;
use crate::policy::PolicyFile;

pub mod compose;
pub mod envoy;
pub mod filters;
pub mod grafana;
pub mod istio;
pub mod prometheus;

use compose::ComposeArgs;
use filters::FiltersArgs;
use istio::IstioArgs;

/// Render configuration that attaches and monitors the filters
#[derive(Debug, Clone, Args)]
pub struct RenderArgs {
    /// What is rendered.
    #[command(subcommand)]
    pub target: RenderTarget,
}

/// What is rendered.
#[derive(Debug, Clone, Subcommand)]
pub enum RenderTarget {
    /// Render static Envoy configurations: ingress gateway, egress gateway, sidecar
    Envoy(RenderFiltersArgs),
    /// Render a folder that attaches the filters to an Istio mesh: gateways, sidecars, rollout
    Istio(IstioArgs),
    /// Render the filters alone, as files that running Envoys discover them from
    Filters(FiltersArgs),
    /// Render a docker compose project that shows the policy at work: gateways, sidecars, Prometheus
    Compose(ComposeArgs),
    /// Render Prometheus files: scrape configuration, recording rules, alerts and their tests
    Prometheus(RenderPrometheusArgs),
    /// Render a Grafana dashboard for the metrics that Prometheus scrapes
    Grafana(RenderGrafanaArgs),
}

/// What a target is rendered with.
#[derive(Debug, Clone, Args)]
pub struct RenderFiltersArgs {
    /// The policy, in YAML or JSON [default: the sample policy]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Write the files into this folder instead of to stdout
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out: Option<PathBuf>,
    /// The folder of the modules, as the proxies see it
    #[arg(long, value_name = "DIR", default_value = envoy::DEFAULT_MODULES)]
    modules: PathBuf,
    /// The version of these Envoys; what an old one cannot do is left out, and the files say so
    #[arg(long, value_name = "VERSION", default_value_t = Version::NEWEST, value_parser = tested_version)]
    envoy_version: Version,
}

/// What the files of Prometheus are rendered with.
#[derive(Debug, Clone, Args)]
pub struct RenderPrometheusArgs {
    /// The policy, in YAML or JSON [default: the sample policy]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Write the files into this folder instead of to stdout
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out: Option<PathBuf>,
}

/// What the dashboard is rendered with.
#[derive(Debug, Clone, Args)]
pub struct RenderGrafanaArgs {
    /// Write the file into this folder instead of to stdout
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out: Option<PathBuf>,
}

/// Renders, and writes or prints the files.
///
/// # Errors
/// If the policy cannot be read or is wrong, or a file cannot be written.
pub fn run(args: &RenderArgs) -> anyhow::Result<ExitCode> {
    let (files, out) = match &args.target {
        RenderTarget::Envoy(args) => {
            let policy = PolicyFile::load(args.policy.as_deref())?;
            let options = envoy::Options {
                modules: args.modules.clone(),
                envoy: args.envoy_version,
            };
            for sentence in envoy::left_out(&policy, &options)? {
                eprintln!("left out for Envoy {}: {sentence}", options.envoy);
            }
            (envoy::render(&policy, &options)?, &args.out)
        }
        RenderTarget::Istio(args) => {
            let files = istio::run(args)?;
            output::write_files(&args.out, &files)?;
            return Ok(ExitCode::SUCCESS);
        }
        RenderTarget::Filters(args) => return filters::run(args),
        RenderTarget::Compose(args) => {
            compose::run(args)?;
            return Ok(ExitCode::SUCCESS);
        }
        RenderTarget::Prometheus(args) => {
            let policy = PolicyFile::load(args.policy.as_deref())?.policy;
            let windows = prometheus::Windows::default();
            (prometheus::render(&policy, &windows)?, &args.out)
        }
        RenderTarget::Grafana(args) => (grafana::render()?, &args.out),
    };
    match out {
        // One file alone comes as it is, for a pipe.
        None if files.len() == 1 => {
            for (_, text) in &files {
                print!("{text}");
            }
        }
        None => {
            for (index, (name, text)) in files.iter().enumerate() {
                let separator = if index == 0 { "" } else { "---\n" };
                print!("{separator}# {name}\n{text}");
            }
        }
        Some(folder) => output::write_files(folder, &files)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads a version that is not older than those that Meridian is tested with.
fn tested_version(text: &str) -> anyhow::Result<Version> {
    let version: Version = text.parse()?;
    let oldest = Version::OLDEST;
    ensure!(
        version >= oldest,
        "Envoy {version} is older than the oldest that Meridian is tested with, {oldest}"
    );
    Ok(version)
}
