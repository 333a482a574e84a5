//! The rendered configurations under real Envoys, changed only as their headers say: the folders,
//! the ports, and the addresses of the parts.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use meridian::lab::envoy::{Envoy, EnvoyOptions, RunFolder, Version, validate};
use meridian::lab::topology::{Arrival, Arrivals, Call, Certificates, Reply, Server};
use meridian::policy::PolicyFile;
use meridian::verbs::render::envoy::{Options, render};
use serde_json::{Value, json};

const APP: &str = "cluster.local/ns/default/sa/app";
const GATEWAY: &str = "cluster.local/ns/istio-ingress/sa/istio-ingress";
const EGRESS: &str = "cluster.local/ns/istio-egress/sa/istio-egress";

fn policy() -> PolicyFile {
    let policy = json!({
        "mesh": {
            "cidrs": ["127.1.0.0/16"],
            "gateways": {
                "ingress": [{"principal": GATEWAY, "filtered": true}],
                "egress": [{"principal": EGRESS}],
            },
        },
        "hosts": {
            "ingress": {"default": "deny", "rules": [
                {"name": "shop", "hosts": ["shop.example.com"], "action": "allow"},
            ]},
            "egress": {"default": "deny", "rules": [
                {"name": "partner", "hosts": ["127.9.0.0/16", "localhost"], "action": "allow"},
            ]},
        },
    });
    PolicyFile::parse(policy.to_string().as_bytes()).unwrap()
}

/// Calls `change` with every string of `value`.
fn each_string(value: &mut Value, change: &dyn Fn(&mut String)) {
    match value {
        Value::String(text) => change(text),
        Value::Array(items) => items.iter_mut().for_each(|item| each_string(item, change)),
        Value::Object(fields) => fields
            .values_mut()
            .for_each(|field| each_string(field, change)),
        _ => {}
    }
}

/// Calls `change` with every socket address in `value`.
fn each_address(value: &mut Value, change: &dyn Fn(&str, u64) -> (String, u16)) {
    if let (Some(address), Some(port)) = (value["address"].as_str(), value["port_value"].as_u64()) {
        let (address, port) = change(address, port);
        *value = json!({"address": address, "port_value": port});
        return;
    }
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| each_address(item, change)),
        Value::Object(fields) => fields
            .values_mut()
            .for_each(|field| each_address(field, change)),
        _ => {}
    }
}

/// Narrows the refusal of the loopback network to this one address.
fn each_prefix(value: &mut Value) {
    if value["address_prefix"] == "127.0.0.1" {
        value["prefix_len"] = json!(32);
        return;
    }
    match value {
        Value::Array(items) => items.iter_mut().for_each(each_prefix),
        Value::Object(fields) => fields.values_mut().for_each(each_prefix),
        _ => {}
    }
}

/// The rendered file `name` as `principal` runs it, with every listener on a port of the
/// kernel's choice.
fn localized(
    envoy: Version,
    policy: &PolicyFile,
    name: &str,
    certificates: &Certificates,
    principal: &str,
    parts: &[(&str, SocketAddr)],
) -> Value {
    let options = Options {
        modules: meridian::lab::paths::modules_dir().unwrap(),
        envoy,
    };
    let files = render(policy, &options).unwrap();
    let (_, text) = files.into_iter().find(|(file, _)| file == name).unwrap();
    let mut config: Value = yaml_serde::from_str(&text).unwrap();
    let identity = certificates.write_identity(name, principal, None).unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let replaced = [
        (
            "/etc/certs/cert-chain.pem",
            path(&identity.credentials.certificate),
        ),
        ("/etc/certs/key.pem", path(&identity.credentials.key)),
        ("/etc/certs/root-cert.pem", path(&identity.ca)),
        (
            "/etc/certs/tls.crt",
            path(&certificates.folder().join("public.pem")),
        ),
        (
            "/etc/certs/tls.key",
            path(&certificates.folder().join("public.key")),
        ),
    ];
    each_string(&mut config, &|text| {
        if let Some((_, with)) = replaced.iter().find(|(from, _)| from == text) {
            text.clone_from(with);
        }
    });
    // The outside of this test is on the loopback network: only what names lead to is refused.
    each_string(&mut config, &|text| {
        if text == "127.0.0.0" {
            *text = "127.0.0.1".to_owned();
        }
    });
    each_prefix(&mut config);
    each_address(&mut config, &|address, port| {
        let key = format!("{address}:{port}");
        match parts.iter().find(|(part, _)| *part == key) {
            Some((_, part)) => (part.ip().to_string(), part.port()),
            // A part that this test does not start: no request goes there.
            None if address.ends_with(".cluster.local") => ("127.0.0.1".to_owned(), 1),
            None => (address.replace("0.0.0.0", "127.0.0.1"), 0),
        }
    });
    config
}

#[tokio::test]
async fn the_rendered_envoys_are_valid_and_serve_as_their_headers_say() {
    let binary = tokio::task::spawn_blocking(|| {
        meridian::lab::modules::build().unwrap();
        meridian::lab::envoy::obtain(None).unwrap()
    })
    .await
    .unwrap();
    let version = Version::of(&binary).unwrap();
    let run = RunFolder::create("test-render").unwrap();
    let certificates = Certificates::create(run.path().join("certificates")).unwrap();
    certificates.write_public().unwrap();
    let arrivals = Arrivals::default();
    let app = Server::start("app", Ipv4Addr::LOCALHOST, arrivals.clone())
        .await
        .unwrap();
    let partner = Server::start("partner", Ipv4Addr::new(127, 9, 0, 10), arrivals.clone())
        .await
        .unwrap();

    let start = async |name: &str, config: &Value| {
        validate(&binary, config).await.unwrap();
        Envoy::start(&binary, &run, name, config, &EnvoyOptions::default())
            .await
            .unwrap()
    };
    let config = localized(
        version,
        &policy(),
        "egress.yaml",
        &certificates,
        EGRESS,
        &[],
    );
    let egress = start("egress", &config).await;
    let egress_address = egress.listener_address("egress").await.unwrap();

    let parts = [
        ("127.0.0.1:8080", app.address()),
        (
            "istio-egress.istio-egress.svc.cluster.local:8443",
            egress_address,
        ),
    ];
    let config = localized(
        version,
        &policy(),
        "sidecar.yaml",
        &certificates,
        APP,
        &parts,
    );
    let sidecar = start("sidecar", &config).await;
    let inbound = sidecar.listener_address("inbound").await.unwrap();
    let outbound = sidecar.listener_address("outbound").await.unwrap();

    let parts = [("app.default.svc.cluster.local:15006", inbound)];
    let config = localized(
        version,
        &policy(),
        "ingress.yaml",
        &certificates,
        GATEWAY,
        &parts,
    );
    let ingress = start("ingress", &config).await;
    let http = ingress.listener_address("http").await.unwrap();

    let seen: Arrival =
        ok(Call::new(http, "shop.example.com").from(Ipv4Addr::new(127, 9, 1, 1))).await;
    assert_eq!(seen.server, "app");
    assert_eq!(seen.header("x-traffic-direction"), ["north-south"]);
    assert_eq!(
        Call::new(http, "other.example.com")
            .send()
            .await
            .unwrap()
            .status,
        403
    );

    // An allowed name that leads to this host: the gateway's own admin, say.
    let admin = format!("localhost:{}", egress.admin().port());
    let reply = Call::new(outbound, &admin).send().await.unwrap();
    assert_eq!(
        (reply.status, reply.text().as_str()),
        (403, "RBAC: access denied")
    );

    let seen: Arrival = ok(Call::new(outbound, &partner.address().to_string())).await;
    assert_eq!(seen.server, "partner");
    assert!(seen.header("x-traffic-direction").is_empty());
    assert_eq!(
        Call::new(outbound, "127.8.0.1:80")
            .send()
            .await
            .unwrap()
            .status,
        403
    );
}

#[tokio::test]
async fn the_committed_examples_are_valid() {
    let binary = tokio::task::spawn_blocking(|| {
        meridian::lab::modules::build().unwrap();
        meridian::lab::envoy::obtain(None).unwrap()
    })
    .await
    .unwrap();
    let version = Version::of(&binary).unwrap();
    let run = RunFolder::create("test-examples").unwrap();
    let certificates = Certificates::create(run.path().join("certificates")).unwrap();
    certificates.write_public().unwrap();
    // examples.rs holds that the committed files are these, where Envoy is no older than they say.
    let sample = PolicyFile::load(None).unwrap();
    for (name, principal) in [
        ("ingress.yaml", GATEWAY),
        ("egress.yaml", EGRESS),
        ("sidecar.yaml", APP),
    ] {
        let config = localized(version, &sample, name, &certificates, principal, &[]);
        validate(&binary, &config).await.unwrap();
    }
}

async fn ok(call: Call) -> Arrival {
    let reply: Reply = call.send().await.unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json().unwrap()
}
