//! The main job, as a stranger runs it.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;

fn demo(arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_meridian"))
        .arg("demo")
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn the_demo_shows_every_scenario_as_the_policy_says() {
    let output = demo(&["--json"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let result: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    assert_eq!(result["ok"], true, "{result:#}");
    assert_eq!(output.status.code(), Some(0));
    let requests = result["requests"].as_array().unwrap();
    let request = |title: &str| {
        requests
            .iter()
            .find(|request| request["title"] == title)
            .unwrap_or_else(|| panic!("no request {title:?}"))
    };
    let tag = |request: &Value| {
        let headers = request["arrival"]["headers"].as_array().unwrap();
        let tags: Vec<String> = headers
            .iter()
            .filter(|header| header[0] == "x-traffic-direction")
            .map(|header| header[1].as_str().unwrap().to_owned())
            .collect();
        tags
    };

    let allowed = request("an outside client asks for an allowed host");
    assert_eq!(
        (&allowed["status"], tag(allowed)),
        (&200.into(), vec!["north-south".to_owned()])
    );
    assert_eq!(allowed["hops"][0]["rule"], "storefront");
    let forged = request("… for an allowed host, under a forged tag");
    assert_eq!(tag(forged), ["north-south"]);
    let hairpin = request("a pod hairpins through the ingress gateway");
    assert_eq!(tag(hairpin), ["east-west"]);
    let leaving = request("an application calls an allowed host outside");
    assert_eq!((&leaving["status"], tag(leaving)), (&200.into(), vec![]));
    for (title, status) in [
        ("… for a host that no rule names", 403),
        ("… for a host that a rule denies", 403),
        ("… over a TLS connection for another host", 421),
        ("… for an invalid host", 400),
        ("… a host outside that a rule denies", 403),
    ] {
        let refused = request(title);
        assert_eq!(
            (&refused["status"], &refused["arrival"]),
            (&status.into(), &Value::Null),
            "{title}"
        );
    }
    let passed = request("an application speaks TLS to an allowed host outside");
    assert_eq!(passed["status"], 200);
    assert_eq!(passed["arrival"]["server"], "api.partner.example");
    assert_eq!(passed["hops"][0]["evidence"], "outside-sni");
    let closed = request("… to a host outside that a rule denies");
    assert_eq!(
        (&closed["status"], &closed["arrival"]),
        (&Value::Null, &Value::Null)
    );
    // A mesh without NGINX is a smaller demo; CI has it.
    if std::env::var_os("CI").is_some() {
        assert_eq!(
            tag(request(
                "an outside client asks NGINX for a system component"
            )),
            ["north-south"]
        );
        assert_eq!(tag(request("… under a forged tag")), ["north-south"]);
    }
    // The README shows the map of a demo with NGINX.
    let map = tempfile::tempdir().unwrap();
    let map = map.path().join("map.svg");
    let drawn = Command::new(env!("CARGO_BIN_EXE_meridian"))
        .args(["report", "--out", "/dev/null", "--map"])
        .arg(&map)
        .arg(result["run"].as_str().unwrap())
        .output()
        .unwrap();
    assert!(drawn.status.success(), "{drawn:?}");
    assert!(std::path::Path::new(result["report"].as_str().unwrap()).exists());
    if requests.len() == 16 {
        let root = meridian::lab::paths::workspace_root().unwrap();
        let shown = std::fs::read_to_string(root.join("examples/traffic-map.svg")).unwrap();
        assert!(
            std::fs::read_to_string(&map).unwrap() == shown,
            "draw examples/traffic-map.svg again: meridian report --map"
        );
    }
    let metrics = result["metrics"].as_array().unwrap();
    assert!(metrics.iter().any(|sample| {
        sample["name"] == "meridian_requests_total"
            && sample["labels"]["reporter"] == "egress"
            && sample["labels"]["rule"] == "no-trackers"
            && sample["labels"]["decision"] == "deny"
            && sample["value"] == 1.0
    }));
}

/// The demo fails when what it sees is not what the policy says: here every Envoy gets a policy in
/// which one rule has another name.
#[test]
fn the_demo_fails_when_the_policy_does_not_come_true() {
    let envoy = meridian::lab::envoy::obtain(None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let wrapper = folder.path().join("envoy");
    let script = format!(
        "#!/bin/sh\nfor argument; do\n  case $argument in *.json) sed -i s/no-admin/no-other/ \"$argument\" ;; esac\ndone\nexec {} \"$@\"\n",
        envoy.display()
    );
    std::fs::write(&wrapper, script).unwrap();
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = demo(&["--envoy", wrapper.to_str().unwrap()]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{stdout}");
    assert!(stdout.contains("WRONG"), "{stdout}");
    // 14 without NGINX.
    let ends = [14, 16].map(|all| format!("1 of {all} requests were NOT as the policy says"));
    assert!(ends.iter().any(|end| stdout.contains(end)), "{stdout}");
}

/// A worker that has no room for a VM is live without it, and would let everything pass.
#[test]
fn an_envoy_without_room_for_its_vms_is_an_error() {
    let envoy = meridian::lab::envoy::obtain(None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let wrapper = folder.path().join("envoy");
    // Enough for the VMs with which a sidecar's Envoy tries its two filters, not for its workers'.
    let script = format!(
        "#!/bin/sh\nulimit -v 48000000\nexec {} \"$@\"\n",
        envoy.display()
    );
    std::fs::write(&wrapper, script).unwrap();
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = demo(&["--envoy", wrapper.to_str().unwrap()]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("a worker without a filter's VM") && stderr.contains("ulimit -v unlimited"),
        "{stderr}"
    );
}
