//! The direction on the spans that Envoy sends, to a collector of Zipkin's API.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use meridian::lab::config::access_log::{Logged, SPAN_TAG};
use meridian::lab::config::stats::stats_config;
use meridian::lab::config::wasm::Filters;
use meridian::lab::envoy::{Envoy, EnvoyOptions, RunFolder, Version};
use meridian::policy::PolicyFile;
use meridian::{lab::modules, lab::paths};
use meridian_policy::Vantage;
use meridian_tests::raw::{Answer, Peer, connect, http1 as client};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

const DEADLINE: Duration = Duration::from_secs(20);
/// Envoy sends its spans when it has five.
const SPANS: usize = 5;

async fn envoy() -> anyhow::Result<PathBuf> {
    tokio::task::spawn_blocking(|| {
        modules::build()?;
        meridian::lab::envoy::obtain(None)
    })
    .await?
}

/// The direction's tag of five spans: four allowed requests and a refused one.
async fn directions(binary: &Path, filter_state: bool) -> anyhow::Result<Vec<(String, String)>> {
    let policy = json!({
        "tags": {"filterState": filter_state},
        "hosts": {"ingress": {"rules": [
            {"name": "shop", "hosts": ["shop.example.com"], "action": "allow"}]}},
    });
    let run = RunFolder::create("spans")?;
    let collector = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let policy = PolicyFile::parse(policy.to_string().as_bytes())?;
    let filters = Filters::new(paths::modules_dir()?, &policy);
    let bootstrap = bootstrap(Version::of(binary)?, &filters, collector.local_addr()?)?;
    let options = EnvoyOptions {
        concurrency: 1,
        ..EnvoyOptions::default()
    };
    let envoy = Envoy::start(binary, &run, "spans", &bootstrap, &options).await?;
    let server = envoy.listener_address("http").await?;
    let source = Ipv4Addr::new(127, 9, 0, 1).into();
    let mut connection = connect(&Peer::Tcp { server, source }).await?;
    for index in 0..SPANS {
        let host = if index == 0 { "other" } else { "shop" };
        let request = format!("GET / HTTP/1.1\r\nhost: {host}.example.com\r\n\r\n");
        let stream = &mut *connection.stream;
        let answer = client::exchange(stream, request.as_bytes(), DEADLINE).await?;
        anyhow::ensure!(matches!(answer, Answer::Response(_)), "{answer:?}");
    }
    let (stream, _) = tokio::time::timeout(DEADLINE, collector.accept()).await??;
    let spans = tokio::time::timeout(DEADLINE, read_spans(stream)).await??;
    envoy.stop().await?;
    let spans = spans.as_array().context("spans are a list")?;
    Ok(spans
        .iter()
        .map(|span| {
            let tag = |name: &str| span["tags"][name].as_str().unwrap_or("-").to_owned();
            (tag("http.status_code"), tag(SPAN_TAG))
        })
        .collect())
}

/// The spans of the first POST on a connection of Envoy's.
async fn read_spans(stream: TcpStream) -> anyhow::Result<Value> {
    let (send, mut receive) = tokio::sync::mpsc::channel(1);
    let service = service_fn(move |request: Request<Incoming>| {
        let send = send.clone();
        async move {
            let body = request.into_body().collect().await?.to_bytes();
            send.send(body).await?;
            let answer = Response::builder().status(202).body(String::new())?;
            anyhow::Ok(answer)
        }
    });
    let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let body = tokio::select! {
        body = receive.recv() => body.context("no body")?,
        ended = serving => {
            ended?;
            receive.recv().await.context("the connection ended without a body")?
        }
    };
    Ok(serde_json::from_slice(&body)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_carry_the_direction() -> anyhow::Result<()> {
    let binary = envoy().await?;
    // With the filter state a refused request has its direction too; the tag header it does not get.
    // A span of an Envoy before 1.37 cannot tell the filter state.
    let told = match Version::of(&binary)? < Version::new(1, 37) {
        true => "unknown",
        false => "north-south",
    };
    for (filter_state, refused) in [(true, told), (false, "unknown")] {
        let mut expected = vec![("403".to_owned(), refused.to_owned())];
        expected.resize(SPANS, ("200".to_owned(), "north-south".to_owned()));
        assert_eq!(directions(&binary, filter_state).await?, expected);
    }
    Ok(())
}

fn bootstrap(envoy: Version, filters: &Filters, collector: SocketAddr) -> anyhow::Result<Value> {
    let logged = Logged {
        proxy: "gateway",
        namespace: "default",
        tags: Some(filters.tags()),
        vantage: Some(Vantage::Ingress),
        listener: "http",
    };
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "http",
        "use_remote_address": true,
        "tracing": {
            "random_sampling": {"value": 100},
            "custom_tags": [logged.span_tag(envoy).context("no tag")?],
            "provider": {
                "name": "envoy.tracers.zipkin",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.config.trace.v3.ZipkinConfig",
                    "collector_cluster": "collector",
                    "collector_endpoint": "/api/v2/spans",
                    "collector_endpoint_version": "HTTP_JSON",
                },
            },
        },
        "http_filters": [
            filters.http_filter(Vantage::Ingress),
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            },
        ],
        "route_config": {"virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}],
        }]},
    });
    Ok(json!({
        "node": {"id": "gateway", "cluster": "gateway"},
        "stats_config": stats_config(),
        "static_resources": {
            "listeners": [{
                "name": "http",
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
                "filter_chains": [{"filters": [{
                    "name": "envoy.filters.network.http_connection_manager",
                    "typed_config": manager,
                }]}],
            }],
            "clusters": [{
                "name": "collector",
                "load_assignment": {"cluster_name": "collector", "endpoints": [{"lb_endpoints": [{
                    "endpoint": {"address": {"socket_address": {
                        "address": collector.ip().to_string(), "port_value": collector.port(),
                    }}},
                }]}]},
            }],
        },
    }))
}
