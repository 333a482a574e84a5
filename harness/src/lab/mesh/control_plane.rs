//! etcd, kube-apiserver, the registry and istiod, on the node.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rcgen::KeyPair;
use serde_json::{Value, json};

use super::api::{self, Api, TOKEN};
use super::objects;
use super::roles::{NODE, PODS_AND_SERVICES, REGISTRY, ROOT_NAMESPACE, SERVICES};
use super::tools::Tools;
use crate::lab::child::{ChildProcess, describe_exit};
use crate::lab::namespaces::Place;
use crate::lab::programs;
use crate::lab::topology::Call;
use crate::lab::topology::Certificates;

/// istiod's name, by which its certificate is checked.
pub(super) const ISTIOD: &str = "istiod.istio-system.svc";
const POLL_INTERVAL: Duration = Duration::from_millis(50);
const TIMEOUT: Duration = Duration::from_secs(90);

/// The processes on the node, in the order in which they end.
#[derive(Debug)]
pub(super) struct ControlPlane {
    pub(super) istiod: ChildProcess,
    pub(super) registry: ChildProcess,
    _apiserver: ChildProcess,
    _etcd: ChildProcess,
}

/// What the control plane is started from.
pub(super) struct Plan<'a> {
    pub(super) node: &'a Place,
    pub(super) tools: &'a Tools,
    pub(super) certificates: &'a Certificates,
    pub(super) api: &'a Api,
    pub(super) mesh_config: &'a Value,
    pub(super) folder: &'a Path,
    /// What nobody reads after the run: etcd's files and the registry's.
    pub(super) data: &'a Path,
    pub(super) annotations: &'a Value,
}

impl Plan<'_> {
    /// Starts everything; on return istiod is ready and all objects are written.
    pub(super) async fn start(&self) -> anyhow::Result<ControlPlane> {
        let mut etcd = self.start_etcd()?;
        let mut apiserver = self.start_apiserver()?;
        let registry = start_registry(self.node, self.folder, self.data)?;
        let ready = || self.api.request(hyper::Method::GET, "/readyz", None);
        until("kube-apiserver", &mut [&mut etcd, &mut apiserver], ready).await?;
        self.write_objects().await?;
        let mut istiod = start_istiod(self.node, self.tools, self.api, self.folder)?;
        let ready = || istiod_is_ready(self.node);
        until("istiod", &mut [&mut istiod], ready).await?;
        Ok(ControlPlane {
            istiod,
            registry,
            _apiserver: apiserver,
            _etcd: etcd,
        })
    }

    fn start_etcd(&self) -> anyhow::Result<ChildProcess> {
        let client = format!("http://{NODE}:2379");
        let peer = format!("http://{NODE}:2380");
        let mut command = self.node.command(self.tools.program("etcd"));
        command
            .arg("--data-dir")
            .arg(self.data.join("etcd"))
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &format!("default={peer}")])
            // Nothing here has to outlive a loss of power.
            .arg("--unsafe-no-fsync");
        ChildProcess::spawn(command, &self.folder.join("etcd.log"))
    }

    fn start_apiserver(&self) -> anyhow::Result<ChildProcess> {
        let identity = self.certificates.write_identity(
            "kube-apiserver",
            "cluster.local/ns/kube-system/sa/kube-apiserver",
            Some(api::SERVER_NAME),
        )?;
        let accounts = KeyPair::generate()?;
        let file = |name: &str, text: &str| -> anyhow::Result<PathBuf> {
            let path = self.folder.join(name);
            std::fs::write(&path, text)
                .with_context(|| format!("cannot write {}", path.display()))?;
            Ok(path)
        };
        let private = file("service-accounts.key", &accounts.serialize_pem())?;
        let public = file("service-accounts.pub", &accounts.public_key_pem())?;
        let tokens = file(
            "tokens.csv",
            &format!("{TOKEN},admin,admin,\"system:masters\"\n"),
        )?;
        let option = |name: &str, path: &Path| format!("--{name}={}", path.display());
        let issuer = "https://kubernetes.default.svc";
        let mut command = self.node.command(self.tools.program("kube-apiserver"));
        command
            .arg(format!("--etcd-servers=http://{NODE}:2379"))
            .args([
                "--bind-address=0.0.0.0",
                &format!("--advertise-address={NODE}"),
            ])
            .arg(format!("--secure-port={}", api::PORT))
            .arg(option("tls-cert-file", &identity.credentials.certificate))
            .arg(option("tls-private-key-file", &identity.credentials.key))
            .arg(option("token-auth-file", &tokens))
            .arg(option("service-account-key-file", &public))
            .arg(option("service-account-signing-key-file", &private))
            .arg(format!("--service-account-issuer={issuer}"))
            .arg(format!("--api-audiences={issuer},istio-ca"))
            .arg(format!("--service-cluster-ip-range={SERVICES}"))
            .args([
                "--authorization-mode=AlwaysAllow",
                "--allow-privileged=true",
            ])
            // No controller makes accounts and tokens, nobody else watches the endpoints.
            .args([
                "--disable-admission-plugins=ServiceAccount",
                "--endpoint-reconciler-type=none",
            ]);
        ChildProcess::spawn(command, &self.folder.join("kube-apiserver.log"))
    }

    async fn write_objects(&self) -> anyhow::Result<()> {
        let mut objects: Vec<Value> = Vec::new();
        let mut namespaces = vec![ROOT_NAMESPACE];
        for role in &PODS_AND_SERVICES {
            if !namespaces.contains(&role.namespace) {
                namespaces.push(role.namespace);
            }
        }
        objects.extend(namespaces.into_iter().map(objects::namespace));
        objects.push(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "istio", "namespace": ROOT_NAMESPACE},
            "data": {
                "mesh": yaml_serde::to_string(self.mesh_config)?,
                "meshNetworks": "networks: {}",
            },
        }));
        for role in &PODS_AND_SERVICES {
            objects.extend(objects::of(role, self.annotations));
        }
        let definitions = self
            .tools
            .istio
            .join("manifests/charts/base/files/crd-all.gen.yaml");
        let (applied, defined) =
            tokio::join!(self.api.apply(objects), self.api.apply_path(&definitions),);
        applied?;
        defined?;
        for role in &PODS_AND_SERVICES {
            let path = format!(
                "/api/v1/namespaces/{}/pods/{}/status",
                role.namespace,
                role.pod()
            );
            let status = objects::status(role);
            let body = Some(("application/merge-patch+json", &status));
            self.api.request(hyper::Method::PATCH, &path, body).await?;
        }
        Ok(())
    }
}

/// Starts istiod.
pub(super) fn start_istiod(
    node: &Place,
    tools: &Tools,
    api: &Api,
    folder: &Path,
) -> anyhow::Result<ChildProcess> {
    let working = folder.join("istiod");
    std::fs::create_dir_all(&working)
        .with_context(|| format!("cannot create {}", working.display()))?;
    let place = Place {
        folder: working,
        ..node.clone()
    };
    let mut command = place.command(tools.program("pilot-discovery"));
    command
        .arg("discovery")
        .arg("--kubeconfig")
        .arg(api.kubeconfig())
        .args(["--httpAddr", &format!("{NODE}:8080")])
        .args(["--monitoringAddr", &format!("{NODE}:15014")])
        .args(["--grpcAddr", &format!("{NODE}:15010")])
        .args(["--secureGRPCAddr", &format!("{NODE}:15012")])
        .args(["--httpsAddr", &format!("{NODE}:15017")])
        .args(["--domain", "cluster.local"])
        .envs([
            ("POD_NAME", "istiod-1"),
            ("POD_NAMESPACE", ROOT_NAMESPACE),
            ("REVISION", "default"),
            ("CLUSTER_ID", "Kubernetes"),
            ("PILOT_CERT_PROVIDER", "istiod"),
            ("ENABLE_LEADER_ELECTION", "false"),
            (
                "VALIDATION_WEBHOOK_CONFIG_NAME",
                "istio-validator-istio-system",
            ),
            ("INJECTION_WEBHOOK_CONFIG_NAME", ""),
            ("PILOT_ENABLE_GATEWAY_API", "false"),
            // Filters that are in Istio's own build of Envoy alone.
            ("PILOT_ENABLE_METADATA_EXCHANGE", "false"),
            ("PILOT_ENABLE_ALPN_FILTER", "false"),
        ]);
    ChildProcess::spawn(command, &folder.join("istiod.log"))
}

/// Starts the registry.
pub(super) fn start_registry(
    node: &Place,
    folder: &Path,
    data: &Path,
) -> anyhow::Result<ChildProcess> {
    let configuration = folder.join("registry.yaml");
    let text = yaml_serde::to_string(&json!({
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": data.join("registry")}},
        "http": {"addr": format!("{NODE}:{}", REGISTRY.rsplit(':').next().unwrap_or("5000"))},
    }))?;
    std::fs::write(&configuration, text)
        .with_context(|| format!("cannot write {}", configuration.display()))?;
    let program = programs::find("docker-registry").context("no docker-registry")?;
    let mut command = node.command(program);
    command.arg("serve").arg(configuration);
    ChildProcess::spawn(command, &folder.join("registry.log"))
}

/// Asks istiod whether it is ready.
pub(super) async fn istiod_is_ready(node: &Place) -> anyhow::Result<Value> {
    let reply = Call::new(SocketAddr::from((NODE, 8080)), ISTIOD)
        .in_network(&node.network)
        .path("/ready")
        .send()
        .await?;
    ensure!(reply.status == 200, "it answers {}", reply.status);
    Ok(Value::Null)
}

/// Asks again and again, until the answer comes.
///
/// # Errors
/// If it does not come in time, or one of the processes has ended.
pub(super) async fn until<F: Future<Output = anyhow::Result<Value>>>(
    what: &str,
    processes: &mut [&mut ChildProcess],
    answer: impl Fn() -> F,
) -> anyhow::Result<Value> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let error = match answer().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        for process in &mut *processes {
            if let Some(status) = process.try_wait()? {
                bail!(
                    "{what} {}; see {}",
                    describe_exit(status),
                    process.log_path().display()
                );
            }
        }
        if Instant::now() >= deadline {
            return Err(error.context(format!("{what} is not ready after {TIMEOUT:?}")));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
