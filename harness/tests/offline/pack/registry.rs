//! Pushing to a real registry, Debian's `docker-registry`, on a port of the kernel's choice.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine};
use meridian::lab::child::ChildProcess;
use meridian::text::sha256::sha256;
use serde_json::{Value, json};

use super::{assert_fails, modules, pack, plugin_in};

const DEADLINE: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

const PASSWORD: &str = "secret";
/// For `me`, as `htpasswd -B` writes it.
const HTPASSWD: &str = "me:$2b$04$hRSq04jUWtrP4gale.kR0.xCk78smGLtpDqwf2Cdm9l7uvMU0fugS\n";

/// A registry that ends with this value.
struct Registry {
    address: String,
    login: Option<String>,
    _folder: tempfile::TempDir,
    _process: ChildProcess,
}

impl Registry {
    /// Starts one, with a password if it `asks` for it; `None`, with a word about it, where none is
    /// installed, and an error in CI.
    fn start(asks: bool) -> Option<Self> {
        if Command::new("docker-registry")
            .arg("--version")
            .output()
            .is_err()
        {
            assert!(
                std::env::var_os("CI").is_none(),
                "no `docker-registry` on the PATH: install Debian's package, as .ci/run does"
            );
            // `eprintln!` would be captured.
            let line = "NOT RUN: a push to a registry; there is no `docker-registry` on the PATH\n";
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut configuration = json!({
            "version": "0.1",
            "storage": {"filesystem": {"rootdirectory": path("data")}},
            "http": {"addr": "127.0.0.1:0"},
        });
        if asks {
            fs::write(path("htpasswd"), HTPASSWD).unwrap();
            configuration["auth"] = json!({"htpasswd": {"realm": "r", "path": path("htpasswd")}});
        }
        // YAML is JSON, too.
        fs::write(path("config.yml"), configuration.to_string()).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(path("config.yml"));
        let mut process = ChildProcess::spawn(command, &path("log")).unwrap();
        let deadline = Instant::now() + DEADLINE;
        let address = loop {
            let log = fs::read_to_string(path("log")).unwrap();
            let listening = log.split_once("listening on ");
            if let Some((address, _)) = listening.and_then(|(_, rest)| rest.split_once('"')) {
                break address.to_owned();
            }
            let ended = process.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "{ended:?}: {log}"
            );
            std::thread::sleep(POLL_INTERVAL);
        };
        let login = asks.then(|| BASE64_STANDARD.encode(format!("me:{PASSWORD}")));
        Some(Self {
            address,
            login,
            _folder: folder,
            _process: process,
        })
    }

    /// What it serves at a path of its API, as a document of this type.
    fn get(&self, path: &str, accept: &str) -> Vec<u8> {
        let agent: ureq::Agent = ureq::Agent::config_builder().proxy(None).build().into();
        let mut request = agent
            .get(format!("http://{}/v2/m/{path}", self.address))
            .header("accept", accept);
        if let Some(login) = &self.login {
            request = request.header("authorization", format!("Basic {login}"));
        }
        request.call().unwrap().body_mut().read_to_vec().unwrap()
    }

    fn json(&self, path: &str, accept: &str) -> Value {
        serde_json::from_slice(&self.get(path, accept)).unwrap()
    }
}

fn write_login(docker: &Path, registry: &str, password: &str) {
    let auth = BASE64_STANDARD.encode(format!("me:{password}"));
    let configuration = json!({"auths": {registry: {"auth": auth}}});
    fs::write(docker.join("config.json"), configuration.to_string()).unwrap();
}

#[test]
fn a_registry_serves_what_was_pushed() {
    let Some(registry) = Registry::start(false) else {
        return;
    };
    let docker = tempfile::tempdir().unwrap();
    let to = format!("{}/m", registry.address);
    let push = || {
        let output = pack(
            docker.path(),
            &["--push", &to, "--plain-http", "--tag", "t", "--json"],
        );
        modules(&output)
    };
    let listed = push();
    assert_eq!(listed.len(), 6);
    for module in &listed {
        let name = module["name"].as_str().unwrap();
        let tag = if module["lean"] == true {
            "t-lean"
        } else {
            "t"
        };
        assert_eq!(module["reference"], format!("{to}/{name}:{tag}"));
        let digest = module["digest"].as_str().unwrap();
        let manifest = registry.get(&format!("{name}/manifests/{tag}"), MANIFEST);
        assert_eq!(format!("sha256:{}", sha256(&manifest)), digest);

        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let layer = manifest["layers"][0]["digest"].as_str().unwrap();
        let wasm = plugin_in(&registry.get(&format!("{name}/blobs/{layer}"), "*/*"));
        assert_eq!(module["sha256"], sha256(&wasm));

        let artefact = registry.json(&format!("{name}/manifests/{tag}-artifact"), MANIFEST);
        let content = artefact["layers"][1]["digest"].as_str().unwrap();
        assert_eq!(content, format!("sha256:{}", sha256(&wasm)));

        // This registry keeps no list of referrers.
        let referrers = digest.replace(':', "-");
        let referrers = registry.json(&format!("{name}/manifests/{referrers}"), INDEX);
        let [sbom] = referrers["manifests"].as_array().unwrap().as_slice() else {
            panic!("{referrers}");
        };
        assert_eq!(sbom["artifactType"], "application/vnd.cyclonedx+json");
        let path = format!("{name}/manifests/{}", sbom["digest"].as_str().unwrap());
        assert_eq!(registry.json(&path, MANIFEST)["subject"]["digest"], digest);
    }
    // Again: what is there stays, and nothing is listed twice.
    assert_eq!(push(), listed);
    let digest = listed[0]["digest"].as_str().unwrap().replace(':', "-");
    let referrers = registry.json(&format!("ingress/manifests/{digest}"), INDEX);
    assert_eq!(referrers["manifests"].as_array().unwrap().len(), 1);
}

#[test]
fn a_registry_with_a_password_takes_the_one_of_docker_login() {
    let Some(registry) = Registry::start(true) else {
        return;
    };
    let docker = tempfile::tempdir().unwrap();
    let to = format!("{}/m", registry.address);
    let push = || pack(docker.path(), &["--push", &to, "--plain-http", "--json"]);
    let login = format!("run `docker login {}`", registry.address);
    let nobody = push();
    assert_fails(&nobody, "there are no credentials for it");
    assert_fails(&nobody, &login);
    write_login(docker.path(), &registry.address, "wrong");
    let wrong = push();
    assert_fails(&wrong, "the credentials of `docker login` do not suffice");
    assert_fails(&wrong, &login);
    write_login(docker.path(), &registry.address, PASSWORD);
    modules(&push());
    let manifest = format!("ingress/manifests/{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(registry.json(&manifest, MANIFEST)["schemaVersion"], 2);
}

#[test]
fn a_registry_that_cannot_be_talked_to_is_explained() {
    let docker = tempfile::tempdir().unwrap();
    let unused = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = unused.local_addr().unwrap();
    drop(unused);
    let to = format!("{address}/m");
    assert_fails(
        &pack(docker.path(), &["--push", &to]),
        &format!("nothing listens at {address}"),
    );
    if let Some(registry) = Registry::start(false) {
        let to = format!("{}/m", registry.address);
        let expected = "if it is meant to serve plain HTTP, add --plain-http";
        assert_fails(&pack(docker.path(), &["--push", &to]), expected);
    }
}
