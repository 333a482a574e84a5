//! `meridian render compose`: a docker compose project that shows a policy at work: gateways, sidecars,
//! a system component behind NGINX, servers outside, Prometheus and Grafana.

mod envoys;
mod observability;
mod parts;
mod readme;
mod services;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueHint};

use crate::lab::compose::Networks;
use crate::lab::envoy::Version;
use crate::lab::paths;
use crate::output;
use crate::policy::PolicyFile;
use parts::{Images, yaml};

/// What a project is rendered with.
#[derive(Debug, Clone, Args)]
pub struct ComposeArgs {
    /// The policy, in YAML or JSON [default: the sample policy]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub policy: Option<PathBuf>,
    /// Write the project into this folder
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out: PathBuf,
    /// The image of Envoy [default: the official one of the newest Envoy that Meridian is tested with]
    #[arg(long, value_name = "IMAGE")]
    pub envoy_image: Option<String>,
    /// The image of Prometheus
    #[arg(long, value_name = "IMAGE", default_value = "prom/prometheus:v3.5.0")]
    pub prometheus_image: String,
    /// The image of Grafana
    #[arg(long, value_name = "IMAGE", default_value = "grafana/grafana:12.1.0")]
    pub grafana_image: String,
    /// The image of NGINX
    #[arg(long, value_name = "IMAGE", default_value = "nginx:1.28")]
    pub nginx_image: String,
    /// The image of this command line [default: meridian, with the tag of its version]
    #[arg(long, value_name = "IMAGE")]
    pub meridian_image: Option<String>,
}

/// Renders the project and writes it.
///
/// # Errors
/// If the policy cannot be read or is wrong, its networks leave no room for the project's, or a file
/// cannot be written.
pub fn run(args: &ComposeArgs) -> anyhow::Result<()> {
    let files = render(args)?;
    output::write_files(&args.out, &files)
}

/// The files and their names.
///
/// # Errors
/// As [`run`], but for writing.
pub fn render(args: &ComposeArgs) -> anyhow::Result<Vec<(String, String)>> {
    let policy = PolicyFile::load(args.policy.as_deref())?;
    let networks = Networks::within(&policy.policy.mesh.cidrs)?;
    let images = Images {
        envoy: args
            .envoy_image
            .clone()
            .unwrap_or_else(|| format!("envoyproxy/envoy:v{}", Version::NEWEST)),
        prometheus: args.prometheus_image.clone(),
        grafana: args.grafana_image.clone(),
        nginx: args.nginx_image.clone(),
        meridian: args
            .meridian_image
            .clone()
            .unwrap_or_else(|| concat!("meridian:", env!("CARGO_PKG_VERSION")).to_owned()),
    };
    let checkout = checkout(&args.out);
    let project = services::project(&networks, checkout.as_deref());
    let mut files = vec![
        (
            "docker-compose.yml".to_owned(),
            yaml(services::HEADER, &project)?,
        ),
        (".env".to_owned(), services::environment(&images)),
        ("README.md".to_owned(), readme::readme(&networks)),
        (
            "policy/policy.yaml".to_owned(),
            policy_text(args.policy.as_deref())?,
        ),
        ("nginx/nginx.conf".to_owned(), envoys::nginx(&networks)),
    ];
    files.extend(envoys::render(&policy, &networks)?);
    files.extend(observability::render(&policy.policy, &networks)?);
    Ok(files)
}

/// The checkout that this program was built from, as seen from the project: where its image can be
/// built. `None` outside one.
fn checkout(out: &Path) -> Option<String> {
    let root = paths::workspace_root().ok()?;
    let out = std::path::absolute(out).ok()?;
    let Ok(below) = out.strip_prefix(&root) else {
        return Some(root.display().to_string());
    };
    let up = below.components().map(|_| "..");
    Some(Vec::from_iter(up).join("/"))
}

/// The policy as its author wrote it, comments and all.
fn policy_text(file: Option<&Path>) -> anyhow::Result<String> {
    match file {
        Some(file) => {
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
        }
        None => Ok(crate::policy::SAMPLE.to_owned()),
    }
}
