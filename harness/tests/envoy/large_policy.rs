//! A policy of tens of thousands of rules starts: the time that Envoys get follows its size.

use std::time::Duration;

use meridian::lab::config::wasm::Filters;
use meridian::lab::envoy::EnvoyOptions;
use meridian::lab::prometheus::Samples;
use meridian::lab::topology::{Call, Topology, TopologyOptions};
use meridian::policy::PolicyFile;
use serde_json::{Value, json};

/// As many as a section may have.
const RULES: usize = 10_000;

fn section(name: &str) -> Value {
    let rule = |number| {
        json!({
            "name": format!("{name}-{number}"),
            "hosts": [format!("host-{number}.{name}.example.com")],
            "action": "allow",
        })
    };
    let rules: Vec<Value> = (0..RULES).map(rule).collect();
    json!({"default": "deny", "rules": rules})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_rules_in_each_section_start_in_the_time_that_their_size_gives() {
    let sections = ["ingress", "egress", "inbound", "outbound"].map(|name| (name, section(name)));
    let hosts = Value::Object(
        sections
            .map(|(name, rules)| (name.to_owned(), rules))
            .into_iter()
            .collect(),
    );
    let document = json!({"mesh": {"cidrs": ["127.1.0.0/16"]}, "hosts": hosts}).to_string();
    let policy = PolicyFile::parse(document.as_bytes()).unwrap();
    let prepared = tokio::task::spawn_blocking(|| {
        meridian::lab::modules::build()?;
        let modules = meridian::lab::paths::modules_dir()?;
        anyhow::Ok((modules, meridian::lab::envoy::obtain(None)?))
    });
    let (modules, envoy) = prepared.await.unwrap().unwrap();
    let filters = Filters::new(modules, &policy);

    // Each of the six filters has its own section, written as densely as the whole.
    let size = filters.policy_bytes();
    assert!(
        (document.len()..2 * document.len()).contains(&size),
        "{size}"
    );
    let allowed = EnvoyOptions {
        policy_bytes: size,
        ..EnvoyOptions::default()
    }
    .ready_timeout();
    let more = Duration::from_secs(30).mul_f64(size as f64 / 1e6);
    assert!(allowed >= Duration::from_secs(19) + more, "{allowed:?}");
    assert!(allowed <= Duration::from_secs(21) + more, "{allowed:?}");

    let topology = Topology::start(&TopologyOptions {
        live: false,
        run: "test-large".to_owned(),
        envoy,
        filters: Some(filters),
    })
    .await
    .unwrap();
    let call = |host| Call::new(topology.ingress.http.v4, host);
    // The first is allowed here, and refused by the sidecar behind.
    let last = format!("host-{}.ingress.example.com", RULES - 1);
    for host in [&*last, "host-10000.ingress.example.com"] {
        assert_eq!(call(host).send().await.unwrap().status, 403, "{host}");
    }
    let metrics = topology.ingress.envoy.scrape().await.unwrap();
    let samples = Samples::parse(&metrics).unwrap();
    let counted = |rule: &str| -> f64 {
        let of_the_rule = [("rule", rule)];
        let samples = samples.find("meridian_requests_total", &of_the_rule);
        samples.map(|sample| sample.value).sum()
    };
    assert_eq!(counted(&format!("ingress-{}", RULES - 1)), 1.0);
    assert_eq!(counted("default"), 1.0);
    topology.stop().await.unwrap();
}
