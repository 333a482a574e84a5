//! The folders for a mesh: what is attached where, by which form, and what is refused.

use std::collections::BTreeMap;

use clap::Parser;
use meridian::policy::PolicyFile;
use meridian::verbs::render::istio::{IstioArgs, render};
use meridian_policy::{Action, Policy, Request, Subject, Vantage};
use serde_json::{Value, json};

/// The arguments of a command line; the folder is never written.
pub(super) fn istio_args(options: &[&str]) -> IstioArgs {
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: IstioArgs,
    }
    let line = ["render", "--out", "/nowhere"].iter().chain(options);
    Line::try_parse_from(line).unwrap().args
}

const MODULES: [&str; 2] = ["--modules", "oci://registry.example/meridian"];

/// The files of a policy, by their paths, or the error.
pub(super) fn files(policy: &str, options: &[&str]) -> Result<BTreeMap<String, String>, String> {
    let policy = PolicyFile::parse(policy.as_bytes()).unwrap();
    let mut options = options.to_vec();
    if !options.contains(&"--modules") {
        options.extend(MODULES);
    }
    match render(&policy, &istio_args(&options)) {
        Ok(rendered) => Ok(rendered.files.into_iter().collect()),
        Err(error) => Err(format!("{error:#}")),
    }
}

/// The objects that the folder applies, by their paths, overlays included.
pub(super) fn objects(files: &BTreeMap<String, String>) -> BTreeMap<&str, Value> {
    let mut objects = BTreeMap::new();
    for (path, text) in files {
        let Some((folder, "kustomization.yaml")) = path.rsplit_once('/') else {
            continue;
        };
        let kustomization: Value = yaml_serde::from_str(text).unwrap();
        for resource in kustomization["resources"].as_array().unwrap() {
            let path = format!("{folder}/{}", resource.as_str().unwrap());
            let (path, text) = files.get_key_value(&path).unwrap();
            objects.insert(path.as_str(), yaml_serde::from_str(text).unwrap());
        }
    }
    objects
}

/// The policy in an object of any form.
fn inside(object: &Value) -> Option<String> {
    let spec = &object["spec"];
    let patches = spec["configPatches"].as_array().into_iter().flatten();
    let mut patches = patches.filter_map(|patch| {
        let config = &patch["patch"]["value"]["typed_config"]["config"];
        Some(config["configuration"]["value"].as_str()?.to_owned())
    });
    let plugin = [&spec["wasm"]["pluginConfig"], &spec["pluginConfig"]];
    let plugin = plugin.into_iter().find(|config| config.is_object());
    patches.next().or_else(|| plugin.map(Value::to_string))
}

const POLICY: &str = "
mesh:
  cidrs: [10.0.0.0/8]
  namespaces: [shop, istio-system, edge, orders]
  gateways:
    ingress:
    - {name: public, principal: cluster.local/ns/edge/sa/public, filtered: true, labels: {app: public}}
    - {name: internal, principal: cluster.local/ns/edge/sa/internal, filtered: true, namespace: inner}
    - {principal: cluster.local/ns/nginx/sa/nginx}
    egress:
    - {principal: cluster.local/ns/istio-egress/sa/istio-egressgateway}
hosts:
  ingress:
    rules:
    - {name: shop, hosts: [shop.example.com], action: allow, gateways: [public]}
    - {name: wiki, hosts: [wiki.example.com], action: allow, gateways: [internal]}
";

#[test]
fn each_gateway_has_its_own_manifests_and_slice() {
    let files = files(POLICY, &["--istio-revision", "canary"]).unwrap();
    let objects = objects(&files);
    let paths: Vec<&str> = objects.keys().copied().collect();
    assert_eq!(
        paths,
        [
            "gateways/internal/connections.yaml",
            "gateways/internal/http.yaml",
            "gateways/istio-egressgateway/connections.yaml",
            "gateways/istio-egressgateway/http.yaml",
            "gateways/public/connections.yaml",
            "gateways/public/http.yaml",
            "overlays/prometheus-operator/pod-monitor.yaml",
            "overlays/prometheus-operator/prometheus-rule.yaml",
            "overlays/tracing/telemetry.yaml",
            "sidecars/inbound.yaml",
            "sidecars/outbound.yaml",
        ]
    );
    let revision = PolicyFile::parse(POLICY.as_bytes()).unwrap().revision();
    for (path, namespace, labels, vantage, rules) in [
        (
            "gateways/public/http.yaml",
            "edge",
            json!({"app": "public"}),
            Vantage::Ingress,
            vec!["shop"],
        ),
        (
            "gateways/public/connections.yaml",
            "edge",
            json!({"app": "public"}),
            Vantage::Ingress,
            vec!["shop"],
        ),
        (
            "gateways/internal/http.yaml",
            "inner",
            json!({"istio": "internal"}),
            Vantage::Ingress,
            vec!["wiki"],
        ),
        (
            "gateways/istio-egressgateway/http.yaml",
            "istio-egress",
            json!({"istio": "egressgateway"}),
            Vantage::Egress,
            vec![],
        ),
        (
            "sidecars/inbound.yaml",
            "istio-system",
            Value::Null,
            Vantage::Inbound,
            vec![],
        ),
    ] {
        let object = &objects[path];
        assert_eq!(object["metadata"]["namespace"], namespace, "{path}");
        assert_eq!(
            object["metadata"]["labels"]["istio.io/rev"], "canary",
            "{path}"
        );
        assert_eq!(
            object["spec"]["workloadSelector"]["labels"], labels,
            "{path}"
        );
        assert!(object["spec"]["priority"].as_i64() > Some(0));
        let policy = Policy::from_json(inside(object).unwrap()).unwrap();
        assert_eq!(policy.revision, Some(revision));
        let names = policy.section(vantage).rules.iter().map(|rule| &*rule.name);
        assert_eq!(names.collect::<Vec<_>>(), rules, "{path}");
    }
    // What was assumed is said, and only that.
    let comments = |path: &str| files[path].replace("\n# ", " ");
    assert!(comments("gateways/internal/http.yaml").contains("The labels of its pods are assumed"));
    assert!(comments("gateways/public/http.yaml").contains("The namespace of its pods is assumed"));
}

#[test]
fn every_file_is_an_object_or_is_left_alone() {
    for form in ["envoyfilter", "trafficextension", "wasmplugin"] {
        let files = files(POLICY, &["--as", form, "--select-label", "meridian=on"]).unwrap();
        let objects = objects(&files);
        let mut names = Vec::new();
        for (path, object) in &objects {
            let kind = object["kind"].as_str().unwrap();
            let metadata = &object["metadata"];
            names.push(format!(
                "{kind} {} {}",
                metadata["namespace"], metadata["name"]
            ));
            assert!(object["apiVersion"].is_string(), "{path}");
            if path.starts_with("overlays/") {
                continue;
            }
            let spec = &object["spec"];
            let selected = match kind {
                "EnvoyFilter" => &spec["workloadSelector"]["labels"],
                _ => &spec["selector"]["matchLabels"],
            };
            assert_eq!(selected["meridian"], "on", "{path}");
        }
        names.sort();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "every object has its own name");
        let others = files
            .keys()
            .filter(|path| !objects.contains_key(path.as_str()));
        for path in others {
            let is_left_alone = path.starts_with("mesh/")
                || path.ends_with("README.md")
                || path.ends_with("kustomization.yaml");
            assert!(is_left_alone, "{path}");
        }
        let template: Value = yaml_serde::from_str(&files["mesh/pod-template.yaml"]).unwrap();
        let labels = &template["spec"]["template"]["metadata"]["labels"];
        assert_eq!(*labels, json!({"meridian": "on"}));
    }
}

#[test]
fn plugins_are_for_one_namespace_and_never_for_the_root() {
    let files = files(POLICY, &["--as", "trafficextension"]).unwrap();
    let objects = objects(&files);
    let sidecars = objects
        .keys()
        .filter_map(|path| path.strip_prefix("sidecars/"));
    // Not the root namespace, and not the one of a gateway.
    assert_eq!(
        sidecars.collect::<Vec<_>>(),
        [
            "orders/inbound.yaml",
            "orders/look-alikes.yaml",
            "orders/outbound.yaml",
            "shop/inbound.yaml",
            "shop/look-alikes.yaml",
            "shop/outbound.yaml",
        ]
    );
    for (path, mode, plugin) in [
        (
            "sidecars/shop/inbound.yaml",
            json!([{"mode": "SERVER"}]),
            "inbound",
        ),
        (
            "sidecars/shop/outbound.yaml",
            json!([{"mode": "CLIENT"}]),
            "outbound",
        ),
        ("gateways/public/http.yaml", Value::Null, "ingress"),
    ] {
        let spec = &objects[path]["spec"];
        assert_eq!(spec["match"], mode, "{path}");
        assert_eq!(spec["wasm"]["pluginName"], plugin);
        assert_eq!(spec["wasm"]["type"], "HTTP");
        let env = &spec["wasm"]["vmConfig"]["env"][0];
        assert_eq!(env["value"], plugin, "a VM of its own");
    }
    // Istio would put it before HTTP, too.
    assert_eq!(
        objects["gateways/public/connections.yaml"]["kind"],
        "EnvoyFilter"
    );
    assert!(!objects.contains_key("gateways/istio-egressgateway/look-alikes.yaml"));
}

#[test]
fn auto_passthrough_is_left_alone_unless_asked_for() {
    for (options, expected) in [(&[][..], 3), (&["--auto-passthrough"], 2)] {
        let files = files(POLICY, options).unwrap();
        let object = &objects(&files)["gateways/public/connections.yaml"];
        let patches = object["spec"]["configPatches"].as_array().unwrap();
        assert_eq!(patches.len(), expected);
        let removal = patches
            .iter()
            .find(|patch| patch["patch"]["operation"] == "REMOVE");
        let chain = removal.map(|patch| &patch["match"]["listener"]["filterChain"]);
        assert_eq!(
            chain,
            (expected == 3)
                .then(|| json!({"filter": {"name": "meridian.ingress.tcp"}, "applicationProtocols": "istio"}))
                .as_ref()
        );
        assert_eq!(files["README.md"].contains("15443"), expected == 3);
    }
}

#[test]
fn observing_refuses_nothing_by_a_policy_of_its_own() {
    let enforced = files(POLICY, &[]).unwrap();
    let observed = files(POLICY, &["--observe"]).unwrap();
    let revision = |files: &BTreeMap<String, String>, path: &str| {
        Policy::from_json(inside(&objects(files)[path]).unwrap())
            .unwrap()
            .revision
    };
    let all: Vec<Option<u64>> = objects(&observed)
        .keys()
        .filter(|path| !path.starts_with("overlays/"))
        .map(|path| revision(&observed, path))
        .collect();
    assert!(all.iter().all(|one| *one == all[0]), "{all:?}");
    assert_ne!(all[0], revision(&enforced, "sidecars/inbound.yaml"));
    let policy = inside(&objects(&observed)["gateways/public/http.yaml"]).unwrap();
    let policy: Value = serde_json::from_str(&policy).unwrap();
    assert_eq!(policy["hosts"]["ingress"]["mode"], "dryRun");
    assert_eq!(policy["sni"]["mismatch"], "dryRun");
    let policy = Policy::from_json(policy.to_string()).unwrap();
    for authority in [&b"other.example.com"[..], b"a..b", b""] {
        let mut request = Request::new(authority);
        request.sni = Some(b"shop.example.com");
        let verdict = policy.decide(Vantage::Ingress, Subject::Request, &mut request);
        assert_eq!(verdict.decision, Action::Allow);
        assert_eq!(
            verdict.dry_run.map(|would| would.decision),
            Some(Action::Deny)
        );
    }
    assert!(observed["README.md"].contains("It **observes**"));
}

#[test]
fn what_would_harm_a_mesh_is_refused_with_what_to_write() {
    for (options, says) in [
        (&["--as", "wasmplugin"][..], "--select-label KEY=VALUE"),
        (&["--proxy-version", ".*"], "matches 1.29.0"),
        (
            &["--proxy-version", r"^1\.2[89]"],
            "--select-label KEY=VALUE",
        ),
        (&["--namespace", "istio-system"], "leave --namespace out"),
        (
            &["--modules", "http://m.example"],
            "--modules http://m.example: write",
        ),
    ] {
        let error = files(POLICY, options).unwrap_err();
        assert!(error.contains(says), "{options:?}: {error}");
    }
    for options in [
        &["--as", "wasmplugin", "--select-label", "a=b"][..],
        &["--proxy-version", ".*", "--select-label", "a=b"],
        &["--proxy-version", r"^1\.3[12]"],
    ] {
        files(POLICY, options).unwrap();
    }
    let error = files("{}", &["--as", "trafficextension"]).unwrap_err();
    assert!(error.contains("--namespace NS"), "{error}");
}

#[test]
fn an_object_that_etcd_refuses_is_not_rendered() {
    let gateway = r#"{"principal": "cluster.local/ns/a/sa/b", "filtered": true}"#;
    let policy = |hosts: usize| {
        let hosts: Vec<String> = (0..hosts)
            .map(|host| format!("tenant-{host:05}.example.com"))
            .collect();
        let hosts = serde_json::to_string(&hosts).unwrap();
        format!(
            r#"{{"mesh": {{"gateways": {{"ingress": [{gateway}]}}}}, "hosts": {{"ingress": {{"rules":
                [{{"name": "a", "action": "allow", "hosts": {hosts}}}]}}}}}}"#
        )
    };
    let error = files(&policy(60_000), &[]).unwrap_err();
    assert!(
        error.contains("gateways/b/http.yaml would be an object of"),
        "{error}"
    );
    assert!(error.contains("meridian pack --policy"), "{error}");
    let files = files(&policy(40_000), &[]).unwrap();
    let object = &objects(&files)["gateways/b/http.yaml"];
    assert!(object.to_string().len() > 1_000_000);
}

#[test]
fn a_policy_inside_the_modules_is_not_in_the_manifests() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("modules.json");
    let revision = PolicyFile::parse(POLICY.as_bytes()).unwrap().revision();
    let image = |name: &str, gateway: Option<&str>| {
        json!({
            "name": name, "vantages": [], "lean": true, "gateway": gateway, "sha256": "ab", "bytes": 1,
            "reference": format!("registry.example/m/{name}:1"), "digest": "sha256:cd",
        })
    };
    let write = |revision: &str| {
        let modules = [
            image("ingress", Some("public")),
            image("ingress", Some("internal")),
            image("egress", None),
            image("sidecar", None),
        ];
        let list = json!({"policy": revision, "modules": modules});
        std::fs::write(&file, list.to_string()).unwrap();
    };
    let modules = ["--modules", file.to_str().unwrap()];
    write(&format!("{revision:012x}"));
    let rendered = files(POLICY, &modules).unwrap();
    for (path, object) in objects(&rendered) {
        assert_eq!(inside(&object), None, "{path}");
        if path.starts_with("gateways/public/") {
            assert!(
                object
                    .to_string()
                    .contains("oci://registry.example/m/ingress@sha256:cd")
            );
        }
    }
    let error = files(POLICY, &[&modules[..], &["--observe"]].concat()).unwrap_err();
    assert!(
        error.contains("the policy is inside the modules"),
        "{error}"
    );
    write("0123456789ab");
    let error = files(POLICY, &modules).unwrap_err();
    assert!(
        error.contains("the policy of revision 0123456789ab"),
        "{error}"
    );
}

#[test]
fn what_mounts_modules_is_beside_the_objects() {
    let files = files(POLICY, &["--modules", "file:///etc/meridian"]).unwrap();
    let template: Value = yaml_serde::from_str(&files["mesh/pod-template.yaml"]).unwrap();
    let annotations = &template["spec"]["template"]["metadata"]["annotations"];
    let mount = annotations["sidecar.istio.io/userVolumeMount"]
        .as_str()
        .unwrap();
    let mount: Value = serde_json::from_str(mount).unwrap();
    assert_eq!(mount[0]["mountPath"], "/etc/meridian");
    let patch: Value = yaml_serde::from_str(&files["mesh/gateways/public.yaml"]).unwrap();
    let pod = &patch["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["name"], "istio-proxy");
    assert_eq!(pod["containers"][0]["volumeMounts"], mount);
    assert_eq!(pod["volumes"][0]["name"], mount[0]["name"]);
    assert!(files["README.md"].contains("configmap"));
}
