//! Who may depend on whom, read from Cargo's own view of the workspace.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand, TargetKind};

/// For tests alone: any crate may have it as a dev-dependency, and none in any other way.
const FOR_TESTS: &str = "meridian-vectors";

/// The map of README.md: each crate, and the crates of the workspace that it may use.
const MAY_USE: [(&str, &[&str]); 10] = [
    ("meridian-policy", &[]),
    ("meridian-metrics", &[]),
    ("meridian-plugin", &["meridian-policy", "meridian-metrics"]),
    ("meridian-ingress", &["meridian-plugin"]),
    ("meridian-egress", &["meridian-plugin"]),
    ("meridian-sidecar", &["meridian-plugin"]),
    ("meridian-yardstick", &[]),
    ("meridian", &["meridian-policy", "meridian-metrics"]),
    ("meridian-vectors", &["meridian-policy"]),
    (
        "meridian-tests",
        &["meridian", "meridian-policy", "meridian-metrics"],
    ),
];

fn metadata() -> cargo_metadata::Metadata {
    MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .exec()
        .unwrap()
}

#[test]
fn crates_use_only_what_the_map_allows() {
    let metadata = metadata();
    let may_use: BTreeMap<&str, BTreeSet<&str>> = MAY_USE
        .iter()
        .map(|(name, uses)| (*name, uses.iter().copied().collect()))
        .collect();
    let members = metadata.workspace_packages();
    let names: BTreeSet<&str> = members
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    assert_eq!(
        names,
        may_use.keys().copied().collect(),
        "MAY_USE lists the workspace"
    );
    for package in &members {
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            if name == FOR_TESTS {
                assert_eq!(
                    dependency.kind,
                    DependencyKind::Development,
                    "{} must not ship {name}",
                    package.name
                );
                continue;
            }
            assert!(
                !names.contains(name) || may_use[package.name.as_str()].contains(name),
                "{} must not use {name}",
                package.name
            );
        }
    }
}

#[test]
fn only_the_plugin_and_the_yardstick_touch_proxy_wasm() {
    for package in metadata().workspace_packages() {
        let uses = package
            .dependencies
            .iter()
            .any(|dependency| dependency.name == "proxy-wasm");
        assert_eq!(
            uses,
            ["meridian-plugin", "meridian-yardstick"].contains(&package.name.as_str()),
            "{}",
            package.name
        );
    }
}

#[test]
fn wasm_bindgen_stays_a_tool_of_the_tests() {
    for package in metadata().workspace_packages() {
        for dependency in &package.dependencies {
            let is_tool = dependency.kind == DependencyKind::Development
                || package.name.as_str() == "meridian-tests";
            assert!(
                !dependency.name.starts_with("wasm-bindgen") || is_tool,
                "{} must not ship {}",
                package.name,
                dependency.name
            );
        }
    }
}

#[test]
fn cargo_run_is_meridian() {
    let metadata = metadata();
    let defaults: Vec<_> = metadata
        .workspace_packages()
        .into_iter()
        .filter(|package| metadata.workspace_default_members.contains(&package.id))
        .collect();
    let runs: Vec<&str> = defaults
        .iter()
        .filter_map(|package| package.default_run.as_deref())
        .collect();
    assert_eq!(runs, ["meridian"]);
    let is_module = |package: &&cargo_metadata::Package| {
        package
            .targets
            .iter()
            .any(|target| target.kind.contains(&TargetKind::CDyLib))
    };
    assert!(
        !defaults.iter().any(is_module),
        "default members are native"
    );
}
