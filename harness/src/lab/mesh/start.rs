//! How the mesh comes up.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::agent::{Agent, AgentOptions};
use super::api::Api;
use super::control_plane::{ISTIOD, Plan, until};
use super::links;
use super::mesh_config;
use super::mounts::{self, RUN};
use super::roles::ROOT_NAMESPACE;
use super::roles::{self, APPLICATION_PORT, APPLICATION_TLS_PORT, Kind, PODS_AND_SERVICES};
use super::running::{Mesh, MeshNginx, Outside, Pod};
use super::tools::Tools;
use crate::lab::envoy::RunFolder;
use crate::lab::namespaces::{Network, Place};
use crate::lab::topology::{Arrivals, Certificates, Server};

/// What a mesh is started with.
#[derive(Debug, Clone)]
pub struct MeshOptions {
    /// The name of the run, and so of its folder.
    pub run: String,
    /// The Envoy of every pod.
    pub envoy: PathBuf,
    /// The release of Istio that the agents say they are of, such as `1.31.0`.
    pub istio_version: String,
    /// What is merged into the mesh's configuration, as `meshConfig` in Helm's values.
    pub mesh_config: Value,
    /// The annotations of every pod.
    pub annotations: Value,
}

impl Mesh {
    /// Starts everything and returns once every proxy is ready.
    ///
    /// # Errors
    /// [`super::Missing`] where this machine cannot run a mesh; if a part does not start: the error
    /// names it and the run folder, and nothing is left running.
    pub async fn start(options: &MeshOptions) -> anyhow::Result<Self> {
        let tools = Tools::prepare()?;
        let run = RunFolder::create(&options.run)?;
        let folder = run.path().to_path_buf();
        start(run, tools, options)
            .await
            .with_context(|| format!("the mesh did not start; its run is in {}", folder.display()))
    }
}

async fn start(run: RunFolder, tools: Tools, options: &MeshOptions) -> anyhow::Result<Mesh> {
    let folder = run.path();
    // Agents are another user, who has to reach the folders below.
    crate::lab::paths::set_mode(folder, 0o755)?;
    let mounts = mounts::create(folder, &tools, &options.envoy)?;
    let node = Place {
        network: Network::create()?,
        mounts: mounts.clone(),
        folder: folder.to_path_buf(),
    };
    links::start_node(&node)?;
    let certificates = Certificates::create(folder.join("certificates"))?;
    let api = Api::new(&node, &tools, &certificates, folder)?;
    let mesh_config = mesh_config::with(&options.mesh_config);
    let annotations = &options.annotations;
    // 100 MB a run, of no use after it.
    let data = tempfile::tempdir_in(folder).context("cannot make a folder for data")?;
    let plan = Plan {
        node: &node,
        tools: &tools,
        certificates: &certificates,
        api: &api,
        mesh_config: &mesh_config,
        folder,
        data: data.path(),
        annotations,
    };
    let control_plane = plan.start().await?;
    let root_certificate = root_certificate(&api).await?;
    api.apply(vec![validation(&root_certificate)]).await?;

    let arrivals = Arrivals::default();
    let agents = AgentOptions {
        api: &api,
        istio_version: &options.istio_version,
        mesh_config: &mesh_config,
        root_certificate: &root_certificate,
        run: folder,
    };
    let mut pods = Vec::new();
    for (number, role) in PODS_AND_SERVICES.into_iter().enumerate() {
        let pod_folder = folder.join("pods").join(role.pod());
        fs::create_dir_all(&pod_folder)
            .with_context(|| format!("cannot create {}", pod_folder.display()))?;
        let inside = Path::new(RUN).join("pods").join(role.pod());
        let place = links::connect(&node, &mounts, role.address, number, &inside)?;
        let servers = match role.kind {
            Kind::Application => {
                let ports = [APPLICATION_PORT, APPLICATION_TLS_PORT];
                serve(role.name, &place.network, ports, &certificates, &arrivals)?
            }
            Kind::Gateway | Kind::Nginx => Vec::new(),
        };
        let agent = Agent::prepare(role, place, &pod_folder, annotations, &agents).await?;
        agent.intercept()?;
        let process = agent.spawn()?;
        pods.push(Pod::new(agent, process, servers));
    }
    let client = links::connect(&node, &mounts, roles::CLIENT, 100, folder)?;
    let outside = links::connect(&node, &mounts, roles::OUTSIDE, 101, folder)?;
    let outside = Outside {
        _servers: serve(
            "outside",
            &outside.network,
            [80, 443],
            &certificates,
            &arrivals,
        )?,
        place: outside,
    };
    let mut nginx = None;
    for pod in &mut pods {
        pod.until_ready().await?;
        if pod.role().kind == Kind::Nginx {
            nginx = Some(MeshNginx::start(pod, folder)?);
        }
    }
    Ok(Mesh {
        pods,
        _nginx: nginx,
        client,
        outside,
        control_plane,
        api,
        tools,
        certificates,
        arrivals,
        node,
        data,
        run,
    })
}

/// The certificate that istiod signs with, as it tells every namespace.
async fn root_certificate(api: &Api) -> anyhow::Result<String> {
    let path = format!("/api/v1/namespaces/{ROOT_NAMESPACE}/configmaps/istio-ca-root-cert");
    let answer = || async {
        let object = api.request(hyper::Method::GET, &path, None).await?;
        let text = object["data"]["root-cert.pem"].as_str();
        Ok(json!(text.context("no root-cert.pem in it")?))
    };
    let answer = until("the root certificate", &mut [], answer).await?;
    Ok(answer.as_str().unwrap_or_default().to_owned())
}

/// istiod's validation of every object that is written.
fn validation(root_certificate: &str) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {
            "name": "istio-validator-istio-system",
            "labels": {"app": "istiod", "istio": "istiod", "istio.io/rev": "default"},
        },
        "webhooks": [{
            "name": "rev.validation.istio.io",
            "clientConfig": {
                "url": format!("https://{ISTIOD}:15017/validate"),
                "caBundle": STANDARD.encode(root_certificate),
            },
            "rules": [{
                "operations": ["CREATE", "UPDATE"],
                "apiGroups": [
                    "security.istio.io", "networking.istio.io", "telemetry.istio.io",
                    "extensions.istio.io",
                ],
                "apiVersions": ["*"],
                "resources": ["*"],
            }],
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }],
    })
}

/// Servers that answer with what they saw, in plaintext and by TLS, on all addresses of a host.
fn serve(
    name: &str,
    network: &Network,
    [plain, secure]: [u16; 2],
    certificates: &Certificates,
    arrivals: &Arrivals,
) -> anyhow::Result<Vec<Server>> {
    let tls = certificates.server()?;
    let listen = |port| {
        network.enter(move || std::net::TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port))))
    };
    Ok(vec![
        Server::serve(name, listen(plain)?, None, arrivals.clone())?,
        Server::serve(name, listen(secure)?, Some(&tls), arrivals.clone())?,
    ])
}
