//! A sidecar's plugin that lands on a gateway, and one that is attached as the other kind of filter.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::ensure;
use meridian::lab::config::stats::stats_config;
use meridian::lab::config::wasm::Filters;
use meridian::lab::envoy::{Envoy, EnvoyOptions, RunFolder};
use meridian::lab::prometheus::Samples;
use meridian::policy::PolicyFile;
use meridian::{lab::modules, lab::paths};
use meridian_policy::Vantage;
use meridian_tests::raw::{Answer, Peer, connect, http1};
use serde_json::{Value, json};

use crate::echo::Echo;

const DEADLINE: Duration = Duration::from_secs(20);
const POLICY: &str = "
mesh: {cidrs: [127.1.0.0/16], hosts: [shop.example.com]}
hosts:
  ingress: {rules: [{name: shop, hosts: [shop.example.com], action: allow}]}
  outbound: {rules: [{name: no-shop, hosts: [shop.example.com], action: deny}]}
";

/// An Envoy with one worker, of this node, with these filters before an upstream.
async fn start(
    name: &str,
    node: &str,
    filters: Vec<Value>,
    echo: &Echo,
) -> anyhow::Result<(Envoy, RunFolder)> {
    let binary = tokio::task::spawn_blocking(|| meridian::lab::envoy::obtain(None)).await??;
    let run = RunFolder::create(name)?;
    let mut filters = filters;
    filters.push(json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    }));
    let socket = |address: std::net::SocketAddr| json!({"socket_address": {"address": address.ip(), "port_value": address.port()}});
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "http",
        "use_remote_address": true,
        "http_filters": filters,
        "route_config": {"virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "echo"}}],
        }]},
    });
    let bootstrap = json!({
        "node": {"id": node, "cluster": "edge"},
        "stats_config": stats_config(),
        "static_resources": {
            "listeners": [{
                "name": "http",
                "address": socket((Ipv4Addr::LOCALHOST, 0).into()),
                "traffic_direction": "OUTBOUND",
                "filter_chains": [{"filters": [{
                    "name": "envoy.filters.network.http_connection_manager",
                    "typed_config": manager,
                }]}],
            }],
            "clusters": [{
                "name": "echo",
                "type": "STATIC",
                "load_assignment": {"cluster_name": "echo", "endpoints": [{"lb_endpoints": [
                    {"endpoint": {"address": socket(echo.address())}},
                ]}]},
            }],
        },
    });
    let options = EnvoyOptions {
        concurrency: 1,
        ..EnvoyOptions::default()
    };
    let envoy = Envoy::start(&binary, &run, name, &bootstrap, &options).await?;
    Ok((envoy, run))
}

/// The status of a request from outside, with a forged tag.
async fn ask(envoy: &Envoy) -> anyhow::Result<u16> {
    let server = envoy.listener_address("http").await?;
    let source = Ipv4Addr::new(127, 9, 0, 1).into();
    let mut connection = connect(&Peer::Tcp { server, source }).await?;
    let request =
        b"GET / HTTP/1.1\r\nhost: shop.example.com\r\nx-traffic-direction: east-west\r\n\r\n";
    match http1::exchange(&mut *connection.stream, request, DEADLINE).await? {
        Answer::Response(response) => Ok(response.status),
        Answer::Reset(why) => anyhow::bail!("{why}"),
    }
}

async fn filters() -> anyhow::Result<Filters> {
    tokio::task::spawn_blocking(modules::build).await??;
    let policy = PolicyFile::parse(POLICY.as_bytes())?;
    Ok(Filters::new(paths::modules_dir()?, &policy))
}

/// What came from outside stays north-south, although a filter that would say otherwise stands behind
/// the gateway's own.
#[tokio::test]
async fn a_sidecar_s_plugin_at_a_gateway_leaves_the_gateway_s_tag_alone() -> anyhow::Result<()> {
    let filters = filters().await?;
    let both = vec![
        filters.http_filter(Vantage::Ingress),
        filters.http_filter(Vantage::Outbound),
    ];
    let echo = Echo::start().await?;
    let node = "router~10.0.0.1~gateway.edge~edge.svc.cluster.local";
    let (envoy, _run) = start("attachment-gateway", node, both.clone(), &echo).await?;
    for _ in 0..2 {
        assert_eq!(ask(&envoy).await?, 200);
    }
    for received in echo.take() {
        assert_eq!(received.values("x-traffic-direction"), ["north-south"]);
    }
    let samples = Samples::parse(&envoy.scrape().await?)?;
    let abstains = "meridian_plugin_abstains";
    assert_eq!(samples.value(abstains, &[("reporter", "outbound")]), 1.0);
    assert_eq!(samples.find(abstains, &[]).count(), 1);
    let requests = "meridian_requests_total";
    assert_eq!(samples.value(requests, &[("reporter", "ingress")]), 2.0);
    assert_eq!(
        samples.find(requests, &[("reporter", "outbound")]).count(),
        0
    );
    let told = "the plugin abstains: this is a sidecar's module, and the node is a gateway";
    // The main thread's VM, the worker's, and that of which both are copies.
    let count = envoy.log()?.matches(told).count();
    ensure!((1..=3).contains(&count), "{count} times");
    envoy.stop().await?;

    // At a node of no kind it decides as ever, and its rule refuses.
    let (envoy, _run) = start("attachment-node", "gateway", both, &echo).await?;
    assert_eq!(ask(&envoy).await?, 403);
    let samples = Samples::parse(&envoy.scrape().await?)?;
    assert_eq!(samples.find(abstains, &[]).count(), 0);
    envoy.stop().await
}

#[tokio::test]
async fn an_http_filter_with_the_root_of_a_network_filter_says_what_to_write() -> anyhow::Result<()>
{
    let filters = filters().await?;
    let mut filter = filters.http_filter(Vantage::Ingress);
    filter["typed_config"]["config"]["root_id"] = json!("ingress.tcp");
    let echo = Echo::start().await?;
    let (envoy, _run) = start("attachment-root", "gateway", vec![filter], &echo).await?;
    for _ in 0..3 {
        assert_eq!(ask(&envoy).await?, 503);
    }
    assert!(echo.take().is_empty());
    let log = envoy.log()?;
    let told = "the root id ingress.tcp is that of a network filter, and this is an HTTP filter: every request is refused; write ingress";
    assert_eq!(log.matches(told).count(), 1, "{log}");
    envoy.stop().await
}
