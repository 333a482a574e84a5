//! The committed examples are what the commands render today.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::render_istio::istio_args;
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
    let mut there = BTreeSet::new();
    list(&folder, "", &mut there);
    assert_eq!(there, names, "nothing else lies in {}", folder.display());
}

/// The paths of the files below a folder.
fn list(folder: &Path, prefix: &str, paths: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{prefix}{}", entry.file_name().into_string().unwrap());
        match entry.path().is_dir() {
            true => list(&entry.path(), &format!("{path}/"), paths),
            false => assert!(paths.insert(path)),
        }
    }
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

#[test]
fn envoy_examples_are_current() {
    let policy = PolicyFile::load(Some(&examples().join("policy.yaml"))).unwrap();
    assert_current(
        "envoy",
        envoy::render(&policy, &envoy::Options::default()).unwrap(),
    );
}

#[test]
fn istio_examples_are_current() {
    let policy = PolicyFile::load(Some(&examples().join("policy.yaml"))).unwrap();
    let plugins = ["--namespace", "orders", "--namespace", "shop"];
    let label = ["--select-label", "meridian=enabled"];
    for (form, options) in [
        ("envoyfilter", vec![]),
        ("trafficextension", plugins.to_vec()),
        ("wasmplugin", [&plugins[..], &label].concat()),
    ] {
        let mut options = options;
        options.extend(["--as", form, "--modules", "oci://registry.example/meridian"]);
        let files = istio::render(&policy, &istio_args(&options)).unwrap().files;
        assert_current(&format!("istio/{form}"), files);
    }
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
