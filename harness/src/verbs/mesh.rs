//! `meridian mesh`: a real Istio on this machine, until it is told to end.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::lab::envoy;
use crate::lab::mesh::roles::{CONSOLE, EGRESS, INGRESS, ORDERS, REGISTRY, SHOP};
use crate::lab::mesh::{Mesh, MeshOptions, Tools};
use crate::output::{self, tell};
use crate::policy::PolicyFile;
use crate::runtime::{self, Signals};

/// How long proxies may take to get a policy.
const IN_FORCE: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Run a real Istio on this machine until Ctrl-C
///
/// etcd, kube-apiserver, istiod, an OCI registry, and pods as network namespaces, each with Istio's
/// agent and Envoy: two ingress gateways, an egress gateway, two applications, and a system component
/// behind NGINX, with the routes of examples/istio/routes.yaml. No packet leaves it. With --policy the
/// modules are packed, and the policy is rendered and applied.
///
/// Takes Linux, root, Go 1.26 and Debian's packages docker-registry, iproute2, iptables and
/// nginx-light. The first start builds Istio and Kubernetes, which takes some 10 minutes.
#[derive(Debug, Clone, Args)]
pub struct MeshArgs {
    /// Attach the filters with this policy, in YAML or JSON
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// How they are attached, as in `render istio`
    #[arg(
        long = "as",
        value_name = "FORM",
        value_parser = ["envoyfilter", "trafficextension", "wasmplugin"],
        default_value = "envoyfilter",
        requires = "policy"
    )]
    pub form: String,
    /// Refuse nothing: count and log what would have been refused
    #[arg(long, requires = "policy")]
    pub observe: bool,
    /// Manifests to apply when the mesh is ready: a file, a folder, or one with a kustomization.yaml
    #[arg(long, value_name = "PATH")]
    pub apply: Vec<PathBuf>,
    /// Helm values whose `meshConfig` is merged into the mesh's configuration
    #[arg(long, value_name = "FILE")]
    pub mesh_config: Option<PathBuf>,
    /// Leave the routes of examples/istio/routes.yaml away
    #[arg(long)]
    pub no_routes: bool,
    /// The Envoy binary of every pod [default: as for `demo`]
    #[arg(long, value_name = "FILE")]
    pub envoy: Option<PathBuf>,
    /// The release of Istio that proxies say they are of
    #[arg(
        long,
        value_name = "VERSION",
        default_value = "1.31.0",
        value_parser = parse_version
    )]
    pub istio_version: String,
    /// Only build what a mesh needs
    #[arg(long, exclusive = true)]
    pub prepare: bool,
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
    // What can be wrong comes before minutes of building.
    if let Some(policy) = &args.policy {
        PolicyFile::load(Some(policy))?;
    }
    for path in &args.apply {
        ensure!(path.exists(), "--apply: there is no {}", path.display());
    }
    let tools = Tools::prepare()?;
    if args.prepare {
        output::print(&format!("{}\n", tools.programs.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let folder = tempfile::tempdir().context("cannot make a folder")?;
    let rendered = folder.path().join("rendered");
    let mut mesh_config = json!({});
    let mut annotations = json!({});
    if let Some(policy) = &args.policy {
        render(args, policy, &rendered)?;
        mesh_config = mesh_config_of(&rendered.join("mesh/mesh-config.yaml"))?;
        let template = read_yaml(&rendered.join("mesh/pod-template.yaml"))?;
        annotations = template["spec"]["template"]["metadata"]["annotations"].clone();
    }
    if let Some(path) = &args.mesh_config {
        mesh_config = mesh_config_of(path)?;
    }
    let options = MeshOptions {
        run: "mesh".to_owned(),
        envoy: envoy::obtain(args.envoy.as_deref())?,
        istio_version: args.istio_version.clone(),
        mesh_config,
        annotations,
    };
    runtime::block_on(serve(args, &options))
}

async fn serve(args: &MeshArgs, options: &MeshOptions) -> anyhow::Result<ExitCode> {
    let mut end = Signals::new()?;
    tell("starting the mesh");
    let start = async {
        let mesh = Mesh::start(options).await?;
        if !args.no_routes {
            mesh.apply_routes().await?;
        }
        let mut apply = Vec::new();
        if let Some(policy) = &args.policy {
            push(&mesh).await?;
            // Where a person finds it, to change it or to delete what it has applied.
            let attached = mesh.run_folder().join("attached");
            render(args, policy, &attached)?;
            apply.push(attached);
        }
        apply.extend(args.apply.iter().cloned());
        for path in &apply {
            eprint!("{}", mesh.api().apply_path(path).await?);
        }
        if args.policy.is_some() {
            until_in_force(&mesh).await?;
        }
        anyhow::Ok(mesh)
    };
    let mesh = tokio::select! {
        mesh = start => mesh?,
        signal = end.next() => {
            tell(&format!("{signal}: stopped before the mesh was ready"));
            return Ok(ExitCode::SUCCESS);
        }
    };
    let description = mesh.describe()?;
    if args.json {
        output::print(&format!("{}\n", serde_json::to_string(&description)?))?;
    } else {
        output::print(&format!("{description}"))?;
    }
    tell("until Ctrl-C");
    let signal = end.next().await;
    tell(&format!("{signal}: stopping"));
    Ok(ExitCode::SUCCESS)
}

/// Waits until the gateways' and the applications' proxies report a policy; says which do not.
async fn until_in_force(mesh: &Mesh) -> anyhow::Result<()> {
    let deadline = Instant::now() + IN_FORCE;
    loop {
        let mut without = Vec::new();
        for role in [INGRESS, EGRESS, SHOP, ORDERS, CONSOLE] {
            let scraped = mesh.pod(&role).scrape().await?;
            if !scraped.contains("meridian_policy_revision{") {
                without.push(role.name);
            }
        }
        if without.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            eprintln!("no policy is in force at {}", without.join(", "));
            return Ok(());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Renders the policy for the mesh, as a person would.
fn render(args: &MeshArgs, policy: &Path, folder: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["render", "istio", "--as", &args.form, "--modules"]);
    command.arg(format!("oci://{REGISTRY}/meridian"));
    command.arg("--policy").arg(policy).arg("--out").arg(folder);
    if args.observe {
        command.arg("--observe");
    }
    if args.form != "envoyfilter" {
        // Plugins have no context that would keep them to sidecars.
        for role in [SHOP, ORDERS, CONSOLE] {
            command.args(["--namespace", role.namespace]);
        }
    }
    if args.form == "wasmplugin" {
        // Which every pod of this mesh has.
        command.args(["--select-label", "app.kubernetes.io/part-of=mesh"]);
    }
    succeed(command)
}

/// Packs the modules into the mesh's registry.
async fn push(mesh: &Mesh) -> anyhow::Result<()> {
    let here = std::env::current_dir()?;
    let node = crate::lab::namespaces::Place {
        folder: here,
        ..mesh.node().clone()
    };
    let mut command = node.command(OsString::from(std::env::current_exe()?));
    let repository = format!("{REGISTRY}/meridian");
    command.args(["pack", "--push", &repository, "--plain-http"]);
    tokio::task::spawn_blocking(move || succeed(command)).await?
}

/// Runs a command of this program; what it prints is of no interest unless it fails.
fn succeed(mut command: Command) -> anyhow::Result<()> {
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
            .trim()
            .trim_start_matches("error: ")
    );
    Ok(())
}

fn mesh_config_of(path: &Path) -> anyhow::Result<Value> {
    let values = read_yaml(path)?;
    let config = values.get("meshConfig").cloned();
    config.with_context(|| format!("{} has no `meshConfig`", path.display()))
}

fn read_yaml(path: &Path) -> anyhow::Result<Value> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    yaml_serde::from_str(&text).with_context(|| format!("{} is not YAML", path.display()))
}

fn parse_version(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split('.').collect();
    let is_number = |part: &&str| part.parse::<u16>().is_ok();
    match parts.len() == 3 && parts.iter().all(is_number) {
        true => Ok(text.to_owned()),
        false => Err("write a release, such as 1.31.0".to_owned()),
    }
}
