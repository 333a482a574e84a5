//! The committed examples are what the commands render today.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Parser;

use crate::render_istio::istio_args;
use meridian::policy::PolicyFile;
use meridian::verbs::render::compose::{self, ComposeArgs};
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
    // What the project's image is built by is written by hand.
    there.remove("Dockerfile");
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

#[test]
fn docker_examples_are_current() {
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ComposeArgs,
    }
    let policy = examples().join("policy.yaml");
    let out = examples().canonicalize().unwrap().join("docker");
    let line = [
        "render".as_ref(),
        "--policy".as_ref(),
        policy.as_os_str(),
        "--out".as_ref(),
        out.as_os_str(),
    ];
    let args = Line::parse_from(line).args;
    assert_current("docker", compose::render(&args).unwrap());
}

/// YAML 1.1, which docker-compose 1.29 reads, has more words for numbers and truth than 1.2.
#[test]
fn the_compose_project_means_the_same_in_yaml_1_1() {
    let text = std::fs::read_to_string(examples().join("docker/docker-compose.yml")).unwrap();
    let ambiguous = |value: &str| {
        let lower = value.to_ascii_lowercase();
        let is_sexagesimal = value.contains(':')
            && value
                .split(':')
                .skip(1)
                .all(|part| part.len() <= 2 && part.parse::<u8>().is_ok_and(|part| part < 60))
            && value
                .split(':')
                .next()
                .is_some_and(|first| first.parse::<u64>().is_ok());
        ["y", "n", "yes", "no", "on", "off"].contains(&lower.as_str()) || is_sexagesimal
    };
    assert!(ambiguous("no") && ambiguous("472:0") && !ambiguous("101:101"));
    for line in text.lines() {
        let value = line.rsplit_once(": ").map_or(line, |(_, value)| value);
        let value = value.trim().trim_start_matches("- ");
        assert!(!ambiguous(value), "{line}");
    }
}
