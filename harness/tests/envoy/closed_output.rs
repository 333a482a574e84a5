//! A reader of stdout that goes early, as in `meridian check … | head -1`.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};

use nix::sys::signal::Signal;

/// Runs a verb whose stdout nobody reads; gives how it ended and its stderr.
fn unread(arguments: &[&str]) -> (ExitStatus, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_meridian"))
        .args(arguments)
        .stdout(writer)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
    assert!(!stderr.contains("error"), "{arguments:?}: {stderr}");
    (output.status, stderr)
}

#[test]
fn verbs_that_read_and_print_end_by_sigpipe() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let bad = file("bad.yaml", "mesh: {cidr: []}\nhosts: {ingres: {}}\n");
    let log = file(
        "a.log",
        "{\"authority\": \"a.example\", \"response_code\": 403}\n",
    );
    let cases = file(
        "cases.yaml",
        "- {name: a, request: {at: ingress, authority: shop.example.com}, expect: {decision: allow}}\n",
    );
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/policy.yaml");
    let sample = sample.to_str().unwrap();
    for arguments in [
        &["check", "--policy", &bad][..],
        &["check", "--json", "--policy", &bad],
        &["check", "--json", "--policy", sample],
        &[
            "explain",
            "--policy",
            sample,
            "--at",
            "ingress",
            "--authority",
            "shop.example.com",
        ],
        &[
            "explain",
            "--json",
            "--policy",
            sample,
            "--at",
            "ingress",
            "--authority",
            "a.example",
        ],
        &["render", "envoy", "--policy", sample],
        &["render", "grafana"],
        &["build"],
        &["build", "--json"],
        &["schema"],
        &["docs", "verbs"],
        &["docs", "completions", "bash"],
        &["test", "--policy", sample, &cases],
        &["learn", "--policy", sample, &log],
        &["report", &log],
    ] {
        let (status, stderr) = unread(arguments);
        assert_eq!(
            status.signal(),
            Some(Signal::SIGPIPE as i32),
            "{arguments:?}: {status}, {stderr}"
        );
    }
}

/// It holds sockets, whose ends must not end it.
#[test]
fn the_demo_ends_with_the_code_of_sigpipe() {
    let (status, stderr) = unread(&["demo"]);
    assert_eq!(status.code(), Some(141), "{stderr}");
}
