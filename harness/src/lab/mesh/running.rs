//! A mesh that runs: its parts, and how they are reached.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::agent::Agent;
use super::api::Api;
use super::control_plane::{self, ControlPlane, until};
use super::roles::{self, CONSOLE, Role};
use super::tools::Tools;
use crate::lab::child::ChildProcess;
use crate::lab::envoy::RunFolder;
use crate::lab::namespaces::Place;
use crate::lab::topology::{Arrivals, Call, Certificates, Server};
use crate::lab::{nginx, programs};

const STOP_GRACE: Duration = Duration::from_secs(3);

/// A running mesh. Every process and server of it ends with this value.
#[derive(Debug)]
pub struct Mesh {
    // Fields are dropped in this order: whoever needs another goes first.
    pub(super) pods: Vec<Pod>,
    pub(super) _nginx: Option<MeshNginx>,
    pub(super) client: Place,
    pub(super) outside: Outside,
    pub(super) control_plane: ControlPlane,
    pub(super) api: Api,
    pub(super) tools: Tools,
    pub(super) certificates: Certificates,
    pub(super) arrivals: Arrivals,
    pub(super) node: Place,
    pub(super) data: TempDir,
    pub(super) run: RunFolder,
}

/// The servers outside.
#[derive(Debug)]
pub(super) struct Outside {
    pub(super) place: Place,
    pub(super) _servers: Vec<Server>,
}

/// A pod: an agent with its Envoy, and perhaps an application.
#[derive(Debug)]
pub struct Pod {
    agent: Agent,
    process: ChildProcess,
    _servers: Vec<Server>,
}

/// NGINX, before the system component.
#[derive(Debug)]
pub struct MeshNginx {
    _process: ChildProcess,
}

impl Mesh {
    /// The pod of a role.
    ///
    /// # Panics
    /// If the mesh has no such role: it has all of [`roles::PODS_AND_SERVICES`].
    pub fn pod(&self, role: &Role) -> &Pod {
        let found = self.pods.iter().find(|pod| pod.role() == role);
        found.unwrap_or_else(|| panic!("no pod {}", role.name))
    }

    /// Every pod.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.iter()
    }

    /// The API server.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// The node, where the API server, istiod and the registry are.
    pub fn node(&self) -> &Place {
        &self.node
    }

    /// The client outside.
    pub fn client(&self) -> &Place {
        &self.client
    }

    /// The host of the servers outside.
    pub fn outside(&self) -> &Place {
        &self.outside.place
    }

    /// What arrived at the applications and the servers outside.
    pub fn arrivals(&self) -> &Arrivals {
        &self.arrivals
    }

    /// The certificates of the servers, not of the mesh.
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// The folder with this run's files and logs.
    pub fn run_folder(&self) -> &Path {
        self.run.path()
    }

    /// Applies [`super::ROUTES`].
    ///
    /// # Errors
    /// What `kubectl` says.
    pub async fn apply_routes(&self) -> anyhow::Result<()> {
        let path = self.run.path().join("routes.yaml");
        fs::write(&path, super::ROUTES)
            .with_context(|| format!("cannot write {}", path.display()))?;
        self.api.apply_path(&path).await?;
        Ok(())
    }

    /// Ends istiod and starts it anew; returns once it is ready again.
    ///
    /// # Errors
    /// If it does not come back.
    pub async fn restart_istiod(&mut self) -> anyhow::Result<()> {
        self.control_plane.istiod.stop(STOP_GRACE).await?;
        let folder = self.run.path();
        self.control_plane.istiod =
            control_plane::start_istiod(&self.node, &self.tools, &self.api, folder)?;
        let ready = || control_plane::istiod_is_ready(&self.node);
        until("istiod", &mut [&mut self.control_plane.istiod], ready).await?;
        Ok(())
    }

    /// Replaces a pod by one that has these labels, too, as a rollout of its Deployment does; returns
    /// once the new one is ready.
    ///
    /// # Errors
    /// If it does not come back.
    pub async fn roll(&mut self, role: &Role, labels: &[(&str, &str)]) -> anyhow::Result<()> {
        let pod = self.pods.iter_mut().find(|pod| pod.role() == role);
        let pod = pod.with_context(|| format!("no pod {}", role.name))?;
        pod.process.stop(STOP_GRACE).await?;
        let labels_of_object: serde_json::Map<_, _> = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Value::from(*value)))
            .collect();
        let path = format!("/api/v1/namespaces/{}/pods/{}", role.namespace, role.pod());
        let patch = json!({"metadata": {"labels": labels_of_object}});
        let body = Some(("application/merge-patch+json", &patch));
        self.api.request(hyper::Method::PATCH, &path, body).await?;
        pod.agent.label(labels)?;
        pod.process = pod.agent.spawn()?;
        pod.until_ready().await
    }

    /// Stops the registry, for agents that cannot reach it.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn stop_registry(&mut self) -> anyhow::Result<()> {
        self.control_plane.registry.stop(STOP_GRACE).await?;
        Ok(())
    }

    /// Starts the registry anew, with what it had.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_registry(&mut self) -> anyhow::Result<()> {
        let folder = self.run.path();
        self.control_plane.registry =
            control_plane::start_registry(&self.node, folder, self.data.path())?;
        Ok(())
    }
}

impl Pod {
    pub(super) fn new(agent: Agent, process: ChildProcess, servers: Vec<Server>) -> Self {
        Self {
            agent,
            process,
            _servers: servers,
        }
    }

    /// What it is.
    pub fn role(&self) -> &Role {
        &self.agent.role
    }

    /// Its network, and its agent's folder.
    pub fn place(&self) -> &Place {
        &self.agent.place
    }

    /// The file with what its agent and Envoy print, access logs too.
    pub fn log(&self) -> &Path {
        self.agent.log()
    }

    /// Asks Envoy's administration interface for `path`.
    ///
    /// # Errors
    /// If it does not answer with 200.
    pub async fn admin(&self, path: &str) -> anyhow::Result<String> {
        self.get(15000, path).await
    }

    /// What Prometheus scrapes of Envoy.
    ///
    /// # Errors
    /// If Envoy does not answer with 200.
    pub async fn scrape(&self) -> anyhow::Result<String> {
        self.get(15090, "/stats/prometheus").await
    }

    async fn get(&self, port: u16, path: &str) -> anyhow::Result<String> {
        let reply = Call::new(SocketAddr::from(([127, 0, 0, 1], port)), "localhost")
            .in_network(&self.place().network)
            .path(path)
            .send()
            .await?;
        let pod = self.role().pod();
        ensure!(reply.status == 200, "{path} of {pod}: {}", reply.status);
        Ok(reply.text())
    }

    /// Waits until the agent says that its Envoy serves.
    pub(super) async fn until_ready(&mut self) -> anyhow::Result<()> {
        let network = self.place().network.clone();
        let what = format!("the proxy of {}", self.role().pod());
        let ready = || async {
            let address = SocketAddr::from(([127, 0, 0, 1], 15021));
            let call = Call::new(address, "localhost").in_network(&network);
            let reply = call.path("/healthz/ready").send().await?;
            ensure!(reply.status == 200, "it answers {}", reply.status);
            Ok(Value::Null)
        };
        until(&what, &mut [&mut self.process], ready).await?;
        Ok(())
    }
}

impl MeshNginx {
    /// Starts NGINX in its pod. It passes requests for any host to the system component's service, as
    /// ingress-nginx does with `service-upstream` and `upstream-vhost`.
    pub(super) fn start(pod: &Pod, run: &Path) -> anyhow::Result<Self> {
        let folder = run.join("nginx");
        let location = format!(
            "proxy_pass http://{}:80;\n            proxy_set_header Host {};",
            CONSOLE.service,
            CONSOLE.host()
        );
        let listen = format!("{}:80", roles::NGINX.address);
        let arguments = nginx::prepare(&folder, &listen, &location)?;
        let program = programs::find("nginx").context("no nginx")?;
        let mut command = pod.place().command(program);
        command.args(arguments);
        Ok(Self {
            _process: ChildProcess::spawn(command, &folder.join("nginx.log"))?,
        })
    }
}
