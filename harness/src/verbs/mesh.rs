//! `meridian mesh`: a real Istio on this machine, until it is told to end.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};

use crate::lab::envoy;
use crate::lab::mesh::{Mesh, MeshOptions};
use crate::output;
use crate::runtime::{self, Signals};

/// Run a real Istio on this machine until Ctrl-C
///
/// etcd, kube-apiserver, istiod, an OCI registry, and pods as network namespaces, each with Istio's
/// agent and Envoy: two ingress gateways, an egress gateway, two applications, and a system component
/// behind NGINX. Takes Linux, root and Go; the first start builds Istio and Kubernetes.
#[derive(Debug, Clone, Args)]
pub struct MeshArgs {
    /// Manifests to apply when the mesh is ready: a file, a folder, or one with a kustomization.yaml
    #[arg(long, value_name = "PATH")]
    pub apply: Vec<PathBuf>,
    /// What to merge into the mesh's configuration: Helm's values with `meshConfig`
    #[arg(long, value_name = "FILE")]
    pub mesh_config: Option<PathBuf>,
    /// The Envoy binary of every pod [default: $MERIDIAN_ENVOY, the release $MERIDIAN_ENVOY_VERSION, `envoy` on the PATH, or a download]
    #[arg(long, value_name = "FILE")]
    pub envoy: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Starts the mesh, applies what is asked for, says where everything is, and serves until SIGINT or
/// SIGTERM.
///
/// # Errors
/// If this machine cannot run a mesh, a part does not start, or a manifest is refused.
pub fn run(args: &MeshArgs) -> anyhow::Result<ExitCode> {
    let mesh_config = match &args.mesh_config {
        None => json!({}),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            let values: Value = yaml_serde::from_str(&text)
                .with_context(|| format!("{} is not YAML", path.display()))?;
            values.get("meshConfig").cloned().unwrap_or(values)
        }
    };
    let options = MeshOptions {
        run: "mesh".to_owned(),
        envoy: envoy::obtain(args.envoy.as_deref())?,
        istio_version: "1.31.0".to_owned(),
        mesh_config,
        annotations: json!({}),
    };
    runtime::block_on(serve(args, &options))
}

async fn serve(args: &MeshArgs, options: &MeshOptions) -> anyhow::Result<ExitCode> {
    let mut end = Signals::new()?;
    eprintln!("starting the mesh");
    let start = async {
        let mesh = Mesh::start(options).await?;
        for path in &args.apply {
            eprint!("{}", mesh.api().apply_path(path).await?);
        }
        anyhow::Ok(mesh)
    };
    let mesh = tokio::select! {
        mesh = start => mesh?,
        signal = end.next() => {
            eprintln!("{signal}: stopped before the mesh was ready");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let description = mesh.describe()?;
    if args.json {
        output::print(&format!("{}\n", serde_json::to_string(&description)?))?;
    } else {
        output::print(&format!("{description}"))?;
    }
    eprintln!("until Ctrl-C");
    let signal = end.next().await;
    eprintln!("{signal}: stopping");
    Ok(ExitCode::SUCCESS)
}
