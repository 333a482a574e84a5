//! The committed examples are what the commands render today.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use meridian::policy::PolicyFile;
use meridian::verbs::render::{envoy, grafana, istio, prometheus};

/// Compares a folder under examples/ with a fresh rendering of the sample policy.
fn assert_current(folder: &str, rendered: Vec<(String, String)>) {
    let folder = examples().join(folder);
    let hint = format!("run `cargo run -- render … --out {}`", folder.display());
    let mut names = BTreeSet::new();
    for (name, text) in rendered {
        let committed = std::fs::read_to_string(folder.join(&name)).unwrap_or_default();
        assert!(committed == text, "{name} is not what is rendered: {hint}");
        names.insert(name);
    }
    let there: BTreeSet<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(there, names, "nothing else lies in {}", folder.display());
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

#[test]
fn envoy_examples_are_current() {
    let policy = PolicyFile::load(Some(&examples().join("policy.yaml"))).unwrap();
    assert_current(
        "envoy",
        envoy::render(&policy, &envoy::ModulePaths::default()).unwrap(),
    );
}

#[test]
fn istio_examples_are_current() {
    let policy = PolicyFile::load(Some(&examples().join("policy.yaml"))).unwrap();
    assert_current(
        "istio",
        istio::render(&policy, &istio::ModulePaths::default()).unwrap(),
    );
}

#[test]
fn prometheus_examples_are_current() {
    let policy = PolicyFile::load(Some(&examples().join("policy.yaml")))
        .unwrap()
        .policy;
    assert_current(
        "prometheus",
        prometheus::render(&policy, &prometheus::Windows::default()).unwrap(),
    );
}

#[test]
fn grafana_examples_are_current() {
    assert_current("grafana", grafana::render().unwrap());
}
