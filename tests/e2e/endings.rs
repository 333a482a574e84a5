//! Every way in which a request can end: decided on once, ended once, on real Envoy.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use meridian::lab::config::stats::stats_config;
use meridian::lab::config::wasm::Filters;
use meridian::lab::envoy::{Envoy, EnvoyOptions, RunFolder};
use meridian::lab::prometheus::Samples;
use meridian::policy::PolicyFile;
use meridian::{lab::modules, lab::paths};
use meridian_metrics::{DURATION, REQUESTS, RESPONSES};
use meridian_policy::Vantage;
use meridian_tests::raw::{Answer, Connection, Peer, connect, http1};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const DEADLINE: Duration = Duration::from_secs(20);

const POLICY: &str = r#"{
    "metrics": {"responses": true, "durations": true},
    "hosts": {"ingress": {"default": "deny", "rules": [
        {"name": "ours", "hosts": ["*.example.com"], "action": "allow"}]}}}"#;

/// A request, what the client sees, and what is counted: decisions by rule, and ends by direction and
/// class.
struct Case {
    name: &'static str,
    request: &'static str,
    /// `None` where the client goes away or gets no response.
    status: Option<u16>,
    decided: &'static [(&'static str, f64)],
    ended: &'static [(&'static str, &'static str, f64)],
}

const OURS: &[(&str, f64)] = &[("ours", 1.0)];

const CASES: [Case; 12] = [
    Case {
        name: "allowed",
        request: "GET /ok HTTP/1.1\r\nhost: a.example.com\r\n\r\n",
        status: Some(200),
        decided: OURS,
        ended: &[("north-south", "2xx", 1.0)],
    },
    Case {
        name: "refused",
        request: "GET /ok HTTP/1.1\r\nhost: other.example\r\n\r\n",
        status: Some(403),
        decided: &[("default", 1.0)],
        ended: &[("north-south", "4xx", 1.0)],
    },
    Case {
        name: "an invalid host",
        request: "GET /ok HTTP/1.1\r\nhost: a..example.com\r\n\r\n",
        status: Some(400),
        decided: &[("invalid-host", 1.0)],
        ended: &[("north-south", "4xx", 1.0)],
    },
    // The filter never decides, but Envoy tells it of the end: nobody knows the direction.
    Case {
        name: "refused by an earlier filter",
        request: "GET /ok HTTP/1.1\r\nhost: a.example.com\r\nx-earlier: 1\r\n\r\n",
        status: Some(403),
        decided: &[],
        ended: &[("unknown", "4xx", 1.0)],
    },
    Case {
        name: "refused by a later filter",
        request: "GET /ok HTTP/1.1\r\nhost: a.example.com\r\nx-later: 1\r\n\r\n",
        status: Some(403),
        decided: OURS,
        ended: &[("north-south", "4xx", 1.0)],
    },
    Case {
        name: "no route",
        request: "GET /nowhere HTTP/1.1\r\nhost: a.example.com\r\n\r\n",
        status: Some(404),
        decided: OURS,
        ended: &[("north-south", "4xx", 1.0)],
    },
    Case {
        name: "an upstream that gives up",
        request: "GET /close HTTP/1.1\r\nhost: a.example.com\r\n\r\n",
        status: Some(503),
        decided: OURS,
        ended: &[("north-south", "5xx", 1.0)],
    },
    Case {
        name: "a timeout",
        request: "GET /hang HTTP/1.1\r\nhost: a.example.com\r\n\r\n",
        status: Some(504),
        decided: OURS,
        ended: &[("north-south", "5xx", 1.0)],
    },
    Case {
        name: "a client that goes away",
        request: "GET /wait HTTP/1.1\r\nhost: a.example.com\r\n\r\n",
        status: None,
        decided: OURS,
        ended: &[("north-south", "none", 1.0)],
    },
    // The router's own: no filter sees it.
    Case {
        name: "a retry",
        request: "GET /flaky HTTP/1.1\r\nhost: a.example.com\r\n\r\n",
        status: Some(200),
        decided: OURS,
        ended: &[("north-south", "2xx", 1.0)],
    },
    // Another request for the policy, which may be for another host: decided on by itself. Envoy
    // tells the filter of the end of both.
    Case {
        name: "an internal redirect",
        request: "GET /redirect HTTP/1.1\r\nhost: a.example.com\r\n\r\n",
        status: Some(403),
        decided: &[("ours", 1.0), ("default", 1.0)],
        ended: &[("north-south", "3xx", 1.0), ("north-south", "4xx", 1.0)],
    },
    Case {
        name: "an upgrade",
        request: "GET /upgrade HTTP/1.1\r\nhost: a.example.com\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        status: Some(101),
        decided: OURS,
        ended: &[("north-south", "1xx", 1.0)],
    },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_is_counted_once_however_it_ends() -> anyhow::Result<()> {
    let binary = tokio::task::spawn_blocking(|| {
        modules::build()?;
        meridian::lab::envoy::obtain(None)
    })
    .await??;
    let run = RunFolder::create("endings")?;
    let waiting = Arc::new(AtomicUsize::new(0));
    let upstream = upstream(Arc::clone(&waiting)).await?;
    let options = EnvoyOptions {
        concurrency: 2,
        ..EnvoyOptions::default()
    };
    let envoy = Envoy::start(&binary, &run, "endings", &bootstrap(upstream)?, &options).await?;
    let server = envoy.listener_address("http").await?;
    let mut ended = 0.0;
    for case in &CASES {
        let before = scrape(&envoy).await?;
        let peer = Peer::Tcp {
            server,
            source: Ipv4Addr::new(127, 9, 0, 1).into(),
        };
        let mut connection = connect(&peer).await?;
        let status = send_case(&mut connection, case, &waiting).await?;
        assert_eq!(status, case.status, "{}", case.name);
        drop(connection);
        let expected: f64 = case.ended.iter().map(|(_, _, count)| count).sum();
        let since = until_ended(&envoy, &before, expected)
            .await
            .with_context(|| case.name)?;
        ended += expected;
        for (rule, count) in case.decided {
            assert_eq!(
                since.value(REQUESTS.name, &[("rule", rule)]),
                *count,
                "{}: {rule}",
                case.name
            );
        }
        let decided: f64 = case.decided.iter().map(|(_, count)| count).sum();
        assert_eq!(since.value(REQUESTS.name, &[]), decided, "{}", case.name);
        for (direction, class, count) in case.ended {
            let labels = [("direction", *direction), ("response_code_class", *class)];
            assert_eq!(
                since.value(RESPONSES.name, &labels),
                *count,
                "{}: {labels:?}",
                case.name
            );
        }
    }
    // Envoy shows what a histogram got when it flushes, every 5 s.
    let count = format!("{}_count", DURATION.name);
    let deadline = Instant::now() + DEADLINE;
    while scrape(&envoy).await?.value(&count, &[]) != ended {
        ensure!(
            Instant::now() < deadline,
            "not {ended} durations were observed"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The one that timed out took its 200 ms.
    let samples = scrape(&envoy).await?;
    let sum = samples.value(&format!("{}_sum", DURATION.name), &[]);
    ensure!(sum >= 150.0, "all of them took {sum} ms");
    envoy.stop().await
}

/// Sends the request of a case; gives the status, if there is a response.
async fn send_case(
    connection: &mut Connection,
    case: &Case,
    waiting: &AtomicUsize,
) -> anyhow::Result<Option<u16>> {
    if case.status.is_none() {
        let before = waiting.load(Ordering::SeqCst);
        connection.stream.write_all(case.request.as_bytes()).await?;
        let deadline = Instant::now() + DEADLINE;
        // Until the upstream has it, so that it is under way when the client goes.
        while waiting.load(Ordering::SeqCst) == before {
            ensure!(Instant::now() < deadline, "it did not arrive");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        return Ok(None);
    }
    let stream = &mut *connection.stream;
    match http1::exchange(stream, case.request.as_bytes(), DEADLINE).await? {
        Answer::Response(response) => Ok(Some(response.status)),
        Answer::Reset(_) => Ok(None),
    }
}

/// What has been counted since `before`, once so many requests have ended.
async fn until_ended(envoy: &Envoy, before: &Samples, expected: f64) -> anyhow::Result<Samples> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let since = scrape(envoy).await?.since(before);
        let ended = since.value(RESPONSES.name, &[]);
        if ended == expected {
            return Ok(since);
        }
        ensure!(
            ended < expected && Instant::now() < deadline,
            "{ended} ended, not {expected}"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn scrape(envoy: &Envoy) -> anyhow::Result<Samples> {
    Samples::parse(&envoy.scrape().await?)
}

/// An upstream that answers by the path.
async fn upstream(waiting: Arc<AtomicUsize>) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let tries = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tries, waiting) = (Arc::clone(&tries), Arc::clone(&waiting));
            // Its end is the client's: Envoy sees the connection closed.
            tokio::spawn(async move { respond_by_path(stream, &tries, &waiting).await });
        }
    });
    Ok(address)
}

/// Speaks HTTP/1 by hand: a server library would not hang or close as the paths ask it to.
async fn respond_by_path(
    mut stream: TcpStream,
    tries: &AtomicUsize,
    waiting: &AtomicUsize,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    loop {
        let byte = stream.read_u8().await?;
        head.push(byte);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let text = String::from_utf8_lossy(&head).into_owned();
        head.clear();
        let path = text.split(' ').nth(1).unwrap_or_default();
        let response = match path {
            "/close" => return Ok(()),
            "/wait" | "/hang" => {
                waiting.fetch_add(1, Ordering::SeqCst);
                // Until Envoy gives up.
                stream.read_u8().await?;
                return Ok(());
            }
            "/flaky" if tries.fetch_add(1, Ordering::SeqCst) == 0 => {
                "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"
            }
            "/redirect" => {
                "HTTP/1.1 302 Found\r\nlocation: http://other.example/ok\r\ncontent-length: 0\r\n\r\n"
            }
            "/upgrade" => {
                "HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
            }
            _ => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        };
        stream.write_all(response.as_bytes()).await?;
    }
}

/// Refuses requests that have a header.
fn refuser(header: &str) -> Value {
    json!({
        "name": "envoy.filters.http.rbac",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": {"action": "DENY", "policies": {"refused": {
                "permissions": [{"header": {"name": header, "present_match": true}}],
                "principals": [{"any": true}],
            }}},
        },
    })
}

fn bootstrap(upstream: SocketAddr) -> anyhow::Result<Value> {
    let route = |path: &str, extra: Value| {
        let mut action = json!({"cluster": "upstream", "timeout": "10s"});
        for (key, value) in extra.as_object().into_iter().flatten() {
            action[key] = value.clone();
        }
        json!({"match": {"path": path}, "route": action})
    };
    let routes = json!([
        route("/ok", json!({})),
        route("/close", json!({})),
        route("/wait", json!({})),
        route("/hang", json!({"timeout": "0.2s"})),
        route(
            "/flaky",
            json!({"retry_policy": {"retry_on": "5xx", "num_retries": 2}})
        ),
        route(
            "/redirect",
            json!({"internal_redirect_policy": {"max_internal_redirects": 2, "allow_cross_scheme_redirect": true}})
        ),
        route("/upgrade", json!({})),
    ]);
    let policy = PolicyFile::parse(POLICY.as_bytes())?;
    let filters = Filters::new(paths::modules_dir()?, &policy);
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "http",
        "use_remote_address": true,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "http_filters": [
            refuser("x-earlier"),
            filters.http_filter(Vantage::Ingress),
            refuser("x-later"),
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            },
        ],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
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
                "name": "upstream",
                "load_assignment": {"cluster_name": "upstream", "endpoints": [{"lb_endpoints": [{
                    "endpoint": {"address": {"socket_address": {
                        "address": upstream.ip().to_string(), "port_value": upstream.port(),
                    }}},
                }]}]},
            }],
        },
    }))
}
