//! `meridian render`: files rendered from a policy, one module a target.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::Value;

use crate::policy::PolicyFile;

pub mod envoy;
pub mod grafana;
pub mod istio;
pub mod prometheus;

/// What is rendered.
#[derive(Debug, Clone, Subcommand)]
pub enum Verb {
    /// A complete static Envoy configuration for each of ingress gateway, egress gateway and sidecar
    Envoy(Options),
    /// EnvoyFilters for an Istio mesh: ingress gateway, egress gateway, sidecars
    Istio(Options),
    /// A Prometheus that scrapes the filters' metrics: configuration, recording rules, alerts and their tests
    Prometheus(PrometheusOptions),
    /// A Grafana dashboard over the metrics that Prometheus scrapes
    Grafana(GrafanaOptions),
}

/// What a target is rendered with.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The policy, in YAML or JSON; without it the sample policy
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Write the files into this folder instead of to stdout
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The folder of the modules as the proxies see it
    #[arg(long, value_name = "DIR", default_value = envoy::DEFAULT_MODULES)]
    modules: PathBuf,
}

/// What the files of Prometheus are rendered with.
#[derive(Debug, Clone, Args)]
pub struct PrometheusOptions {
    /// The policy, in YAML or JSON; without it the sample policy
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Write the files into this folder instead of to stdout
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What the dashboard is rendered with.
#[derive(Debug, Clone, Args)]
pub struct GrafanaOptions {
    /// Write the file into this folder instead of to stdout
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Renders, and writes or prints the files.
///
/// # Errors
/// If the policy cannot be read or is wrong, or a file cannot be written.
pub fn run(verb: &Verb) -> anyhow::Result<ExitCode> {
    let (files, out) = match verb {
        Verb::Envoy(options) => (
            envoy::render(&options.policy()?, &options.target())?,
            &options.out,
        ),
        Verb::Istio(options) => (
            istio::render(&options.policy()?, &options.target())?,
            &options.out,
        ),
        Verb::Prometheus(options) => {
            let policy = PolicyFile::load(options.policy.as_deref())?.policy;
            let windows = prometheus::Windows::default();
            (prometheus::render(&policy, &windows)?, &options.out)
        }
        Verb::Grafana(options) => (grafana::render()?, &options.out),
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
        Some(folder) => {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot create the folder {}", folder.display()))?;
            for (name, text) in files {
                let path = folder.join(name);
                std::fs::write(&path, text)
                    .with_context(|| format!("cannot write {}", path.display()))?;
                eprintln!("wrote {}", path.display());
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Options {
    fn policy(&self) -> anyhow::Result<Value> {
        Ok(PolicyFile::load(self.policy.as_deref())?.json)
    }

    fn target(&self) -> envoy::Options {
        envoy::Options {
            modules: self.modules.clone(),
        }
    }
}
