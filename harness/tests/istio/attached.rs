//! A mesh with the filters attached, by the command line as a person would.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use meridian::lab::mesh::roles::{self, Role};
use meridian::lab::mesh::{Mesh, MeshOptions, Pod};
use meridian::lab::prometheus::Samples;
use meridian::lab::topology::Call;
use meridian::policy::PolicyFile;
use serde_json::Value;
use tempfile::TempDir;

/// How long the proxies may take to take a change.
pub const PUSHED: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A mesh, and the files that its filters came from.
pub struct Attached {
    pub mesh: Mesh,
    folder: TempDir,
}

/// A file of these tests.
pub fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/istio")
        .join(name)
}

/// A request of the client outside to a gateway.
pub fn call(mesh: &Mesh, gateway: &Role, host: &str) -> Call {
    let address = SocketAddr::from((gateway.address, 80));
    Call::new(address, host).in_network(&mesh.client().network)
}

/// The directions that requests have arrived with since somebody has taken the arrivals.
pub fn directions(mesh: &Mesh) -> Vec<Vec<String>> {
    let arrived = mesh.arrivals().take();
    let values = arrived.iter().map(|one| one.header("x-traffic-direction"));
    values
        .map(|values| values.into_iter().map(str::to_owned).collect())
        .collect()
}

/// What a program printed.
pub fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs the command line to its end.
fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        text_of(&output.stderr)
    );
    text_of(&output.stdout)
}

/// Runs `meridian` to its end and returns what it prints.
pub fn meridian(arguments: &[&str]) -> String {
    output(Command::new(env!("CARGO_BIN_EXE_meridian")).args(arguments))
}

/// Runs `meridian`, which finds something and exits with 1, and returns what it prints.
pub fn findings(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meridian"));
    let output = command.args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text_of(&output.stderr));
    text_of(&output.stdout)
}

impl Attached {
    /// A mesh with the routes of `examples/istio/routes.yaml`, the configuration that is rendered for it, and the
    /// modules in its registry; nothing is attached yet.
    pub async fn start(name: &str, envoy: PathBuf, istio_version: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        meridian(&["build"]);
        // Its configuration is the same for every form and every place of the modules.
        let rendered = folder.path().join("first");
        render(
            &file("policy.yaml"),
            &rendered,
            "oci://registry.example/none",
            &[],
        );
        let read = |name: &str| -> Value {
            let text = std::fs::read_to_string(rendered.join("mesh").join(name)).unwrap();
            yaml_serde::from_str(&text).unwrap()
        };
        let mesh_config = read("mesh-config.yaml")["meshConfig"].clone();
        let template = read("pod-template.yaml");
        let annotations = template["spec"]["template"]["metadata"]["annotations"].clone();
        assert!(
            mesh_config.is_object() && annotations.is_object(),
            "{template}"
        );
        let options = MeshOptions {
            run: name.to_owned(),
            envoy,
            istio_version: istio_version.to_owned(),
            mesh_config,
            annotations,
        };
        let mesh = Mesh::start(&options).await.unwrap();
        let attached = Self { mesh, folder };
        attached.mesh.apply_routes().await.unwrap();
        let list = attached.pack(&[]);
        std::fs::write(attached.modules(), list).unwrap();
        attached
    }

    /// What `pack --json` said.
    pub fn modules(&self) -> PathBuf {
        self.folder.path().join("modules.json")
    }

    /// A folder for a rendering.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Packs the modules and pushes them to the mesh's registry.
    pub fn pack(&self, options: &[&str]) -> String {
        let mut command = self.mesh.node().command(env!("CARGO_BIN_EXE_meridian"));
        let repository = format!("{}/meridian", roles::REGISTRY);
        command.args(["pack", "--push", &repository, "--plain-http", "--json"]);
        output(command.args(options))
    }

    /// Renders the policy into a folder, with the modules that were pushed.
    pub fn render(&self, policy: &Path, name: &str, options: &[&str]) -> PathBuf {
        let folder = self.folder(name);
        render(policy, &folder, self.modules().to_str().unwrap(), options);
        folder
    }

    /// The same with modules that lie in the file system of every pod.
    pub fn render_files(&self, policy: &Path, name: &str) -> PathBuf {
        // Every pod sees the run folder.
        let modules = self.mesh.run_folder().join("modules");
        std::fs::create_dir_all(&modules).unwrap();
        for entry in std::fs::read_dir(meridian::lab::paths::modules_dir().unwrap()).unwrap() {
            let path = entry.unwrap().path();
            if path
                .extension()
                .is_some_and(|extension| extension == "wasm")
            {
                std::fs::copy(&path, modules.join(path.file_name().unwrap())).unwrap();
            }
        }
        let folder = self.folder(name);
        let inside = format!("file://{}/modules", meridian::lab::mesh::RUN);
        render(policy, &folder, &inside, &[]);
        folder
    }

    /// Renders the policy as [`Attached::render`], which may fail.
    pub fn try_render(&self, policy: &Path, name: &str, options: &[&str]) -> Output {
        let folder = self.folder(name);
        let modules = self.modules();
        let mut command = Command::new(env!("CARGO_BIN_EXE_meridian"));
        command.args(["render", "istio", "--policy"]).arg(policy);
        command
            .arg("--out")
            .arg(folder)
            .arg("--modules")
            .arg(modules);
        command.args(options).output().unwrap()
    }

    pub async fn apply(&self, path: &Path) {
        self.mesh.api().apply_path(path).await.unwrap();
    }

    pub async fn delete(&self, path: &Path) {
        self.mesh.api().delete_path(path).await.unwrap();
    }

    /// Waits until all these pods report the revision of `policy`, sidecars twice.
    pub async fn until_in_force(&self, policy: &Path, roles: &[Role]) {
        let revision = PolicyFile::load(Some(policy)).unwrap().revision();
        let revision = revision as f64;
        for role in roles {
            let reporters: &[&str] = match (role.istio, *role == roles::EGRESS) {
                (None, _) => &["inbound", "outbound"],
                (Some(_), true) => &["egress"],
                (Some(_), false) => &["ingress"],
            };
            let pod = self.mesh.pod(role);
            until(
                &format!("{} has revision {revision}", role.name),
                async || {
                    let scraped = scrape(pod).await;
                    let is_reported = reporters.iter().all(|reporter| {
                        let labels = [("reporter", *reporter)];
                        scraped.value("meridian_policy_revision", &labels) == revision
                    });
                    let chains = chains(pod).await;
                    is_reported
                        && !chains.is_empty()
                        && chains.iter().all(|chain| chain.is_filtered)
                },
            )
            .await;
        }
    }
}

/// What a pod's Envoy is scraped of.
pub async fn scrape(pod: &Pod) -> Samples {
    Samples::parse(&pod.scrape().await.unwrap()).unwrap()
}

/// A filter chain that takes connections.
#[derive(Debug)]
pub struct Chain {
    /// True if a filter of Meridian's decides in it.
    pub is_filtered: bool,
}

/// The filter chains of a pod's listeners for HTTP, and at a gateway those that pass connections on
/// unread, too. A sidecar has no filter in the latter.
pub async fn chains(pod: &Pod) -> Vec<Chain> {
    chains_of(pod, false).await
}

/// The filter chains of a gateway's AUTO_PASSTHROUGH servers.
pub async fn chains_between_clusters(pod: &Pod) -> Vec<Chain> {
    chains_of(pod, true).await
}

fn is_between_clusters(listener: &Value) -> bool {
    listener["address"]["socket_address"]["port_value"] == 15443
}

async fn chains_of(pod: &Pod, between_clusters: bool) -> Vec<Chain> {
    let dump = pod
        .admin("/config_dump?resource=dynamic_listeners")
        .await
        .unwrap();
    let dump: Value = serde_json::from_str(&dump).unwrap();
    let listeners = dump["configs"].as_array().into_iter().flatten();
    let listeners = listeners
        .map(|listener| &listener["active_state"]["listener"])
        .filter(|listener| is_between_clusters(listener) == between_clusters);
    let all = listeners.flat_map(|listener| {
        let default = &listener["default_filter_chain"];
        let others = listener["filter_chains"].as_array().into_iter().flatten();
        others.chain((!default.is_null()).then_some(default))
    });
    let is_gateway = pod.role().istio.is_some();
    all.filter_map(|chain| {
        let text = chain["filters"].to_string();
        let has = |name: &str| text.contains(&format!("extensions.filters.{name}"));
        if has("network.http_connection_manager") {
            let is_filtered = has("http.wasm.v3.Wasm");
            return Some(Chain { is_filtered });
        }
        (is_gateway && has("network.tcp_proxy")).then(|| Chain {
            is_filtered: has("network.wasm.v3.Wasm"),
        })
    })
    .collect()
}

/// Waits until `holds` does.
pub async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PUSHED;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {PUSHED:?}: {what}");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn render(policy: &Path, folder: &Path, modules: &str, options: &[&str]) {
    let policy = policy.to_str().unwrap();
    let out = folder.to_str().unwrap();
    let command = [
        "render",
        "istio",
        "--policy",
        policy,
        "--out",
        out,
        "--modules",
        modules,
    ];
    meridian(&[&command[..], options].concat());
}
