//! Istio's agent in a pod, and the packet filters that send a pod's connections through its sidecar.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::api::Api;
use super::control_plane::ISTIOD;
use super::mounts::{ENVOY, ISTIO, PROGRAMS};
use super::objects;
use super::roles::{Kind, NODE, REGISTRY, Role};
use crate::lab::child::ChildProcess;
use crate::lab::namespaces::Place;
use crate::lab::paths::set_mode;
use crate::lab::programs;

/// The user that Istio's agents run as, whose connections are not intercepted.
const USER: u32 = 1337;

/// What an agent is started from.
#[derive(Debug, Clone)]
pub(super) struct Agent {
    pub(super) role: Role,
    /// The pod's network, and the agent's folder as it sees it.
    pub(super) place: Place,
    /// The agent's folder as this process sees it.
    folder: PathBuf,
    proxy_config: Value,
    istio_version: String,
    log: PathBuf,
}

impl Agent {
    /// Prepares the folder of the pod's agent: what a kubelet would mount into it.
    pub(super) async fn prepare(
        role: Role,
        place: Place,
        folder: &Path,
        annotations: &Value,
        options: &AgentOptions<'_>,
    ) -> anyhow::Result<Self> {
        let pod = folder.join("etc/istio/pod");
        let secrets = folder.join("var/run/secrets");
        let proxy = folder.join("etc/istio/proxy");
        for folder in [
            &pod,
            &secrets.join("istio"),
            &secrets.join("tokens"),
            &proxy,
        ] {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
        }
        write(&pod.join("labels"), &downward(objects::labels(&role)))?;
        write(
            &pod.join("annotations"),
            &downward(annotations_of(annotations)),
        )?;
        let token = options.api.token(role.namespace, role.account).await?;
        write(&secrets.join("tokens/istio-token"), &token)?;
        write(
            &secrets.join("istio/root-cert.pem"),
            options.root_certificate,
        )?;

        let mut proxy_config = options.mesh_config["defaultConfig"].clone();
        let template = "tools/packaging/common/envoy_bootstrap.json";
        proxy_config["binaryPath"] = json!(ENVOY);
        proxy_config["configPath"] = json!(place.folder.join("etc/istio/proxy"));
        proxy_config["proxyBootstrapTemplatePath"] = json!(format!("{ISTIO}/{template}"));
        if let Some(text) = annotations["proxy.istio.io/config"].as_str() {
            let own: Value = yaml_serde::from_str(text).context("proxy.istio.io/config")?;
            super::mesh_config::merge(&mut proxy_config, &own);
        }
        own_everything(folder)?;
        let log = options.run.join(format!("{}.log", role.pod()));
        Ok(Self {
            role,
            place,
            folder: folder.to_path_buf(),
            proxy_config,
            istio_version: options.istio_version.to_owned(),
            log,
        })
    }

    /// Gives the pod further labels, for the next start.
    pub(super) fn label(&self, labels: &[(&str, &str)]) -> anyhow::Result<()> {
        let mut all = objects::labels(&self.role);
        let further = labels.iter();
        all.extend(further.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let path = self.folder.join("etc/istio/pod/labels");
        write(&path, &downward(all))?;
        own_everything(&path)
    }

    /// Has the pod's connections go through its sidecar, as the init container does; nothing for a
    /// gateway.
    pub(super) fn intercept(&self) -> anyhow::Result<()> {
        // NGINX serves its callers itself.
        let inbound = match self.role.kind {
            Kind::Gateway => return Ok(()),
            Kind::Application => "*",
            Kind::Nginx => "",
        };
        let mut command = self.place.command(format!("{PROGRAMS}/pilot-agent"));
        command
            .args(["istio-iptables", "-p", "15001", "-z", "15006", "-u", "1337"])
            .args(["-m", "REDIRECT", "-i", "*", "-x", "", "-b", inbound])
            .args(["-d", "15090,15021,15020"]);
        // It looks for `iptables` itself.
        command.env("PATH", programs::path());
        let output = command.output().context("pilot-agent istio-iptables")?;
        ensure!(
            output.status.success(),
            "pilot-agent istio-iptables in the pod {}: {}",
            self.role.pod(),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Starts the agent, which starts its Envoy. Both write to one log.
    pub(super) fn spawn(&self) -> anyhow::Result<ChildProcess> {
        let Role {
            name,
            namespace,
            account,
            address,
            ..
        } = self.role;
        let kind = match self.role.kind {
            Kind::Gateway => "router",
            Kind::Application | Kind::Nginx => "sidecar",
        };
        // Envoy opens /dev/stdout anew, as another user than this process.
        if !self.log.exists() {
            write(&self.log, "")?;
        }
        set_mode(&self.log, 0o666).with_context(|| self.log.display().to_string())?;
        let owner = format!("kubernetes://apis/apps/v1/namespaces/{namespace}/deployments/{name}");
        let mut command = self.place.tree(format!("{PROGRAMS}/pilot-agent"), USER);
        command
            .args([
                "proxy",
                kind,
                "--domain",
                &format!("{namespace}.svc.cluster.local"),
            ])
            .args([
                "--proxyLogLevel=warning",
                "--proxyComponentLogLevel=wasm:info,misc:error",
            ])
            .args([
                "--log_output_level=default:info,wasm:debug",
                "--concurrency=1",
            ])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.place.folder)
            .env("PROXY_CONFIG", self.proxy_config.to_string())
            .envs([
                ("POD_NAME", self.role.pod()),
                ("POD_NAMESPACE", namespace.to_owned()),
                ("SERVICE_ACCOUNT", account.to_owned()),
                ("INSTANCE_IP", address.to_string()),
                ("HOST_IP", NODE.to_string()),
                ("TRUST_DOMAIN", "cluster.local".to_owned()),
                ("CA_ADDR", format!("{ISTIOD}:15012")),
                ("PILOT_CERT_PROVIDER", "istiod".to_owned()),
                ("WASM_INSECURE_REGISTRIES", REGISTRY.to_owned()),
                ("ISTIO_META_CLUSTER_ID", "Kubernetes".to_owned()),
                ("ISTIO_META_MESH_ID", "cluster.local".to_owned()),
                ("ISTIO_META_WORKLOAD_NAME", name.to_owned()),
                ("ISTIO_META_OWNER", owner),
                ("ISTIO_META_INTERCEPTION_MODE", "REDIRECT".to_owned()),
                // An agent that Go has installed does not know its version.
                ("ISTIO_META_ISTIO_VERSION", self.istio_version.clone()),
            ]);
        if self.role.kind != Kind::Gateway {
            let ports = self.role.ports.iter();
            let ports: Vec<Value> = ports
                .map(|port| json!({"name": port.name, "containerPort": port.target}))
                .collect();
            command
                .env("ISTIO_META_POD_PORTS", Value::from(ports).to_string())
                .env("ISTIO_META_APP_CONTAINERS", "app");
        }
        ChildProcess::spawn(command, &self.log)
    }

    /// The file with what the agent and its Envoy print, access logs too.
    pub(super) fn log(&self) -> &Path {
        &self.log
    }
}

/// What all agents have in common.
pub(super) struct AgentOptions<'a> {
    pub(super) api: &'a Api,
    pub(super) istio_version: &'a str,
    pub(super) mesh_config: &'a Value,
    pub(super) root_certificate: &'a str,
    pub(super) run: &'a Path,
}

impl Api {
    /// A token that istiod takes for a service account.
    async fn token(&self, namespace: &str, account: &str) -> anyhow::Result<String> {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let request = json!({"spec": {"audiences": ["istio-ca"], "expirationSeconds": 86_400}});
        let body = Some(("application/json", &request));
        let answer = self.request(hyper::Method::POST, &path, body).await?;
        let token = answer["status"]["token"].as_str();
        Ok(token.context("an answer without a token")?.to_owned())
    }
}

/// Labels or annotations as the downward API writes them.
fn downward(entries: Vec<(String, String)>) -> String {
    entries
        .into_iter()
        .map(|(name, value)| format!("{name}={}\n", Value::String(value)))
        .collect()
}

fn annotations_of(annotations: &Value) -> Vec<(String, String)> {
    let entries = annotations.as_object().into_iter().flatten();
    entries
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect()
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Gives a folder and all in it to the agents' user.
fn own_everything(path: &Path) -> anyhow::Result<()> {
    chown(path, Some(USER), Some(USER))
        .with_context(|| format!("cannot give {} to user {USER}", path.display()))?;
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            own_everything(&entry?.path())?;
        }
    }
    Ok(())
}
