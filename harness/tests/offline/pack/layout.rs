//! The folder: an OCI image layout.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use flate2::read::GzDecoder;
use meridian::lab::paths;
use meridian::oci::Crates;
use meridian::text::sha256::sha256;
use serde_json::{Value, json};
use walrus::Module;

use super::{assert_fails, blob, files, modules, pack, plugin_in};

const SBOM: &str = "application/vnd.cyclonedx+json";

fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn a_layout_holds_what_its_index_names_and_is_the_same_wherever_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
    let write = |layout: &Path| {
        modules(&pack(
            folder.path(),
            &[
                "--json",
                "--tag",
                "v1",
                "--output",
                layout.to_str().unwrap(),
            ],
        ))
    };
    let listed = write(&first);
    assert_eq!(write(&second), listed);
    let written = files(&first);
    assert!(written == files(&second), "the two folders differ");

    assert_eq!(
        parsed(&fs::read(first.join("oci-layout")).unwrap()),
        json!({"imageLayoutVersion": "1.0.0"})
    );
    let index = parsed(&fs::read(first.join("index.json")).unwrap());
    assert_eq!(index["schemaVersion"], 2);
    let mut named = BTreeSet::new();
    let mut subjects = BTreeSet::new();
    let mut tags = Vec::new();
    for entry in index["manifests"].as_array().unwrap() {
        let manifest = parsed(&blob(&first, entry));
        named.insert(entry["digest"].as_str().unwrap().to_owned());
        let layers = manifest["layers"].as_array().unwrap();
        for descriptor in layers.iter().chain([&manifest["config"]]) {
            blob(&first, descriptor);
            named.insert(descriptor["digest"].as_str().unwrap().to_owned());
        }
        let annotations = &manifest["annotations"];
        for (key, value) in [
            ("version", env!("CARGO_PKG_VERSION")),
            ("licenses", "Apache-2.0"),
        ] {
            assert_eq!(
                annotations[format!("org.opencontainers.image.{key}")],
                value
            );
        }
        if let Some(tag) = entry["annotations"]["org.opencontainers.image.ref.name"].as_str() {
            tags.push(tag.to_owned());
        } else {
            assert_eq!(entry["artifactType"], SBOM);
            assert_eq!(manifest["artifactType"], SBOM);
            let sbom = parsed(&blob(&first, &layers[0]));
            assert_eq!(sbom["bomFormat"], "CycloneDX");
            subjects.insert(manifest["subject"]["digest"].as_str().unwrap().to_owned());
        }
    }
    let names: BTreeSet<String> = written
        .iter()
        .filter_map(|(path, _)| path.strip_prefix("blobs/sha256").ok())
        .map(|name| format!("sha256:{}", name.to_str().unwrap()))
        .collect();
    assert_eq!(names, named);

    let mut expected = Vec::new();
    for name in ["ingress", "egress", "sidecar"] {
        for tag in ["v1", "v1-artifact", "v1-lean", "v1-lean-artifact"] {
            expected.push(format!("{name}-{tag}"));
        }
    }
    assert_eq!(tags, expected);
    assert_eq!(subjects.len(), tags.len());

    for module in &listed {
        assert_module(&first, &index, module);
        assert!(subjects.contains(module["digest"].as_str().unwrap()));
    }
}

/// The image and the artefact of a listed module are what Istio's agent looks for.
fn assert_module(layout: &Path, index: &Value, module: &Value) {
    let entries = index["manifests"].as_array().unwrap();
    let find = |suffix: &str| {
        let lean = if module["lean"] == true { "-lean" } else { "" };
        let name = format!("{}-v1{lean}{suffix}", module["name"].as_str().unwrap());
        let is_it =
            |entry: &&Value| entry["annotations"]["org.opencontainers.image.ref.name"] == name;
        entries.iter().find(is_it).unwrap()
    };
    let image = find("");
    assert_eq!(image["digest"], module["digest"]);
    let manifest = parsed(&blob(layout, image));
    let config = parsed(&blob(layout, &manifest["config"]));
    assert_eq!(
        (&config["architecture"], &config["os"]),
        (&json!("wasm"), &json!("wasi"))
    );
    let layers = manifest["layers"].as_array().unwrap();
    let [layer] = layers.as_slice() else {
        panic!("{manifest}");
    };
    assert_eq!(
        layer["mediaType"],
        "application/vnd.oci.image.layer.v1.tar+gzip"
    );
    let layer = blob(layout, layer);
    let mut archive = Vec::new();
    std::io::Read::read_to_end(&mut GzDecoder::new(layer.as_slice()), &mut archive).unwrap();
    assert_eq!(
        config["rootfs"],
        json!({"type": "layers", "diff_ids": [format!("sha256:{}", sha256(&archive))]})
    );
    let wasm = plugin_in(&layer);
    assert_eq!(module["sha256"], sha256(&wasm));
    assert_eq!(module["bytes"], wasm.len());

    let manifest = parsed(&blob(layout, find("-artifact")));
    let layers = manifest["layers"].as_array().unwrap();
    let [runtime, content] = layers.as_slice() else {
        panic!("{manifest}");
    };
    assert_eq!(parsed(&blob(layout, runtime))["type"], "envoy_proxy");
    assert_eq!(
        content["mediaType"],
        "application/vnd.module.wasm.content.layer.v1+wasm"
    );
    assert!(blob(layout, content) == wasm);
}

#[test]
fn a_policy_goes_into_a_module_for_each_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.yaml");
    fs::write(
        &policy,
        "{mesh: {gateways: {ingress: [
           {principal: cluster.local/ns/in/sa/a, filtered: true, name: public},
           {principal: cluster.local/ns/in/sa/b, filtered: true, name: lean}]}},
         hosts: {ingress: {rules: [{name: a, hosts: [a.example], action: allow, gateways: [lean]}]}}}",
    )
    .unwrap();
    let layout = folder.path().join("layout");
    let output = ["--json", "--output", layout.to_str().unwrap()];
    let with_policy = |policy: &Path| {
        let policy = ["--policy", policy.to_str().unwrap()];
        pack(folder.path(), &[&policy[..], &output].concat())
    };
    let packed = with_policy(&policy);
    let printed = parsed(&packed.stdout);
    let revision = printed["policy"].as_str().unwrap();
    let listed: Vec<_> = modules(&packed)
        .iter()
        .map(|module| {
            (
                module["name"].clone(),
                module["gateway"].clone(),
                module["lean"].clone(),
            )
        })
        .collect();
    assert_eq!(
        listed,
        [
            ("ingress", Some("lean")),
            ("ingress", Some("public")),
            ("egress", None),
            ("sidecar", None),
        ]
        .map(|(name, gateway)| (json!(name), json!(gateway), json!(true)))
    );
    let index = parsed(&fs::read(layout.join("index.json")).unwrap());
    let image = &index["manifests"][0];
    let tag = format!("{}-{revision}-lean_lean", env!("CARGO_PKG_VERSION"));
    let name = &image["annotations"]["org.opencontainers.image.ref.name"];
    assert_eq!(name, &format!("ingress-{tag}"));
    let annotations = &parsed(&blob(&layout, image))["annotations"];
    assert_eq!(annotations["meridian.policy.revision"], revision);
    assert_eq!(annotations["meridian.gateway"], "lean");

    fs::write(&policy, "hosts: {ingress: {default: maybe}}").unwrap();
    let refused = with_policy(&policy);
    assert_eq!(refused.status.code(), Some(1));
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(error.contains("hosts.ingress.default"), "{error}");
}

#[test]
fn a_folder_of_others_is_left_alone_and_one_of_ours_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    let output = ["--output", layout.to_str().unwrap()];
    fs::create_dir(&layout).unwrap();
    fs::write(layout.join("index.json"), "{}").unwrap();
    assert_fails(&pack(folder.path(), &output), "holds other files");
    assert_eq!(files(&layout).len(), 1);

    fs::remove_file(layout.join("index.json")).unwrap();
    modules(&pack(folder.path(), &["--json", output[0], output[1]]));
    let before = files(&layout);
    fs::write(layout.join("blobs/sha256/old"), "old").unwrap();
    modules(&pack(folder.path(), &["--json", output[0], output[1]]));
    assert!(files(&layout) == before);
}

#[test]
fn misuse_is_told_before_anything_is_built() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, expected) in [
        (&["--plain-http"][..], "--push <REGISTRY/REPO>"),
        (&["--tag", "a b"], "is no tag"),
        (&["--push", "meridian"], "the repository is missing"),
        (
            &["--push", "http://127.0.0.1/m"],
            "write 127.0.0.1/m, and --plain-http",
        ),
    ] {
        assert_fails(&pack(folder.path(), arguments), expected);
    }
    fs::write(folder.path().join("config.json"), "[").unwrap();
    let output = pack(folder.path(), &["--push", "localhost/m"]);
    assert_fails(&output, "is not what `docker login` writes");
}

/// The crate that a mangled name begins with: `_ZN`, the length of a path's first part, and that part.
fn crate_of(name: &str) -> Option<&str> {
    let rest = name.strip_prefix("_ZN")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let length: usize = rest[..digits].parse().ok()?;
    let first = rest.get(digits..digits + length)?;
    match first.strip_prefix("_$LT$") {
        // An implementation, of a type with its path or of a generic one.
        Some(implemented) => {
            let (first, _) = implemented.trim_start_matches("$RF$").split_once("..")?;
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            first.chars().all(is_name).then_some(first)
        }
        None => Some(first),
    }
}

#[test]
fn the_sbom_names_every_crate_whose_functions_are_in_the_module() {
    let folder = tempfile::tempdir().unwrap();
    modules(&pack(
        folder.path(),
        &[
            "--json",
            "--output",
            folder.path().join("o").to_str().unwrap(),
        ],
    ));
    let root = paths::workspace_root().unwrap();
    let target = "wasm32-unknown-unknown";
    let crates = Crates::of_package(&root, "meridian-ingress", target).unwrap();
    let listed: BTreeSet<String> = crates.names().map(|name| name.replace('-', "_")).collect();
    let compiled = paths::target_dir()
        .unwrap()
        .join(target)
        .join("wasm/meridian_ingress.wasm");
    let compiled = Module::from_file(compiled).unwrap();
    let names = compiled
        .funcs
        .iter()
        .filter_map(|function| function.name.as_deref());
    let found: BTreeSet<&str> = names.filter_map(crate_of).collect();
    let of_rust = ["alloc", "core", "std", "compiler_builtins"];
    for name in ["meridian_policy", "serde_json", "proxy_wasm", "talc"] {
        assert!(found.contains(name), "{name} is not in {found:?}");
    }
    let missing: Vec<&str> = found
        .into_iter()
        .filter(|name| !of_rust.contains(name) && !listed.contains(*name))
        .collect();
    assert_eq!(missing, [""; 0], "not in {listed:?}");
    // What only the command line uses is not in a module.
    assert!(!listed.contains("clap"));
}
