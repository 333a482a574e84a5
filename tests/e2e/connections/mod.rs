//! TLS passthrough and plain TCP through both gateways: real ClientHellos to a real TLS server.

mod ends;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use meridian::lab::config::access_log::AccessLog;
use meridian::lab::config::cluster::Upstream;
use meridian::lab::config::egress::Egress;
use meridian::lab::config::ingress::Ingress;
use meridian::lab::config::listener::PeerAuthentication;
use meridian::lab::config::passthrough::Passthrough;
use meridian::lab::config::routes::Route;
use meridian::lab::config::wasm::Filters;
use meridian::lab::config::{Address, Proxy};
use meridian::lab::envoy::{Envoy, EnvoyOptions, RunFolder, Version, validate};
use meridian::lab::prometheus::Samples;
use meridian::lab::topology::{Arrivals, Call, Certificates, Server, Tls};
use meridian::policy::PolicyFile;
use meridian_policy::{Action, Vantage};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use meridian_vectors::DEFAULT_SOURCE;
use meridian_vectors::connections::{Connection, Connections, GATEWAY, Wire};

const DEADLINE: Duration = Duration::from_secs(10);
/// The ClientHello of a real TLS client, with `sni` in place of a name of the same length.
fn client_hello(sni: Option<&[u8]>) -> Vec<u8> {
    let length = sni.map_or(8, <[u8]>::len);
    let placeholder: String = (0..length)
        .map(|index| {
            if index % 8 == 7 && index + 1 < length {
                '.'
            } else {
                'q'
            }
        })
        .collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.enable_sni = sni.is_some();
    let name = ServerName::try_from(placeholder.clone()).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    if let Some(sni) = sni {
        let found = |window: &[u8]| window == placeholder.as_bytes();
        let at = hello.windows(length).position(found).unwrap();
        hello[at..at + length].copy_from_slice(sni);
    }
    hello
}

/// The same handshake message in several TLS records.
fn in_records(hello: &[u8], size: usize) -> Vec<u8> {
    let (header, message) = hello.split_at(5);
    message
        .chunks(size)
        .flat_map(|chunk| {
            let length = u16::try_from(chunk.len()).unwrap().to_be_bytes();
            [&header[..3], &length, chunk].concat()
        })
        .collect()
}

/// True if anything comes back: the upstream has seen the connection. False if it is closed.
async fn is_answered(source: IpAddr, target: SocketAddr, sni: Option<&[u8]>, wire: &Wire) -> bool {
    let (bytes, piece) = match wire {
        Wire::Tls => (client_hello(sni), usize::MAX),
        Wire::Sni { sni, .. } => (client_hello(Some(&sni.0)), usize::MAX),
        Wire::Pieces { pieces } => (in_records(&client_hello(sni), 2 * pieces), *pieces),
        Wire::Bytes { bytes } => (bytes.0.clone(), usize::MAX),
    };
    let exchange = async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(source, 0)).unwrap();
        let mut stream = socket.connect(target).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for piece in bytes.chunks(piece) {
            if stream.write_all(piece).await.is_err() {
                return false;
            }
        }
        // A refusal is an end of the stream or a reset.
        matches!(stream.read(&mut [0; 1]).await, Ok(1))
    };
    let answered = tokio::time::timeout(DEADLINE, exchange).await;
    answered.expect("neither an answer nor an end")
}

/// A gateway whose passthrough listener is everywhere on the loopback network, so that clients
/// can dial addresses that are not its own, as behind a redirect.
struct Gateway {
    run: RunFolder,
    binary: PathBuf,
    version: Version,
    certificates: Certificates,
    upstream: Server,
    modules: PathBuf,
}

impl Gateway {
    async fn new(name: &str) -> Self {
        let (binary, modules) = tokio::task::spawn_blocking(|| {
            meridian::lab::modules::build().unwrap();
            let modules = meridian::lab::paths::modules_dir().unwrap();
            (meridian::lab::envoy::obtain(None).unwrap(), modules)
        })
        .await
        .unwrap();
        let run = RunFolder::create(name).unwrap();
        let certificates = Certificates::create(run.path().join("certificates")).unwrap();
        let identity = certificates.server().unwrap();
        let upstream = Server::start_tls(
            "upstream",
            Ipv4Addr::LOCALHOST,
            &identity,
            Arrivals::default(),
        )
        .await
        .unwrap();
        Self {
            run,
            version: Version::of(&binary).unwrap(),
            binary,
            certificates,
            upstream,
            modules,
        }
    }

    fn access_log(&self, vantage: Vantage) -> PathBuf {
        self.run.path().join(format!("{vantage}.access.log"))
    }

    fn bootstrap(&self, vantage: Vantage, policy: &Value) -> Value {
        self.bootstrap_to(vantage, policy, Some(self.upstream.address()), true)
    }

    /// The bootstrap whose passthrough leads to `endpoint`, or wherever the server name leads.
    fn bootstrap_to(
        &self,
        vantage: Vantage,
        policy: &Value,
        endpoint: Option<SocketAddr>,
        plain_tcp: bool,
    ) -> Value {
        let everywhere = || vec![Address::Socket((Ipv4Addr::UNSPECIFIED, 0).into())];
        let nowhere = || vec![Address::Socket((Ipv4Addr::LOCALHOST, 0).into())];
        let route = || {
            let upstream = Upstream {
                cluster: "upstream".to_owned(),
                endpoint: Some(self.upstream.address().into()),
                principal: None,
            };
            Route::new("*", upstream)
        };
        let passed = Upstream {
            cluster: "passed".to_owned(),
            endpoint: endpoint.map(Address::Socket),
            principal: None,
        };
        let passthrough = Passthrough {
            addresses: everywhere(),
            routes: vec![Route::new("*", passed)],
            plain_tcp,
            inside: Vec::new(),
        };
        let policy = PolicyFile::parse(policy.to_string().as_bytes()).unwrap();
        let name = vantage.as_str();
        let principal = format!("cluster.local/ns/istio-system/sa/{name}");
        let proxy = Proxy {
            envoy: self.version,
            name: name.to_owned(),
            namespace: "istio-system".to_owned(),
            identity: self
                .certificates
                .write_identity(name, &principal, None)
                .unwrap(),
            filters: Some(Filters::new(self.modules.clone(), &policy)),
            access_log: AccessLog::File(self.access_log(vantage)),
            admin: None,
            addresses: vec![GATEWAY.into()],
            metrics: None,
            bind: None,
        };
        match vantage {
            Vantage::Ingress => Ingress {
                http: nowhere(),
                https: nowhere(),
                public: self.certificates.write_public().unwrap(),
                routes: vec![route()],
                passthrough,
            }
            .to_config(&proxy),
            _ => Egress {
                inside: Vec::new(),
                mesh: nowhere(),
                authentication: PeerAuthentication::Permissive,
                routes: vec![route()],
                passthrough,
            }
            .to_config(&proxy),
        }
    }

    async fn start(&self, vantage: Vantage, bootstrap: &Value) -> (Envoy, u16) {
        let options = EnvoyOptions::default();
        let name = vantage.as_str();
        let envoy = Envoy::start(&self.binary, &self.run, name, bootstrap, &options)
            .await
            .unwrap();
        let address = envoy.listener_address("tls-passthrough").await.unwrap();
        (envoy, address.port())
    }
}

async fn scrape(envoy: &Envoy) -> Samples {
    Samples::parse(&envoy.scrape().await.unwrap()).unwrap()
}

/// The labels of every sample of `metric` that has a value, with that.
fn counted(samples: &Samples, metric: &str) -> BTreeMap<String, f64> {
    let counted = samples
        .find(metric, &[])
        .filter(|sample| sample.value > 0.0);
    counted
        .map(|sample| {
            let labels = ["reporter", "direction", "decision", "rule"]
                .map(|label| sample.labels.get(label).cloned().unwrap_or_default());
            (labels.join(" "), sample.value)
        })
        .collect()
}

fn once(labels: &str) -> BTreeMap<String, f64> {
    BTreeMap::from([(labels.to_owned(), 1.0)])
}

async fn every_case_at(vantage: Vantage) {
    let gateway = Gateway::new(&format!("test-connections-{vantage}")).await;
    let port = free_port();
    let Connections {
        document, cases, ..
    } = Connections::with_port(port);
    let policy = serde_json::to_value(&document).unwrap();
    let mut bootstrap = gateway.bootstrap(vantage, &policy);
    passthrough(&mut bootstrap)["address"]["socket_address"]["port_value"] = json!(port);
    let (envoy, bound) = gateway.start(vantage, &bootstrap).await;
    assert_eq!(bound, port);
    for case in &cases {
        let before = scrape(&envoy).await;
        let target = SocketAddr::from((case.destination.unwrap_or(GATEWAY), port));
        let sni = case.sni.as_ref().map(|sni| sni.0.as_slice());
        let answered = is_answered(case.source, target, sni, &case.wire).await;
        let since = scrape(&envoy).await.since(&before);
        if !is_asked(gateway.version, &case.wire) {
            assert_closed_by_envoy(&case.name, answered, &since);
            continue;
        }
        let (direction, _) = case.direction(vantage);
        let (name, expect) = (&case.name, &case.expect);
        assert_eq!(answered, expect.decision == Action::Allow, "{name}");
        assert_eq!(
            counted(&since, "meridian_connections_total"),
            once(&format!(
                "{vantage} {direction} {} {}",
                expect.decision, expect.rule
            )),
            "{name}"
        );
        let dry_run = match expect.dry_run() {
            Some(_) => once(&format!("{vantage} {direction} deny trial")),
            None => BTreeMap::new(),
        };
        assert_eq!(counted(&since, "meridian_dry_run_total"), dry_run, "{name}");
        assert!(
            counted(&since, "meridian_requests_total").is_empty(),
            "{name}"
        );
        // Envoy's own count: of a refused connection the upstream never hears.
        let upstream = since.value("envoy_cluster_upstream_cx_total", &[]);
        assert_eq!(upstream, f64::from(u8::from(answered)), "{name}");
    }

    // A whole exchange over TLS that only its two ends can read.
    let tls = Tls::new(&gateway.certificates, Some("api.partner.example"), None).unwrap();
    let call = Call::new(SocketAddr::from((GATEWAY, port)), "anything.example").tls(tls);
    assert_eq!(call.clone().send().await.unwrap().status, 200);
    assert_eq!(call.http2().send().await.unwrap().status, 200);

    envoy.stop().await.unwrap();
    let log = std::fs::read_to_string(gateway.access_log(vantage)).unwrap();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let logged: Vec<&Connection> = cases
        .iter()
        .filter(|case| is_asked(gateway.version, &case.wire))
        .collect();
    assert_eq!(lines.len(), logged.len() + 2, "{log}");
    for (case, line) in logged.into_iter().zip(&lines) {
        compare_line(vantage, case, line);
    }
    meridian_tests::announce(&format!("{vantage}: {} connections", cases.len()));
}

/// True if an Envoy of this version asks the filter about such a connection.
fn is_asked(envoy: Version, wire: &Wire) -> bool {
    match wire {
        Wire::Sni {
            asked_since: Some(since),
            ..
        } => envoy >= since.parse().unwrap(),
        _ => true,
    }
}

/// The TLS inspector has closed it: no filter, log or upstream has heard of it.
fn assert_closed_by_envoy(name: &str, answered: bool, since: &Samples) {
    assert!(!answered, "{name}");
    for metric in [
        "meridian_connections_total",
        "meridian_dry_run_total",
        "meridian_requests_total",
    ] {
        assert!(counted(since, metric).is_empty(), "{name}");
    }
    let upstream = since.value("envoy_cluster_upstream_cx_total", &[]);
    assert_eq!(upstream, 0.0, "{name}");
}

/// What the access log says of a case.
fn compare_line(vantage: Vantage, case: &Connection, line: &Value) {
    let expect = &case.expect;
    let (direction, evidence) = case.direction(vantage);
    let details = match (expect.decision, expect.rule.as_str()) {
        (Action::Allow, _) => Value::Null,
        (_, "invalid-host") => json!("meridian_invalid_host"),
        (_, rule) => json!(format!("meridian_deny{{{rule}}}")),
    };
    let mut fields = vec![
        ("reporter", json!(vantage.as_str())),
        ("decision", json!(expect.decision.as_str())),
        ("rule", json!(expect.rule)),
        ("direction", json!(direction.as_str())),
        ("evidence", json!(evidence.as_str())),
        ("dry_run", json!(expect.dry_run())),
        ("details", details),
    ];
    if let Some(host) = &expect.host {
        fields.push(("host", json!(host)));
    }
    for (field, expected) in fields {
        assert_eq!(line[field], expected, "{}: {field}: {line}", case.name);
    }
}

/// A port that nothing listens on; it has to stand in the policy before Envoy chooses one.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// The passthrough listener.
fn passthrough(bootstrap: &mut Value) -> &mut Value {
    let listeners = bootstrap["static_resources"]["listeners"].as_array_mut();
    let mut listeners = listeners.unwrap().iter_mut();
    listeners
        .find(|listener| listener["name"] == "tls-passthrough")
        .unwrap()
}

#[tokio::test]
async fn every_connection_through_the_egress_gateway_is_as_the_policy_says() {
    every_case_at(Vantage::Egress).await;
}

#[tokio::test]
async fn every_connection_through_the_ingress_gateway_is_as_the_policy_says() {
    every_case_at(Vantage::Ingress).await;
}

/// Calls `change` with every string of `value`.
fn each_string(value: &mut Value, change: &dyn Fn(&mut String)) {
    match value {
        Value::String(text) => change(text),
        Value::Array(items) => items.iter_mut().for_each(|item| each_string(item, change)),
        Value::Object(fields) => fields
            .values_mut()
            .for_each(|field| each_string(field, change)),
        _ => {}
    }
}

/// What an operator gets wrong must not open the door.
#[tokio::test]
async fn a_misconfigured_network_filter_lets_nothing_pass() {
    let gateway = Gateway::new("test-connections-wrong").await;
    let open = json!({"hosts": {"egress": {"default": "allow"}}});
    let bootstrap = gateway.bootstrap(Vantage::Egress, &open);
    let changed = |root_id: &str, module: &str| {
        let mut bootstrap = bootstrap.clone();
        // The HTTP filter stays as it is.
        let chains = &mut bootstrap["static_resources"]["listeners"][1]["filter_chains"];
        each_string(chains, &|text| {
            if text == "egress.tcp" {
                *text = root_id.to_owned();
            }
            if text == "meridian.egress.tcp" {
                *text = "meridian.wrong".to_owned();
            }
            *text = text.replace("meridian_egress_lean.wasm", module);
        });
        bootstrap
    };
    for (root_id, module) in [
        ("ingress.tcp", "meridian_egress.wasm"),
        ("inbound.tcp", "meridian_sidecar.wasm"),
        (".tcp", "meridian_egress.wasm"),
    ] {
        let error = validate(&gateway.binary, &changed(root_id, module))
            .await
            .unwrap_err();
        assert!(
            format!("{error:#}").contains("asks for a network filter"),
            "{error:#}"
        );
    }
    for (root_id, module, told) in [
        (
            "egress",
            "meridian_egress.wasm",
            "the root id egress is that of an HTTP filter, and this is a network filter: every connection is closed; write egress.tcp",
        ),
        (
            "outbound",
            "meridian_sidecar.wasm",
            "a module for sidecars is an HTTP filter, and this is a network filter: every connection is closed; remove it",
        ),
    ] {
        let (envoy, port) = gateway
            .start(Vantage::Egress, &changed(root_id, module))
            .await;
        let target = SocketAddr::from((GATEWAY, port));
        for _ in 0..3 {
            let sni = Some(&b"api.partner.example"[..]);
            let answered = is_answered(DEFAULT_SOURCE, target, sni, &Wire::Tls).await;
            assert!(!answered, "{root_id}");
        }
        let samples = scrape(&envoy).await;
        assert_eq!(
            samples.value("envoy_cluster_upstream_cx_total", &[]),
            0.0,
            "{root_id}"
        );
        // Once by each worker that had one of them.
        let log = envoy.log().unwrap();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(told)).collect();
        assert!((1..=3).contains(&lines.len()), "{lines:?}");
        assert!(
            lines.iter().all(|line| line.contains("[error]")),
            "{lines:?}"
        );
        envoy.stop().await.unwrap();
    }
}
