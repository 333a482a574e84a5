//! What lies behind the decision: where a server name is resolved, how large a ClientHello may be, and
//! TLS that ends at the gateway before the bytes go on.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use meridian::lab::config::tls::{self, ClientCertificate};
use meridian::lab::envoy::Version;
use meridian::lab::topology::{Arrivals, Call, Server, Tls};
use meridian_policy::Vantage;
use serde_json::{Value, json};

use super::{Gateway, counted, each_string, in_records, is_answered, once, passthrough, scrape};
use meridian_vectors::connections::{GATEWAY, Wire};
use meridian_vectors::{Bytes, DEFAULT_SOURCE};

/// Calls `change` with every object of `value`.
fn each_object(value: &mut Value, change: &mut dyn FnMut(&mut serde_json::Map<String, Value>)) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| each_object(item, change)),
        Value::Object(fields) => {
            change(fields);
            fields
                .values_mut()
                .for_each(|field| each_object(field, change));
        }
        _ => {}
    }
}

/// Whoever owns an allowed name chooses its address: no connection to this host is even tried.
#[tokio::test]
async fn a_server_name_that_leads_inside_is_refused() {
    let gateway = Gateway::new("test-connections-inside").await;
    let policy = json!({"hosts": {"egress": {"default": "deny", "rules": [
        {"name": "partners", "hosts": ["*.localhost"], "action": "allow"},
    ]}}});
    let mut bootstrap = gateway.bootstrap_to(Vantage::Egress, &policy, None, false);
    if gateway.version < Version::new(1, 37) {
        // It would connect before the address is checked: there is no such listener.
        let listeners = bootstrap["static_resources"]["listeners"].as_array();
        let names: Vec<&Value> = listeners.unwrap().iter().map(|it| &it["name"]).collect();
        assert_eq!(names, ["egress"]);
        return;
    }
    let port = gateway.upstream.address().port();
    let mut resolvers = 0;
    each_object(&mut bootstrap, &mut |fields| {
        if let Some(value) = fields.get_mut("port_value").filter(|value| **value == 443) {
            *value = json!(port);
            resolvers += 1;
        }
    });
    assert_eq!(resolvers, 1, "{bootstrap:#}");

    // `a.localhost` stands for a name that its owner lets resolve to an address inside (RFC 6761).
    let sni = Some(&b"a.localhost"[..]);
    let other = Some(&b"b.example"[..]);
    let (envoy, bound) = gateway.start(Vantage::Egress, &bootstrap).await;
    let target = SocketAddr::from((GATEWAY, bound));
    assert!(!is_answered(DEFAULT_SOURCE, target, sni, &Wire::Tls).await);
    assert!(!is_answered(DEFAULT_SOURCE, target, other, &Wire::Tls).await);
    let samples = scrape(&envoy).await;
    assert_eq!(samples.value("envoy_cluster_upstream_cx_total", &[]), 0.0);
    let mut decided = once("egress north-south allow partners");
    decided.extend(once("egress north-south deny default"));
    assert_eq!(counted(&samples, "meridian_connections_total"), decided);
    envoy.stop().await.unwrap();

    // Were this host outside, the same name would pass, and a refused one would not.
    let mut lifted = 0;
    each_string(&mut bootstrap, &|text| {
        if text == "127.0.0.0" {
            *text = "198.18.0.0".to_owned();
        }
    });
    each_object(&mut bootstrap, &mut |fields| {
        lifted += usize::from(fields.get("address_prefix") == Some(&json!("198.18.0.0")));
    });
    assert_eq!(lifted, 1, "{bootstrap:#}");
    let (envoy, bound) = gateway.start(Vantage::Egress, &bootstrap).await;
    let target = SocketAddr::from((GATEWAY, bound));
    assert!(is_answered(DEFAULT_SOURCE, target, sni, &Wire::Tls).await);
    assert!(!is_answered(DEFAULT_SOURCE, target, other, &Wire::Tls).await);
    let samples = scrape(&envoy).await;
    assert_eq!(samples.value("envoy_cluster_upstream_cx_total", &[]), 1.0);
    envoy.stop().await.unwrap();
}

/// The ClientHello of a real client that offers so many protocols that it has 18 kB, in records of
/// 1,000 bytes: a TLS server takes it, Envoy's inspector does not.
fn large_hello(sni: &str) -> Wire {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = (0..90)
        .map(|number| format!("{number:0200}").into_bytes())
        .chain([b"http/1.1".to_vec()])
        .collect();
    let name = sni.to_owned().try_into().unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut sent = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut sent).unwrap();
    }
    let mut hello = sent[..5].to_vec();
    let mut records = sent.as_slice();
    while !records.is_empty() {
        let length = usize::from(u16::from_be_bytes([records[3], records[4]]));
        hello.extend(&records[5..5 + length]);
        records = &records[5 + length..];
    }
    assert!(hello.len() > 17_000, "{}", hello.len());
    Wire::Bytes {
        bytes: Bytes(in_records(&hello, 1000)),
    }
}

/// Without a server name a filter would let through by its default what a rule denies.
#[tokio::test]
async fn a_client_hello_that_envoy_cannot_read_is_not_served() {
    let gateway = Gateway::new("test-connections-large").await;
    let policy = json!({"hosts": {"ingress": {"default": "allow", "rules": [
        {"name": "no-admin", "hosts": ["admin.example.com"], "action": "deny"},
    ]}}});
    let upstream = Some(gateway.upstream.address());
    let large = large_hello("admin.example.com");
    let usual = Some(&b"shop.example.com"[..]);
    let mut bootstrap = gateway.bootstrap_to(Vantage::Ingress, &policy, upstream, false);
    for plain_tcp in [false, true] {
        if plain_tcp {
            let passthrough = passthrough(&mut bootstrap);
            passthrough["filter_chains"][0]["filter_chain_match"] = json!({});
        }
        let (envoy, port) = gateway.start(Vantage::Ingress, &bootstrap).await;
        let target = SocketAddr::from((GATEWAY, port));
        assert!(is_answered(DEFAULT_SOURCE, target, usual, &Wire::Tls).await);
        // With plain TCP on the same port it is like that, which shows that the server takes it.
        let answered = is_answered(DEFAULT_SOURCE, target, None, &large).await;
        assert_eq!(answered, plain_tcp);
        let samples = scrape(&envoy).await;
        let connections = 1.0 + f64::from(u8::from(plain_tcp));
        assert_eq!(
            samples.value("envoy_cluster_upstream_cx_total", &[]),
            connections
        );

        let https = envoy.listener_address("https").await.unwrap();
        let near = IpAddr::from([127, 0, 0, 1]);
        assert!(is_answered(near, https, usual, &Wire::Tls).await);
        assert!(!is_answered(near, https, None, &large).await);
        envoy.stop().await.unwrap();
    }
}

/// Envoy asks network filters before the handshake, so there is no identity yet: a rule that needs one
/// lets nobody pass.
#[tokio::test]
async fn where_mutual_tls_ends_a_rule_that_needs_an_identity_lets_nobody_pass() {
    let gateway = Gateway::new("test-connections-mutual").await;
    let policy = json!({"hosts": {"egress": {"default": "deny", "rules": [
        {"name": "open", "hosts": ["open.example"], "action": "allow"},
        {"name": "by-principal", "hosts": ["principal.example"], "action": "allow",
            "from": {"principals": ["cluster.local/ns/shop/sa/cart"]}},
        {"name": "by-namespace", "hosts": ["namespace.example"], "action": "allow",
            "from": {"namespaces": ["shop"]}},
        {"name": "strangers", "hosts": ["strangers.example"], "action": "deny",
            "from": {"notNamespaces": ["shop"]}},
        {"name": "strangers-else", "hosts": ["strangers.example"], "action": "allow"},
    ]}}});
    let plain = Server::start("plain", std::net::Ipv4Addr::LOCALHOST, Arrivals::default())
        .await
        .unwrap();
    let mut bootstrap =
        gateway.bootstrap_to(Vantage::Egress, &policy, Some(plain.address()), false);
    let server = gateway
        .certificates
        .write_identity("server", "cluster.local/ns/istio-system/sa/egress", None)
        .unwrap();
    let mutual = tls::downstream(&server.credentials, &server.ca, ClientCertificate::Required);
    passthrough(&mut bootstrap)["filter_chains"][0]["transport_socket"] = mutual;
    let (envoy, port) = gateway.start(Vantage::Egress, &bootstrap).await;
    let target = SocketAddr::from((GATEWAY, port));
    let identity = gateway
        .certificates
        .identity("cluster.local/ns/shop/sa/cart")
        .unwrap();
    for (host, expected) in [
        ("open.example", "allow open"),
        ("principal.example", "deny default"),
        ("namespace.example", "deny default"),
        ("strangers.example", "deny strangers"),
    ] {
        let before = scrape(&envoy).await;
        let tls = Tls::new(&gateway.certificates, Some(host), Some(&identity)).unwrap();
        let reply = Call::new(target, host).tls(tls).send().await;
        let since = scrape(&envoy).await.since(&before);
        assert_eq!(
            counted(&since, "meridian_connections_total"),
            once(&format!("egress north-south {expected}")),
            "{host}"
        );
        let passes = expected.starts_with("allow");
        assert_eq!(
            reply.is_ok_and(|reply| reply.status == 200),
            passes,
            "{host}"
        );
        assert_eq!(
            since.value("envoy_cluster_upstream_cx_total", &[]),
            f64::from(u8::from(passes)),
            "{host}"
        );
    }
    // Without a certificate TLS itself refuses.
    let tls = Tls::new(&gateway.certificates, Some("open.example"), None).unwrap();
    assert!(
        Call::new(target, "open.example")
            .tls(tls)
            .send()
            .await
            .is_err()
    );
    envoy.stop().await.unwrap();
}
