//! The mesh's API server, for the few requests that no manifest can make, and `kubectl` for the rest.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::roles::NODE;
use super::tools::Tools;
use crate::lab::namespaces::Place;
use crate::lab::topology::Certificates;
use crate::lab::topology::{Call, Tls};

/// The name in the API server's certificate.
pub(super) const SERVER_NAME: &str = "kubernetes.default.svc";
/// Its port.
pub(super) const PORT: u16 = 6443;
/// The token of whoever may do everything. The API server cannot be reached from outside the mesh.
pub(super) const TOKEN: &str = "meridian";

/// The API server and the programs that speak to it.
#[derive(Debug, Clone)]
pub struct Api {
    node: Place,
    tools: Tools,
    tls: Tls,
    kubeconfig: PathBuf,
}

impl Api {
    /// Writes a kubeconfig into `folder`.
    pub(super) fn new(
        node: &Place,
        tools: &Tools,
        certificates: &Certificates,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let kubeconfig = folder.join("kubeconfig");
        let text = yaml_serde::to_string(&json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "mesh", "cluster": {
                "server": format!("https://{NODE}:{PORT}"),
                "tls-server-name": SERVER_NAME,
                "certificate-authority": certificates.mesh_ca(),
            }}],
            "users": [{"name": "admin", "user": {"token": TOKEN}}],
            "contexts": [{"name": "mesh", "context": {"cluster": "mesh", "user": "admin"}}],
            "current-context": "mesh",
        }))?;
        std::fs::write(&kubeconfig, text)
            .with_context(|| format!("cannot write {}", kubeconfig.display()))?;
        Ok(Self {
            node: node.clone(),
            tools: tools.clone(),
            tls: Tls::new(certificates, Some(SERVER_NAME), None)?,
            kubeconfig,
        })
    }

    /// The kubeconfig of whoever may do everything.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Sends a request with a body in JSON and returns the answer in JSON, or its text as a JSON
    /// string where it is none.
    ///
    /// # Errors
    /// If there is no answer, or a status of 400 or more; quotes it.
    pub async fn request(
        &self,
        method: hyper::Method,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> anyhow::Result<Value> {
        let what = format!("{method} {path} at the API server");
        let mut call = Call::new(std::net::SocketAddr::from((NODE, PORT)), SERVER_NAME)
            .in_network(&self.node.network)
            .tls(self.tls.clone())
            .method(method)
            .path(path)
            .header("authorization", format!("Bearer {TOKEN}"));
        if let Some((kind, body)) = body {
            let body = body.to_string();
            call = call
                .header("content-type", kind)
                .header("content-length", body.len().to_string())
                .body(body);
        }
        let reply = call.send().await.with_context(|| what.clone())?;
        let text = reply.text();
        ensure!(reply.status < 400, "{what}: {} {text}", reply.status);
        Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// A command line of `kubectl` as whoever may do everything.
    pub fn kubectl<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        self.program("kubectl", arguments)
    }

    /// A command line of `istioctl` as whoever may do everything.
    pub fn istioctl<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        self.program("istioctl", arguments)
    }

    fn program<S: AsRef<OsStr>>(
        &self,
        name: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = self.node.command(self.tools.program(name));
        command
            .env("KUBECONFIG", &self.kubeconfig)
            // Where it keeps what it has discovered.
            .env("HOME", self.kubeconfig.parent().unwrap_or(Path::new("/")))
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// Applies objects as `kubectl apply --server-side` does.
    ///
    /// # Errors
    /// What `kubectl` says.
    pub async fn apply(&self, objects: Vec<Value>) -> anyhow::Result<String> {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        let command = self.kubectl(["apply", "--server-side", "--force-conflicts", "-f", "-"]);
        run(command, Some(list.to_string())).await
    }

    /// Applies a folder with a `kustomization.yaml`, or a file or folder of manifests, as a person
    /// would.
    ///
    /// # Errors
    /// What `kubectl` says.
    pub async fn apply_path(&self, path: &Path) -> anyhow::Result<String> {
        let option = manifest_option(path);
        let mut command = self.kubectl(["apply", "--server-side", "--force-conflicts", option]);
        command.arg(path);
        run(command, None).await
    }

    /// Deletes what [`Api::apply_path`] has applied.
    ///
    /// # Errors
    /// What `kubectl` says.
    pub async fn delete_path(&self, path: &Path) -> anyhow::Result<String> {
        let mut command = self.kubectl(["delete", "--wait=false", manifest_option(path)]);
        command.arg(path);
        run(command, None).await
    }
}

/// How `kubectl` wants to hear of a path.
fn manifest_option(path: &Path) -> &'static str {
    if path.join("kustomization.yaml").is_file() {
        "-k"
    } else {
        "-f"
    }
}

/// Runs a command to its end and returns what it prints.
///
/// # Errors
/// If it fails: what it says.
pub(super) async fn run(mut command: Command, input: Option<String>) -> anyhow::Result<String> {
    let program = format!("{:?}", command.get_args().collect::<Vec<_>>());
    let output = tokio::task::spawn_blocking(move || {
        if input.is_some() {
            command.stdin(Stdio::piped());
        }
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let writer = match (child.stdin.take(), input) {
            (Some(mut stdin), Some(input)) => Some(std::thread::spawn(move || {
                stdin.write_all(input.as_bytes())
            })),
            _ => None,
        };
        let output = child.wait_with_output();
        if let Some(writer) = writer {
            // A program that has read enough closes the pipe; its status is what counts.
            let _ = writer.join();
        }
        output
    })
    .await?
    .with_context(|| program.clone())?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program}: {}", stderr.trim());
    Ok(format!(
        "{}{stderr}",
        String::from_utf8_lossy(&output.stdout)
    ))
}
