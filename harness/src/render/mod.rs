//! `meridian render`: files rendered from a policy, one module a target.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};

use crate::policy_file::PolicyFile;

pub mod envoy;
pub mod istio;

/// What is rendered.
#[derive(Debug, Clone, Subcommand)]
pub enum Verb {
    /// A complete static Envoy configuration for each of ingress gateway, egress gateway and sidecar
    Envoy(Options),
    /// EnvoyFilters for an Istio mesh: ingress gateway, egress gateway, sidecars
    Istio(Options),
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

/// Renders, and writes or prints the files.
///
/// # Errors
/// If the policy cannot be read or is wrong, or a file cannot be written.
pub fn run(verb: &Verb) -> anyhow::Result<ExitCode> {
    let (Verb::Envoy(options) | Verb::Istio(options)) = verb;
    let policy = PolicyFile::load(options.policy.as_deref())?.json;
    let rendering = envoy::Options {
        modules: options.modules.clone(),
    };
    let files = match verb {
        Verb::Envoy(_) => envoy::render(&policy, &rendering)?,
        Verb::Istio(_) => istio::render(&policy, &rendering)?,
    };
    match &options.out {
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
