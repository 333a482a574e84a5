//! The local topology without filters: what the network lets through before any policy decides.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use meridian::lab::config::Address;
use meridian::lab::config::wasm::Filters;
use meridian::lab::topology::roles::{self, ORDERS, OUTSIDE_CLIENT, SHOP};
use meridian::lab::topology::{Arrival, Call, Certificates, Tls, Topology, TopologyOptions};
use meridian::policy::PolicyFile;
use serde_json::json;

async fn envoy() -> PathBuf {
    tokio::task::spawn_blocking(|| meridian::lab::envoy::obtain(None))
        .await
        .unwrap()
        .unwrap()
}

async fn start(run: &str) -> Topology {
    let options = TopologyOptions {
        live: false,
        run: run.to_owned(),
        envoy: envoy().await,
        filters: None,
    };
    Topology::start(&options).await.unwrap()
}

async fn arrival(call: Call) -> Arrival {
    let reply = call.send().await.unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json().unwrap()
}

fn runs(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test]
async fn every_path_of_the_mesh_leads_where_it_should() {
    let topology = start("test-paths").await;
    let ingress = topology.ingress.http.v4;
    let shop = topology.sidecar(&SHOP);

    let seen = arrival(Call::new(ingress, "shop.example.com").from(OUTSIDE_CLIENT)).await;
    assert_eq!(seen.server, "shop");
    assert_eq!(seen.authority, "shop.example.com");
    assert_eq!(seen.peer.ip(), SHOP.address, "the sidecar, not the gateway");
    assert_eq!(seen.header("x-forwarded-for"), ["127.9.1.1"]);

    for (authority, server) in [
        ("a.apps.example.com", "orders"),
        ("A.APPS.example.com.:8080", "orders"),
        ("console.system.example.com", "console"),
        ("anything.example", "shop"),
    ] {
        assert_eq!(
            arrival(Call::new(ingress, authority)).await.server,
            server,
            "{authority}"
        );
    }

    for authority in [
        "orders.orders",
        "orders.orders.svc",
        "orders.orders.svc.cluster.local:80",
    ] {
        let seen = arrival(Call::new(shop.outbound.v4, authority).from(SHOP.address)).await;
        assert_eq!((&*seen.server, &*seen.authority), ("orders", authority));
    }

    for (authority, server) in [
        ("api.partner.example", "api.partner.example"),
        ("tracker.example:80", "tracker.example"),
        ("elsewhere.example", "*"),
    ] {
        let seen = arrival(Call::new(shop.outbound.v4, authority)).await;
        assert_eq!(seen.server, server, "{authority}");
        assert_eq!(seen.peer.ip(), roles::EGRESS);
    }

    let arrivals = topology.arrivals();
    let taken = arrivals.take_where(|arrival| arrival.server == "tracker.example");
    assert_eq!(taken.len(), 1);
    assert_eq!(arrivals.take().len(), 10);
    topology.stop().await.unwrap();
}

#[tokio::test]
async fn tls_http2_and_every_kind_of_source_reach_the_ingress_gateway() {
    let topology = start("test-protocols").await;
    let shop = "shop.example.com";
    let https = topology.ingress.https.v4;
    let certificates = &topology.certificates;
    let identity = certificates.identity(&ORDERS.principal()).unwrap();

    let plain = Tls::new(certificates, Some(shop), None).unwrap();
    let mutual = Tls::new(certificates, None, Some(&identity)).unwrap();
    arrival(Call::new(https, shop).tls(plain.clone())).await;
    arrival(Call::new(https, shop).tls(plain).http2()).await;
    arrival(Call::new(https, shop).tls(mutual).from(ORDERS.address)).await;
    arrival(Call::new(topology.ingress.http.v4, shop).http2()).await;

    let folder = tempfile::tempdir().unwrap();
    let another_mesh = Certificates::create(folder.path().join("certificates")).unwrap();
    let stranger = another_mesh.identity(&ORDERS.principal()).unwrap();
    let stranger = Tls::new(certificates, Some(shop), Some(&stranger)).unwrap();
    Call::new(https, shop)
        .tls(stranger)
        .send()
        .await
        .unwrap_err();

    let v6 = topology.ingress.http.v6.map(|v6| Call::new(v6, shop));
    let pipe = Address::Pipe(topology.ingress.http.pipe.clone());
    for call in [v6, Some(Call::new(pipe, shop))].into_iter().flatten() {
        arrival(call).await;
    }

    let raw = Call::new(topology.ingress.http.v4, shop)
        .send_raw(b"GET /x HTTP/1.1\r\nhost: a.example\r\nHost: b.example\r\n\r\n")
        .await
        .unwrap();
    let seen: Arrival = raw.json().unwrap();
    assert_eq!(seen.authority, "a.example,b.example");
    let old = Call::new(topology.ingress.http.v4, shop)
        .send_raw(b"GET /old HTTP/1.0\r\nhost: shop.example.com\r\n\r\n")
        .await
        .unwrap();
    let seen: Arrival = old.json().unwrap();
    assert_eq!((&*seen.authority, &*seen.path), (shop, "/old"));

    let connect = |door, host: &str| Call::new(door, host).method("CONNECT".parse().unwrap());
    topology.arrivals().take();
    // Towards a workload a tunnel would be a way past the filters.
    for door in [topology.ingress.http.v4, topology.sidecar(&SHOP).inbound.v4] {
        let reply = connect(door, "shop.example.com:443").send().await.unwrap();
        assert_eq!(reply.status, 404);
    }
    assert!(topology.arrivals().take().is_empty());
    let outbound = connect(
        topology.sidecar(&SHOP).outbound.v4,
        "api.partner.example:443",
    );
    assert_eq!(outbound.send().await.unwrap().status, 200);
    assert_eq!(outbound.http2().send().await.unwrap().status, 200);
    let methods: Vec<String> = topology
        .arrivals()
        .take()
        .into_iter()
        .map(|arrival| arrival.method)
        .collect();
    assert_eq!(methods, ["CONNECT", "CONNECT"]);
    topology.stop().await.unwrap();
}

#[tokio::test]
async fn a_sidecar_believes_neither_forged_addresses_nor_forged_identities() {
    let topology = start("test-sidecar").await;
    let shop = topology.sidecar(&SHOP);
    let identity = topology.certificates.identity(&ORDERS.principal()).unwrap();
    let mutual = Tls::new(&topology.certificates, None, Some(&identity)).unwrap();
    let forged = |call: Call| {
        call.from(OUTSIDE_CLIENT)
            .header("x-forwarded-for", "127.1.1.1, 127.1.1.2")
            .header("x-forwarded-proto", "http")
            .header(
                "x-forwarded-client-cert",
                "URI=spiffe://cluster.local/ns/a/sa/b",
            )
    };
    for call in [
        Call::new(shop.inbound.v4, "shop.shop"),
        Call::new(shop.inbound.v4, "shop.shop").tls(mutual),
    ] {
        let seen = arrival(forged(call)).await;
        assert_eq!(seen.server, "shop");
        let source = seen.header("x-forwarded-for");
        assert_eq!(source, ["127.1.1.1, 127.1.1.2"], "as it came");
        assert_eq!(seen.header("x-forwarded-proto"), ["http"], "as it came");
        assert!(seen.header("x-forwarded-client-cert").is_empty());
    }
    // Without a certificate TLS is refused: only plaintext may come without an identity.
    let anonymous = Tls::new(&topology.certificates, None, None).unwrap();
    Call::new(shop.inbound.v4, "shop.shop")
        .tls(anonymous)
        .send()
        .await
        .unwrap_err();

    let log = topology.run_folder().join("shop.access.log");
    topology.stop().await.unwrap();
    let log = std::fs::read_to_string(log).unwrap();
    let sources: Vec<String> = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| line["source"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(sources.len(), 2);
    assert!(
        sources
            .iter()
            .all(|source| source.starts_with("127.9.1.1:")),
        "{sources:?}"
    );
}

#[tokio::test]
async fn nginx_reaches_the_system_component_as_itself() {
    let topology = start("test-nginx").await;
    let Some(nginx) = &topology.nginx else {
        eprintln!("NGINX is not installed: skipped");
        return;
    };
    let call = Call::new(nginx.address(), "console.system.example.com")
        .from(OUTSIDE_CLIENT)
        .header("x-traffic-direction", "east-west")
        .header("x-forwarded-for", "127.1.1.1");
    let seen = arrival(call).await;
    assert_eq!(seen.server, "console");
    assert_eq!(
        seen.header("x-traffic-direction"),
        ["east-west"],
        "nothing filters here"
    );
    assert_eq!(seen.header("x-forwarded-for"), ["127.1.1.1, 127.9.1.1"]);
    let log = topology.run_folder().join("console.access.log");
    topology.stop().await.unwrap();
    let log = std::fs::read_to_string(log).unwrap();
    assert!(
        log.contains("spiffe://cluster.local/ns/ingress-nginx/sa/ingress-nginx"),
        "{log}"
    );
    assert!(
        log.contains(&format!("\"source\":\"{}:", roles::NGINX)),
        "{log}"
    );
}

#[tokio::test]
async fn the_filters_tag_refuse_and_count_on_every_path() {
    let modules = tokio::task::spawn_blocking(|| {
        meridian::lab::modules::build()?;
        meridian::lab::paths::modules_dir()
    });
    let modules = modules.await.unwrap().unwrap();
    let allow = |name, host| json!({"name": name, "hosts": [host], "action": "allow"});
    let policy = json!({
        "mesh": {
            "cidrs": ["127.1.0.0/16"],
            "gateways": {
                "ingress": [
                    {"principal": roles::INGRESS_PRINCIPAL, "filtered": true},
                    {"principal": roles::NGINX_PRINCIPAL, "filtered": false},
                ],
                "egress": [{"principal": roles::EGRESS_PRINCIPAL}],
            },
        },
        "hosts": {
            "ingress": {"default": "deny", "rules": [allow("shop", "shop.example.com")]},
            "egress": {"default": "deny", "rules": [allow("partner", "api.partner.example")]},
        },
    });
    let policy = PolicyFile::parse(policy.to_string().as_bytes()).unwrap();
    let options = TopologyOptions {
        live: false,
        run: "test-filters".to_owned(),
        envoy: envoy().await,
        filters: Some(Filters::new(modules, &policy)),
    };
    let topology = Topology::start(&options).await.unwrap();
    let ingress = topology.ingress.http.v4;
    let outbound = topology.sidecar(&SHOP).outbound.v4;
    let tag = "x-traffic-direction";
    let forged = |target, authority| Call::new(target, authority).header(tag, "east-west");

    let entering = arrival(forged(ingress, "shop.example.com").from(OUTSIDE_CLIENT)).await;
    assert_eq!(entering.header(tag), ["north-south"]);
    for target in [ingress, topology.sidecar(&SHOP).inbound.v4] {
        let mut call = forged(target, "shop.example.com").header("client_id", "kept");
        let look_alikes = [
            "x_traffic_direction",
            "x_traffic-direction",
            "X-Traffic_Direction",
        ];
        for look_alike in look_alikes {
            call = call.header(look_alike, "east-west");
        }
        let seen = arrival(call.from(OUTSIDE_CLIENT)).await;
        assert_eq!(seen.header(tag), ["north-south"]);
        assert_eq!(seen.header("client_id"), ["kept"]);
        for look_alike in look_alikes {
            assert!(seen.header(&look_alike.to_lowercase()).is_empty());
        }
    }
    let hairpin = arrival(Call::new(ingress, "shop.example.com").from(ORDERS.address)).await;
    assert_eq!(hairpin.header(tag), ["east-west"]);
    let inside = arrival(Call::new(outbound, "orders.orders")).await;
    assert_eq!(inside.header(tag), ["east-west"]);
    let leaving = arrival(forged(outbound, "api.partner.example")).await;
    assert!(leaving.header(tag).is_empty());
    if let Some(nginx) = &topology.nginx {
        let system = arrival(forged(nginx.address(), "any.example").from(OUTSIDE_CLIENT)).await;
        assert_eq!(system.header(tag), ["north-south"]);
    }
    topology.arrivals().take();
    for (target, authority) in [
        (ingress, "other.example.com"),
        (outbound, "tracker.example"),
    ] {
        let reply = Call::new(target, authority).send().await.unwrap();
        assert_eq!(reply.status, 403, "{authority}");
    }
    // A tunnel to a workload is decided and counted, though no route takes it.
    let tunnel = Call::new(ingress, "shop.example.com:443").from(ORDERS.address);
    let tunnel = tunnel.method("CONNECT".parse().unwrap());
    assert_eq!(tunnel.send().await.unwrap().status, 404);
    assert!(topology.arrivals().take().is_empty());

    // Each filter has its own slice, and all tell the revision of the whole.
    let revision = format!(" {}", policy.revision());
    for envoy in topology.envoys() {
        let metrics = envoy.scrape().await.unwrap();
        let mut told = metrics
            .lines()
            .filter(|line| line.starts_with("meridian_policy_revision{"));
        let name = envoy.name();
        assert!(told.clone().count() >= 1, "{name} tells none");
        assert!(told.all(|line| line.ends_with(&revision)), "{name}");
    }
    let metrics = topology.ingress.envoy.scrape().await.unwrap();
    let counted = metrics
        .lines()
        .find(|line| line.starts_with("meridian_requests_total") && line.contains("\"shop\""))
        .expect("the rule's counter");
    for label in [
        "reporter=\"ingress\"",
        "decision=\"allow\"",
        "component_type=",
    ] {
        assert!(counted.contains(label), "{counted}");
    }
    let tunnels_too = metrics.lines().filter(|line| {
        line.starts_with("meridian_requests_total")
            && line.contains("rule=\"shop\"")
            && line.contains("direction=\"east-west\"")
    });
    let count = |line: &str| {
        line.rsplit(' ')
            .next()
            .and_then(|count| count.parse::<u32>().ok())
    };
    let east_west: u32 = tunnels_too.filter_map(count).sum();
    assert_eq!(east_west, 2, "the hairpin and the tunnel");
    topology.stop().await.unwrap();
}

#[tokio::test]
async fn topologies_live_side_by_side_and_leave_nothing() {
    let (first, second) = (start("test-twins").await, start("test-twins").await);
    let mut addresses = BTreeSet::new();
    let mut pids = Vec::new();
    for topology in [&first, &second] {
        let doors = topology
            .sidecars
            .values()
            .flat_map(|sidecar| [&sidecar.inbound, &sidecar.outbound])
            .chain([
                &topology.ingress.http,
                &topology.ingress.https,
                &topology.egress.http,
            ]);
        for door in doors {
            assert!(addresses.insert(door.v4), "{} twice", door.v4);
            assert!(door.v6.is_none_or(|v6| addresses.insert(v6)));
        }
        pids.extend(topology.envoys().map(meridian::lab::envoy::Envoy::id));
        pids.extend(
            topology
                .nginx
                .as_ref()
                .map(meridian::lab::topology::Nginx::id),
        );
        for envoy in topology.envoys() {
            let dump = format!("{}.config_dump.json", envoy.name());
            assert!(topology.run_folder().join(dump).is_file());
        }
    }
    assert!(pids.iter().all(|pid| runs(*pid)));
    let target = first.ingress.http.v4;
    drop(first);
    drop(second);
    assert!(!pids.iter().any(|pid| runs(*pid)));
    Call::new(target, "shop.example.com")
        .send()
        .await
        .unwrap_err();
}

#[tokio::test]
async fn a_topology_that_does_not_start_says_where_its_files_are() {
    let policy = PolicyFile::parse(b"{}").unwrap();
    let options = TopologyOptions {
        live: false,
        run: "test-broken".to_owned(),
        envoy: envoy().await,
        filters: Some(Filters::new("/nonexistent".into(), &policy)),
    };
    let error = format!("{:#}", Topology::start(&options).await.unwrap_err());
    assert!(error.contains("test-broken-"), "{error}");
    assert!(error.contains("/nonexistent/meridian_"), "{error}");
}
