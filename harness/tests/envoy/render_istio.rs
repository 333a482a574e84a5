//! The EnvoyFilters under a real Envoy, applied as Istio applies them: the extension configuration
//! comes by discovery, here from a file in place of istiod, and the patches change a listener that
//! knows nothing of Meridian.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Parser;
use meridian::lab::config::access_log::AccessLog;
use meridian::lab::config::cluster::Upstream;
use meridian::lab::config::identity::{Credentials, MeshIdentity};
use meridian::lab::config::ingress::Ingress;
use meridian::lab::config::passthrough::Passthrough;
use meridian::lab::config::routes::Route;
use meridian::lab::config::{Address, Proxy};
use meridian::lab::envoy::{Envoy, EnvoyOptions, RunFolder, Version};
use meridian::lab::prometheus::Samples;
use meridian::lab::topology::{Arrival, Arrivals, Call, Certificates, Server};
use meridian::policy::PolicyFile;
use meridian::verbs::render::istio::{IstioArgs, render};
use meridian_policy::Policy;
use serde_json::{Value, json};

/// The rendered files, parsed, with modules from this machine's folder.
fn rendered(policy: &PolicyFile) -> impl Fn(&str) -> Value {
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: IstioArgs,
    }
    let modules = meridian::lab::paths::modules_dir().unwrap();
    let modules = format!("file://{}", modules.display());
    let line = ["render", "--out", "/nowhere", "--modules", &modules];
    let files = render(policy, &Line::parse_from(line).args).unwrap().files;
    move |path| {
        let (_, text) = files.iter().find(|(file, _)| file == path).unwrap();
        yaml_serde::from_str(text).unwrap()
    }
}

/// Both EnvoyFilters of the ingress gateway in one.
fn ingress(policy: &PolicyFile) -> Value {
    let rendered = rendered(policy);
    let mut filter = rendered("gateways/public/http.yaml");
    let connections = rendered("gateways/public/connections.yaml");
    let patches = filter["spec"]["configPatches"].as_array_mut().unwrap();
    patches.extend(
        connections["spec"]["configPatches"]
            .as_array()
            .unwrap()
            .clone(),
    );
    filter
}

/// The filter with this document as its policy.
fn with_document(mut filter: Value, document: &Value) -> Value {
    for patch in filter["spec"]["configPatches"].as_array_mut().unwrap() {
        if patch["applyTo"] == "EXTENSION_CONFIG" {
            let config = &mut patch["patch"]["value"]["typed_config"]["config"];
            config["configuration"]["value"] = json!(document.to_string());
        }
    }
    filter
}

fn patches<'f>(filter: &'f Value, apply_to: &str) -> Vec<&'f Value> {
    let patches = filter["spec"]["configPatches"].as_array().unwrap();
    patches
        .iter()
        .filter(|patch| patch["applyTo"] == apply_to)
        .map(|patch| &patch["patch"])
        .collect()
}

/// Writes the discovery responses that istiod would send for the extension configurations, each
/// into the file that is named after it.
fn discover(filter: &Value, version: &str, folder: &Path) {
    for patch in patches(filter, "EXTENSION_CONFIG") {
        assert_eq!(patch["operation"], "ADD");
        let name = patch["value"]["name"].as_str().unwrap();
        let resource = json!({
            "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            "name": name,
            "typed_config": patch["value"]["typed_config"],
        });
        let response = json!({"version_info": version, "resources": [resource]}).to_string();
        let path = folder.join(format!("{name}.json"));
        meridian::lab::paths::write_atomically(&path, response.as_bytes()).unwrap();
    }
}

/// Applies the patches of HTTP and network filters to every connection manager, and before every
/// TCP proxy.
fn apply(filter: &Value, bootstrap: &mut Value, discovered: &Path) {
    for listener in bootstrap["static_resources"]["listeners"]
        .as_array_mut()
        .unwrap()
    {
        for chain in listener["filter_chains"].as_array_mut().unwrap() {
            let from_file = |patch: &Value| {
                let mut value = patch["value"].clone();
                let name = value["name"].as_str().unwrap();
                let discovered = discovered.join(format!("{name}.json"));
                // The one difference: a file in place of istiod.
                value["config_discovery"]["config_source"] = json!({
                    "path_config_source": {"path": discovered},
                    "resource_api_version": "V3",
                });
                value
            };
            let first = chain["filters"][0]["name"].clone();
            for patch in patches(filter, "NETWORK_FILTER") {
                if patch["operation"] == "INSERT_BEFORE"
                    && first == "envoy.filters.network.tcp_proxy"
                {
                    let filters = chain["filters"].as_array_mut().unwrap();
                    filters.insert(0, from_file(patch));
                }
            }
            if first != "envoy.filters.network.http_connection_manager" {
                continue;
            }
            let manager = &mut chain["filters"][0]["typed_config"];
            for patch in patches(filter, "HTTP_FILTER") {
                assert_eq!(patch["operation"], "INSERT_FIRST");
                let filters = manager["http_filters"].as_array_mut().unwrap();
                let is_discovered = patch["value"].get("config_discovery").is_some();
                let value = match is_discovered {
                    true => from_file(patch),
                    false => patch["value"].clone(),
                };
                filters.insert(0, value);
            }
        }
    }
}

#[tokio::test]
async fn the_ingress_filter_is_attached_and_updated_without_draining() {
    let binary = tokio::task::spawn_blocking(|| {
        meridian::lab::modules::build().unwrap();
        meridian::lab::envoy::obtain(None).unwrap()
    })
    .await
    .unwrap();
    let run = RunFolder::create("test-istio").unwrap();
    let certificates = Certificates::create(run.path().join("certificates")).unwrap();
    let shop = Server::start("shop", Ipv4Addr::LOCALHOST, Arrivals::default())
        .await
        .unwrap();
    let policy = PolicyFile::load(None).unwrap();
    let filter = ingress(&policy);
    let discovered = run.path().join("ecds");
    std::fs::create_dir(&discovered).unwrap();
    discover(&filter, "1", &discovered);

    let principal = "cluster.local/ns/istio-ingress/sa/istio-ingress";
    let identity: MeshIdentity = certificates
        .write_identity("gateway", principal, None)
        .unwrap();
    let public: Credentials = certificates.write_public().unwrap();
    let upstream = Upstream {
        cluster: "outbound|80||shop.shop.svc.cluster.local".to_owned(),
        endpoint: Some(shop.address().into()),
        principal: None,
    };
    let gateway = Ingress {
        http: vec![Address::Socket((Ipv4Addr::LOCALHOST, 0).into())],
        https: vec![Address::Socket((Ipv4Addr::LOCALHOST, 0).into())],
        public,
        routes: vec![Route::new("*", upstream.clone())],
        passthrough: Passthrough {
            addresses: vec![Address::Socket((Ipv4Addr::LOCALHOST, 0).into())],
            routes: vec![Route::new("*", upstream)],
            plain_tcp: true,
            inside: Vec::new(),
        },
    };
    let mut bootstrap = gateway.to_config(&Proxy {
        envoy: Version::of(&binary).unwrap(),
        name: "istio-ingress".to_owned(),
        namespace: "istio-ingress".to_owned(),
        identity,
        filters: None,
        access_log: AccessLog::Stdout,
        admin: None,
        addresses: Vec::new(),
        metrics: None,
        bind: None,
    });
    apply(&filter, &mut bootstrap, &discovered);
    // What Istio makes of extraStatTags: a regex for each, of this form.
    let tags: Vec<Value> =
        rendered(&policy)("mesh/mesh-config.yaml")["meshConfig"]["defaultConfig"]["extraStatTags"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tag| {
                let tag = tag.as_str().unwrap();
                json!({"tag_name": tag, "regex": format!(r"({tag}=\.=(.*?);\.;)")})
            })
            .collect();
    bootstrap["stats_config"] = json!({"stats_tags": tags});
    let envoy = Envoy::start(
        &binary,
        &run,
        "gateway",
        &bootstrap,
        &EnvoyOptions::default(),
    )
    .await
    .unwrap();
    let http = envoy.listener_address("http").await.unwrap();
    let call = |host: &str| Call::new(http, host).from(Ipv4Addr::new(127, 9, 1, 1));

    let reply = call("shop.example.com")
        .header("x-traffic-direction", "east-west")
        .header("x_traffic_direction", "east-west")
        .send()
        .await
        .unwrap();
    assert_eq!(reply.status, 200);
    let seen: Arrival = reply.json().unwrap();
    assert_eq!(seen.header("x-traffic-direction"), ["north-south"]);
    assert!(seen.header("x_traffic_direction").is_empty());
    assert_eq!(call("other.example.com").send().await.unwrap().status, 403);
    let labels = [
        ("reporter", "ingress"),
        ("decision", "deny"),
        ("rule", "default"),
        ("direction", "north-south"),
    ];
    let samples = Samples::parse(&envoy.scrape().await.unwrap()).unwrap();
    assert!((samples.value("meridian_requests_total", &labels) - 1.0).abs() < f64::EPSILON);

    // A connection that names no host, which only the default could allow. Its own Envoy filter
    // stands before the TCP proxy.
    let passthrough = envoy.listener_address("tls-passthrough").await.unwrap();
    let plain = Call::new(passthrough, "shop.example.com");
    plain.send().await.unwrap_err();
    let labels = [
        ("reporter", "ingress"),
        ("decision", "deny"),
        ("rule", "default"),
    ];
    let samples = Samples::parse(&envoy.scrape().await.unwrap()).unwrap();
    assert!((samples.value("meridian_connections_total", &labels) - 1.0).abs() < f64::EPSILON);

    // A new policy arrives: the listener stays, and with it every connection.
    let mut update = policy.json;
    update["hosts"]["ingress"]["default"] = json!("allow");
    let policy = PolicyFile::parse(update.to_string().as_bytes()).unwrap();
    let filter = ingress(&policy);
    discover(&filter, "2", &discovered);
    let deadline = Instant::now() + Duration::from_secs(10);
    while call("other.example.com").send().await.unwrap().status != 200 {
        assert!(
            Instant::now() < deadline,
            "the update did not arrive:\n{}",
            envoy.log().unwrap()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The network filter's update is one of its own, and may come later.
    loop {
        match plain.send().await {
            Ok(reply) => {
                assert_eq!(reply.status, 200);
                break;
            }
            Err(error) => assert!(
                Instant::now() < deadline,
                "the update did not arrive: {error:#}\n{}",
                envoy.log().unwrap()
            ),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let drained = envoy
        .get("/stats?filter=listener_manager.total_listeners_draining")
        .await
        .unwrap();
    assert_eq!(
        drained.trim(),
        "listener_manager.total_listeners_draining: 0"
    );
    let modified = envoy
        .get("/stats?filter=listener_manager.listener_modified")
        .await
        .unwrap();
    assert_eq!(modified.trim(), "listener_manager.listener_modified: 0");

    // A bad one, as an edit of the rendered file makes it, does not: the old policy keeps serving.
    update["hosts"]["ingress"]["default"] = json!("perhaps");
    discover(&with_document(filter, &update), "3", &discovered);
    let deadline = Instant::now() + Duration::from_secs(10);
    let refused =
        "the policy is refused: hosts.ingress.default: is \"perhaps\"; write one of allow, deny";
    while !envoy.log().unwrap().contains(refused) {
        assert!(
            Instant::now() < deadline,
            "the bad policy was not refused:\n{}",
            envoy.log().unwrap()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(call("other.example.com").send().await.unwrap().status, 200);
}

#[test]
fn every_vantage_has_its_context_and_root_id() {
    let policy = PolicyFile::load(None).unwrap();
    let rendered = rendered(&policy);
    for (file, context, root_id, patches) in [
        ("gateways/public/http.yaml", "GATEWAY", "ingress", 3),
        (
            "gateways/public/connections.yaml",
            "GATEWAY",
            "ingress.tcp",
            3,
        ),
        ("gateways/exit/http.yaml", "GATEWAY", "egress", 2),
        ("gateways/exit/connections.yaml", "GATEWAY", "egress.tcp", 3),
        ("sidecars/inbound.yaml", "SIDECAR_INBOUND", "inbound", 3),
        ("sidecars/outbound.yaml", "SIDECAR_OUTBOUND", "outbound", 2),
    ] {
        let filter = rendered(file);
        let all = filter["spec"]["configPatches"].as_array().unwrap();
        assert_eq!(all.len(), patches, "{file}");
        assert!(all.iter().all(|patch| patch["match"]["context"] == context));
        let config = &all[0]["patch"]["value"]["typed_config"]["config"];
        assert_eq!(config["root_id"], root_id);
        let inlined = config["configuration"]["value"].as_str().unwrap();
        let inlined = Policy::from_json(inlined).unwrap();
        assert_eq!(inlined.revision, Some(policy.revision()));
    }
}
