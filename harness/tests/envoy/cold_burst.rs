//! Many requests at once, before any connection between the Envoys is open.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use meridian::lab::config::wasm::Filters;
use meridian::lab::envoy::Envoy;
use meridian::lab::prometheus::Samples;
use meridian::lab::topology::roles::{ORDERS, SHOP};
use meridian::lab::topology::{Call, Topology, TopologyOptions};
use meridian::policy::PolicyFile;
use tokio::sync::watch;
use tokio::task::JoinSet;

const CONNECTIONS: usize = 10;
/// As many as each connection takes.
const STREAMS: usize = 100;
/// Of the streams of a connection, how many ask for a host that is refused.
const REFUSED: usize = 10;

const POLICY: &str = "
mesh:
  cidrs: [127.1.0.0/16]
  gateways:
    ingress: [{principal: cluster.local/ns/istio-ingress/sa/istio-ingress, filtered: true}]
    egress: [{principal: cluster.local/ns/istio-egress/sa/istio-egress}]
hosts:
  ingress: {default: deny, rules: [{name: shop, hosts: [shop.example.com], action: allow}]}
  egress: {default: deny, rules: [{name: partner, hosts: [api.partner.example], action: allow}]}
";

async fn start() -> Topology {
    let prepared = tokio::task::spawn_blocking(|| {
        meridian::lab::modules::build()?;
        let modules = meridian::lab::paths::modules_dir()?;
        anyhow::Ok((modules, meridian::lab::envoy::obtain(None)?))
    });
    let (modules, envoy) = prepared.await.unwrap().unwrap();
    let policy = PolicyFile::parse(POLICY.as_bytes()).unwrap();
    let options = TopologyOptions {
        live: false,
        run: "test-burst".to_owned(),
        envoy,
        filters: Some(Filters::new(modules, &policy)),
    };
    Topology::start(&options).await.unwrap()
}

/// A connection that has heard how many streams it may have.
async fn connect(target: SocketAddr) -> SendRequest<Empty<Bytes>> {
    let stream = Call::new(target, "unused").connect().await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(async move { drop(connection.await) });
    sender.ready().await.unwrap();
    sender
}

/// Sends requests to `target` on all streams of all connections at once and counts the statuses
/// by host.
async fn burst(target: SocketAddr, allowed: &str, refused: &str) -> BTreeMap<(String, u16), usize> {
    let (go, gone) = watch::channel(false);
    let mut streams = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let connection = connect(target).await;
        for number in 0..STREAMS {
            let host = if number < REFUSED { refused } else { allowed }.to_owned();
            let (mut connection, mut gone) = (connection.clone(), gone.clone());
            streams.spawn(async move {
                let request = Request::get(format!("http://{host}/"))
                    .body(Empty::new())
                    .unwrap();
                gone.wait_for(|go| *go).await.unwrap();
                let response = connection.send_request(request).await.unwrap();
                let status = response.status().as_u16();
                response.into_body().collect().await.unwrap();
                (host, status)
            });
        }
    }
    go.send(true).unwrap();
    let mut statuses = BTreeMap::new();
    for answer in streams.join_all().await {
        *statuses.entry(answer).or_insert(0) += 1;
    }
    statuses
}

/// How many requests a vantage of `envoy` has decided, by decision and rule.
async fn decided(envoy: &Envoy, reporter: &str) -> BTreeMap<String, f64> {
    let samples = Samples::parse(&envoy.scrape().await.unwrap()).unwrap();
    let mut decided = BTreeMap::new();
    for sample in samples.find("meridian_requests_total", &[("reporter", reporter)]) {
        let what = format!("{} {}", sample.labels["decision"], sample.labels["rule"]);
        *decided.entry(what).or_insert(0.0) += sample.value;
    }
    decided.retain(|_, count| *count > 0.0);
    decided
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_is_allowed_fails_and_each_request_is_decided_once() {
    const ALL: usize = CONNECTIONS * STREAMS;
    const DENIED: usize = CONNECTIONS * REFUSED;
    const ALLOWED: usize = ALL - DENIED;
    let topology = start().await;
    let counts = |counts: &[(&str, usize)]| -> BTreeMap<String, f64> {
        let counts = counts.iter();
        counts
            .map(|(what, count)| ((*what).to_owned(), *count as f64))
            .collect()
    };

    let entering = burst(topology.ingress.http.v4, "shop.example.com", "evil.test").await;
    let expected = [
        (("evil.test".to_owned(), 403), DENIED),
        (("shop.example.com".to_owned(), 200), ALLOWED),
    ];
    assert_eq!(entering, BTreeMap::from(expected));
    let arrived = topology.arrivals().take();
    assert_eq!(arrived.len(), ALLOWED, "each request arrives once");
    assert_eq!(
        decided(&topology.ingress.envoy, "ingress").await,
        counts(&[("allow shop", ALLOWED), ("deny default", DENIED)])
    );
    assert_eq!(
        decided(&topology.sidecar(&SHOP).envoy, "inbound").await,
        counts(&[("allow default", ALLOWED)])
    );

    let outbound = topology.sidecar(&ORDERS).outbound.v4;
    let leaving = burst(outbound, "api.partner.example", "tracker.example").await;
    let expected = [
        (("api.partner.example".to_owned(), 200), ALLOWED),
        (("tracker.example".to_owned(), 403), DENIED),
    ];
    assert_eq!(leaving, BTreeMap::from(expected));
    assert_eq!(topology.arrivals().take().len(), ALLOWED);
    assert_eq!(
        decided(&topology.sidecar(&ORDERS).envoy, "outbound").await,
        counts(&[("allow default", ALL)])
    );
    assert_eq!(
        decided(&topology.egress.envoy, "egress").await,
        counts(&[("allow partner", ALLOWED), ("deny default", DENIED)])
    );
    topology.stop().await.unwrap();
}
