//! `meridian top` over a real topology: what it shows is what was sent.

use std::process::{Command, Output};

use meridian::policy_file::PolicyFile;
use meridian::topology::roles::{ORDERS, OUTSIDE_CLIENT, SHOP};
use meridian::topology::{Call, Options, Topology};
use serde_json::{Value, json};

async fn start() -> Topology {
    let parts = tokio::task::spawn_blocking(|| {
        let modules = meridian::modules::build().unwrap();
        let modules = modules.ingress.parent().map(std::path::Path::to_path_buf);
        (meridian::envoy::obtain(None).unwrap(), modules)
    });
    let (envoy, modules) = parts.await.unwrap();
    let options = Options {
        run: "test-top".to_owned(),
        policy: PolicyFile::load(None).unwrap().json,
        envoy,
        modules,
    };
    Topology::start(&options).await.unwrap()
}

async fn top(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meridian"));
    command
        .arg("top")
        .args(["--interval", "300ms"])
        .args(arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

/// An address that nobody listens at, and nobody else is given while the guard lives.
fn nobody() -> (std::net::TcpListener, String) {
    let guard = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    // The same port at another loopback address: bound by none, and connections to it are refused.
    let port = guard.local_addr().unwrap().port();
    (guard, format!("127.77.77.77:{port}"))
}

#[tokio::test]
async fn it_counts_what_was_sent_and_names_the_proxy_that_does_not_answer() {
    let topology = start().await;
    let ingress = topology.ingress.http.v4;
    let outbound = topology.sidecar(&SHOP).outbound.v4;
    let outside = |host: &str| Call::new(ingress, host).from(OUTSIDE_CLIENT);
    let calls = [
        (3, 200, outside("shop.example.com")),
        (2, 403, outside("intranet.example.com")),
        (
            1,
            200,
            Call::new(ingress, "shop.example.com").from(ORDERS.address),
        ),
        (1, 403, outside("console.system.example.com")),
        (2, 200, Call::new(outbound, "api.partner.example")),
        (1, 403, Call::new(outbound, "tracker.example")),
        (1, 200, Call::new(outbound, "orders.orders")),
    ];
    for (times, status, call) in calls {
        for _ in 0..times {
            let reply = call.send().await.unwrap();
            assert_eq!(reply.status, status, "{call:?}");
        }
    }

    let mut addresses: Vec<String> = topology
        .envoys()
        .map(|envoy| envoy.admin().to_string())
        .collect();
    let (_guard, dead) = nobody();
    addresses.push(dead.clone());
    // Another spelling of the first: a URL with its path.
    addresses[0] = format!("http://{}/stats/prometheus", addresses[0]);
    let mut arguments: Vec<&str> = addresses.iter().map(String::as_str).collect();
    arguments.push("--json");
    let output = top(&arguments).await;
    assert!(output.status.success(), "{output:?}");
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();

    let mut traffic = Vec::new();
    for row in seen["traffic"].as_array().unwrap() {
        assert_eq!(row["rate"], 0.0, "nothing was sent between the scrapes");
        let number = |key: &str| row[key].as_f64().unwrap() as u64;
        assert_eq!(number("system") + number("application"), number("requests"));
        traffic.push(json!([
            row["flow"],
            row["reporter"],
            number("requests"),
            number("denied")
        ]));
    }
    assert_eq!(
        json!(traffic),
        json!([
            ["north-south in", "ingress", 6, 3],
            ["north-south in", "inbound", 3, 0],
            ["north-south out", "outbound", 3, 0],
            ["north-south out", "egress", 3, 1],
            ["east-west", "ingress", 1, 0],
            ["east-west", "outbound", 1, 0],
            ["east-west", "inbound", 2, 0],
        ])
    );
    let refusals: Vec<Value> = seen["refusals"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| json!([row["reporter"], row["rule"], row["count"], row["of"]]))
        .collect();
    assert_eq!(
        json!(refusals),
        json!([
            ["egress", "no-trackers", 1.0, "requests"],
            ["ingress", "default", 3.0, "requests"],
        ])
    );
    let proxies = seen["proxies"].as_array().unwrap();
    assert_eq!(proxies.len(), addresses.len());
    for (proxy, address) in proxies.iter().zip(&addresses) {
        let is_dead = *address == dead;
        assert!(address.contains(proxy["address"].as_str().unwrap()));
        assert_eq!(proxy["error"].is_string(), is_dead, "{proxy}");
    }

    // Without a terminal it prints text, and once.
    let output = top(&arguments[..arguments.len() - 1]).await;
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("north-south out outbound        3"), "{text}");
    let line = text.lines().find(|line| line.contains(&dead)).unwrap();
    assert!(line.contains("NO ANSWER: "), "{line}");
    topology.stop().await.unwrap();
}

#[tokio::test]
async fn it_fails_where_no_proxy_answers() {
    let (_guard, dead) = nobody();
    let output = top(&[&dead]).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("no proxy answers"), "{error}");
    assert!(error.contains(&dead), "{error}");
    assert!(output.stdout.is_empty());
}
