//! `meridian mesh`, as a person starts it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::attached::text_of;

/// How long a request may take to be decided after the policy was applied.
const PUSHED: Duration = Duration::from_secs(60);

#[tokio::test]
async fn one_command_attaches_a_policy_to_a_real_istio() {
    let Some(_turn) = crate::turn().await else {
        return;
    };
    let root = meridian::lab::paths::workspace_root().unwrap();
    for form in ["envoyfilter", "trafficextension", "wasmplugin"] {
        attach(&root, form);
    }
}

/// Starts the mesh with the sample policy, asks from outside, and ends it as Ctrl-C does.
fn attach(root: &Path, form: &str) {
    let mut mesh = Command::new(env!("CARGO_BIN_EXE_meridian"))
        .args(["mesh", "--json", "--as", form, "--policy"])
        .arg(root.join("examples/policy.yaml"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(mesh.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    let description: Value = serde_json::from_str(&line)
        .unwrap_or_else(|error| panic!("{error}: the mesh did not start: {line}"));
    let bin = Path::new(description["bin"].as_str().unwrap()).to_path_buf();
    let on = |host: &str, arguments: &[&str]| {
        let mut command = Command::new(bin.join("on"));
        let output = command.arg(host).args(arguments).output().unwrap();
        text_of(&output.stdout)
    };
    let address = description["pods"]["istio-ingress"]["address"]
        .as_str()
        .unwrap();
    let ask = |host: &str| {
        let host = format!("Host: {host}");
        let forged = "x-traffic-direction: east-west";
        let url = format!("http://{address}/");
        on("client", &["curl", "-s", "-H", &host, "-H", forged, &url])
    };
    let deadline = Instant::now() + PUSHED;
    loop {
        let answer = ask("shop.example.com");
        if answer.contains(r#"["x-traffic-direction","north-south"]"#) {
            break;
        }
        assert!(Instant::now() < deadline, "{form}: {answer}");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(ask("intranet.example.com"), "host not allowed\n", "{form}");
    let pods = Command::new(bin.join("kubectl"))
        .args(["get", "pods", "-A"])
        .output()
        .unwrap();
    assert!(
        text_of(&pods.stdout).contains("istio-ingress-internal-1"),
        "{pods:?}"
    );

    let registry = ["meridian", "pack", "--json", "--plain-http", "--push"];
    let repository = format!("{}/by-hand", description["registry"].as_str().unwrap());
    let list = Command::new(bin.join("on"))
        .arg("node")
        .args(registry)
        .arg(repository)
        .env("PATH", path_with(&bin))
        .output()
        .unwrap();
    assert!(
        text_of(&list.stdout).contains("by-hand/ingress:"),
        "{list:?}"
    );

    let id = Pid::from_raw(mesh.id().cast_signed());
    kill(id, Signal::SIGINT).unwrap();
    assert!(mesh.wait().unwrap().success());
    let run = description["run"].as_str().unwrap();
    let left: Vec<String> = processes()
        .into_iter()
        .filter(|line| line.contains(run))
        .collect();
    assert!(left.is_empty(), "{form}: still running: {left:?}");
}

/// The PATH that the mesh asks people for.
fn path_with(bin: &Path) -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap();
    let known = std::env::split_paths(&path);
    std::env::join_paths(std::iter::once(bin.to_path_buf()).chain(known)).unwrap()
}

/// The command lines of all processes.
fn processes() -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap();
    let lines = entries.filter_map(|entry| {
        let line = std::fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        Some(text_of(&line))
    });
    lines.collect()
}
