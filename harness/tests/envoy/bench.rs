//! `meridian bench --quick` on real Envoys: what it prints, and that it measures nothing that does
//! not work. No figure is asserted: machines differ.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_meridian"))
        .args(["bench", "--quick"])
        .args(arguments)
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn array<'v>(value: &'v Value, key: &str) -> &'v Vec<Value> {
    value[key]
        .as_array()
        .unwrap_or_else(|| panic!("{key}: {value}"))
}

#[test]
fn a_quick_run_has_every_goal_cell_and_bar() {
    let folder = tempfile::tempdir().unwrap();
    let chart = folder.path().join("chart.svg");
    let output = bench(&[
        "--json",
        "--rounds",
        "2",
        "--chart",
        chart.to_str().unwrap(),
    ]);
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", stderr(&output)));

    let goals = array(&report, "goals");
    assert_eq!(goals.len(), 13);
    for goal in goals {
        let met = &goal["met"];
        assert!(goal["name"].is_string(), "{goal}");
        assert!(
            met.is_boolean() || met.is_null() || met == "unknown",
            "{goal}"
        );
        assert_eq!(met.is_null(), goal["target"].is_null(), "{goal}");
        assert_eq!(goal["measured"].is_null(), goal["low"].is_null(), "{goal}");
    }
    let all_met = goals
        .iter()
        .all(|goal| goal["met"] == true || goal["met"].is_null());
    assert!(!all_met, "a quick run leaves goals out");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));

    let cells = array(&report, "cells");
    let find = |filter: &str, traffic: &str| {
        cells
            .iter()
            .find(|cell| cell["filter"] == filter && cell["traffic"] == traffic)
            .unwrap_or_else(|| panic!("no cell {filter}, {traffic}"))
    };
    for traffic in ["direct", "refused", "HTTP/2", "upstream", "1 MB"] {
        find("lua-1000", traffic);
        find("ingress-1000", traffic);
    }
    for filter in [
        "none",
        "none-again",
        "sdk-empty",
        "rbac-10+header_mutation",
        "rbac-1000+header_mutation",
        "ingress-10",
        "egress-1000",
        "inbound-1000",
        "outbound-1000",
    ] {
        find(filter, "direct");
    }
    for cell in cells {
        let rounds = array(&cell["rounds"], "cpuMicroseconds");
        assert_eq!(rounds.len(), 2, "{cell}");
        let least = rounds
            .iter()
            .filter_map(Value::as_f64)
            .fold(f64::MAX, f64::min);
        assert!(least > 0.0, "{cell}");
        // Two rounds and two to warm up, each with its own warm-up and its latencies.
        assert!(cell["sent"].as_u64().unwrap() > 4 * 8, "{cell}");
        for figure in ["p50Microseconds", "p99Microseconds", "addedMicroseconds"] {
            assert!(cell[figure]["median"].is_number(), "{figure} of {cell}");
        }
    }
    let control = &find("none", "direct")["addedMicroseconds"]["median"];
    assert_eq!(control.as_f64(), Some(0.0), "nothing is added to itself");

    for machine in ["cpu", "kernel", "envoy"] {
        assert_ne!(report["machine"][machine], "", "{machine}");
    }
    let cpus = &report["machine"];
    assert_ne!(cpus["envoyOnCpu"], cpus["loadOnCpu"]);
    assert_eq!(array(&report, "modules").len(), 3);
    assert_eq!(array(&report, "footprints").len(), 2);

    let svg = fs::read_to_string(chart).unwrap();
    for filter in ["lua-1000", "ingress-1000", "sdk-empty"] {
        assert!(
            svg.contains(&format!(">{filter}</text>")),
            "{filter}: {svg}"
        );
    }
}

/// An Envoy whose configuration is changed by `sed` before it starts.
fn changed_envoy(folder: &Path, change: &str) -> PathBuf {
    let envoy = meridian::lab::envoy::obtain(None).unwrap();
    let path = folder.join("envoy");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" != --config-path ] || sed -i '{change}' \"$2\"\nexec {} \"$@\"\n",
        envoy.display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_filter_that_does_not_work_is_not_measured() {
    for (filter, change) in [
        (
            "lua-1000",
            r#"s/\[\\":status\\"\] = \\"403\\"/[\\":status\\"] = \\"404\\"/"#,
        ),
        (
            "rbac-10",
            r#"s/"value": "north-south"/"value": "east-west"/"#,
        ),
        (
            "ingress-1000",
            r#"s/hosts\\":\[\\"promotions-999/hosts\\":[\\"promotions-998/"#,
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let envoy = changed_envoy(folder.path(), change);
        let output = bench(&["--envoy", envoy.to_str().unwrap()]);
        let why = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{filter}: {why}");
        assert!(why.contains(filter), "{filter}: {why}");
        assert!(
            why.contains("does not do what it is measured for"),
            "{filter}: {why}"
        );
        assert!(output.stdout.is_empty(), "{filter}");
    }
}

#[test]
fn a_run_without_rounds_is_misuse() {
    assert_eq!(bench(&["--rounds", "0"]).status.code(), Some(2));
}
