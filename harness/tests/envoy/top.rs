//! `meridian top` over a real topology: what it shows is what was sent.

use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use meridian::lab::config::wasm::Filters;
use meridian::lab::topology::roles::{ORDERS, OUTSIDE_CLIENT, SHOP};
use meridian::lab::topology::{Call, Topology, TopologyOptions};
use meridian::policy::PolicyFile;
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::tcgetattr;
use nix::unistd::Pid;
use serde_json::{Value, json};

async fn start() -> Topology {
    let parts = tokio::task::spawn_blocking(|| {
        meridian::lab::modules::build().unwrap();
        let modules = meridian::lab::paths::modules_dir().unwrap();
        (meridian::lab::envoy::obtain(None).unwrap(), modules)
    });
    let (envoy, modules) = parts.await.unwrap();
    let options = TopologyOptions {
        live: false,
        run: "test-top".to_owned(),
        envoy,
        filters: Some(Filters::new(modules, &PolicyFile::load(None).unwrap())),
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
    assert_eq!(output.status.code(), Some(1), "one is dead: {output:?}");
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
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("north-south out outbound        3"), "{text}");
    let line = text.lines().find(|line| line.contains(&dead)).unwrap();
    assert!(line.contains("NO ANSWER: "), "{line}");
    let living = &arguments[..arguments.len() - 2];
    let output = top(&[living, &["--once"]].concat()).await;
    assert!(output.status.success(), "all are well: {output:?}");
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

/// A proxy of which only the metrics are there. It ends with the test's process.
fn proxy() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let metrics = "meridian_requests_total{reporter=\"ingress\",direction=\"north-south\",decision=\"allow\"} 4242\n";
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            // One read holds a request that small.
            if stream.read(&mut request).is_ok() {
                let length = metrics.len();
                let answer =
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{metrics}");
                drop(stream.write_all(answer.as_bytes()));
            }
        }
    });
    address
}

#[test]
fn the_terminal_is_given_back_however_it_ends() {
    /// What a terminal is told to leave the alternate screen.
    const LEAVE: &str = "\x1b[?1049l";
    const PATIENCE: Duration = Duration::from_secs(20);
    let address = proxy();
    for end in ["q", "\x1b", "\x03", "SIGINT", "SIGTERM", "SIGHUP"] {
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let terminal = openpty(Some(&size), None).unwrap();
        let before = tcgetattr(&terminal.slave).unwrap();
        let slave = || Stdio::from(terminal.slave.try_clone().unwrap());
        let mut top = Command::new(env!("CARGO_BIN_EXE_meridian"))
            .args(["top", &address])
            .env("TERM", "xterm")
            .stdin(slave())
            .stdout(slave())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut master = std::fs::File::from(terminal.master.try_clone().unwrap());
        let (sender, drawn) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = master.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
                if sender.send(text).is_err() {
                    break;
                }
            }
        });
        let mut screen = String::new();
        while !screen.contains("4242") {
            screen += &drawn.recv_timeout(PATIENCE).expect("the view");
        }
        assert_ne!(tcgetattr(&terminal.slave).unwrap(), before, "raw mode");
        assert!(!screen.contains(LEAVE));
        match end.parse::<Signal>() {
            Ok(signal) => kill(Pid::from_raw(top.id() as i32), signal).unwrap(),
            Err(_) => {
                let mut keys = std::fs::File::from(terminal.master.try_clone().unwrap());
                keys.write_all(end.as_bytes()).unwrap();
            }
        }
        while !screen.contains(LEAVE) {
            screen += &drawn.recv_timeout(PATIENCE).expect("the end of the view");
        }
        assert!(top.wait().unwrap().success(), "{end:?}");
        assert_eq!(tcgetattr(&terminal.slave).unwrap(), before, "{end:?}");
        // With the last end of the terminal its reader ends.
        drop(terminal);
        drop(drawn);
        reader.join().unwrap();
    }
}

/// A server that answers everything with this, as often as it is asked.
async fn serve(head: &'static str, body: String) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let response = format!(
                "HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                // A reader that has had enough goes away.
                let _ = stream.write_all(response.as_bytes()).await;
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_takes_long_to_read_does_not_hold_it_up() {
    let mut lines = String::new();
    for rule in 0.. {
        let line = format!("meridian_requests_total{{reporter=\"ingress\",rule=\"{rule}\"}} 1\n");
        if lines.len() + line.len() > 16 << 20 {
            break;
        }
        lines.push_str(&line);
    }
    let (_guard, dead) = nobody();
    let laborious = serve("200 OK", lines).await;
    let start = std::time::Instant::now();
    // It is read in time or not, as the machine is fast, and then given up for good.
    top(&[&dead, &laborious, "--json"]).await;
    let took = start.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
}

/// A server whose answer never ends, a byte at a time.
async fn drip() -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let mut part: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n";
                while stream.write_all(part).await.is_ok() {
                    part = b"#";
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            });
        }
    });
    address
}

/// The rows of the proxies, in the order of their addresses.
async fn proxies(addresses: &[&str]) -> Vec<Value> {
    let output = top(&[addresses, &["--json"]].concat()).await;
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    let proxies = seen["proxies"].as_array().unwrap();
    let is_well = proxies.iter().all(|proxy| proxy["error"].is_null());
    assert_eq!(output.status.success(), is_well, "{output:?}");
    seen["proxies"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_proxy_with_a_filter_is_told_apart() {
    let topology = start().await;
    let good = topology.ingress.envoy.admin().to_string();
    let run = meridian::lab::envoy::RunFolder::create("test-top").unwrap();
    let binary = tokio::task::spawn_blocking(|| meridian::lab::envoy::obtain(None).unwrap());
    let binary = binary.await.unwrap();
    let text = std::fs::read_to_string(topology.run_folder().join("ingress.json")).unwrap();
    let mut bootstrap: Value = serde_json::from_str(&text).unwrap();
    let listeners = &mut bootstrap["static_resources"]["listeners"];
    for listener in listeners.as_array_mut().unwrap() {
        listener["address"]["socket_address"]["port_value"] = json!(0);
        listener
            .as_object_mut()
            .unwrap()
            .remove("additional_addresses");
    }
    // One that has not been told what labels are, and one without a filter.
    let mut unlabelled = bootstrap.clone();
    unlabelled.as_object_mut().unwrap().remove("stats_config");
    let mut unfiltered = bootstrap;
    unfiltered["static_resources"] = json!({});
    let options = meridian::lab::envoy::EnvoyOptions::default();
    let envoy = async |name: &str, bootstrap: &Value| {
        meridian::lab::envoy::Envoy::start(&binary, &run, name, bootstrap, &options)
            .await
            .unwrap()
    };
    let unlabelled = envoy("unlabelled", &unlabelled).await;
    let unfiltered = envoy("unfiltered", &unfiltered).await;
    let nginx = topology.nginx.as_ref().map(|nginx| nginx.address());

    let page = serve("200 OK", "<html>Welcome</html>".to_owned()).await;
    let empty = serve("200 OK", String::new()).await;
    let moved = serve("302 Found\r\nLocation: /login", String::new()).await;
    let line = "meridian_policy_revision{reporter=\"ingress\"} 1\n";
    let twice = serve("200 OK", line.repeat(2)).await;
    let long = format!("meridian_x{{reporter=\"{}", "a".repeat(1 << 20));
    let broken = serve("200 OK", long).await;
    let large = serve("200 OK", line.repeat(400_000)).await;
    let slow = drip().await;
    let open_metrics = concat!(
        "# TYPE meridian_requests counter\n",
        "meridian_requests_total{reporter=\"ingress\",direction=\"north-south\",",
        "component_type=\"system\",decision=\"allow\",rule=\"a\"} 3 1765.25 # {trace_id=\"1\"} 1 1765.2\n",
        "{\"meridian_policy_revision\",\"reporter\"=\"ingress\"} 1\n",
        "{\"other.utf8\",\"a.b\"=\"c\"} 1\n",
        "# EOF\n",
    );
    let open_metrics = serve("200 OK", open_metrics.to_owned()).await;

    let unlabelled = unlabelled.admin().to_string();
    let unfiltered = unfiltered.admin().to_string();
    let mut expected = vec![
        (good, "", ""),
        (open_metrics, "", ""),
        (unlabelled, "NO LABELS", "stats_tags"),
        (unfiltered, "NO FILTER", "attach it"),
        (page, "NO PROXY", "is this the right port and path?"),
        (empty, "NO PROXY", "is this the right port and path?"),
        (moved, "BAD ANSWER", "302 Found"),
        (twice, "BAD ANSWER", "the series is there twice"),
        (broken, "BAD ANSWER", "line 1 of the metrics"),
        (large, "BAD ANSWER", "larger than 16 MB"),
        (slow, "NO ANSWER", "no answer in 1s"),
    ];
    expected.extend(nginx.map(|nginx| (nginx.to_string(), "NO PROXY", "right port")));
    let addresses: Vec<&str> = expected
        .iter()
        .map(|(address, ..)| address.as_str())
        .collect();
    let rows = proxies(&addresses).await;
    for ((address, problem, told), row) in expected.iter().zip(&rows) {
        assert_eq!(row["address"], **address);
        assert_eq!(row["problem"], *problem, "{row}");
        let error = row["error"].as_str().unwrap_or_default();
        assert!(error.contains(told), "{row}");
        assert!(error.len() < 400, "{} bytes of error", error.len());
    }
}
