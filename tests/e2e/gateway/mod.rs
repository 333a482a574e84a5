//! An ingress gateway with a listener for each way to speak HTTP, an upstream behind it, and what
//! its counters and its access log say.

mod listeners;
mod upstream;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use meridian::lab::config::look_alikes::look_alike_filter;
use meridian::lab::config::wasm::Filters;
use meridian::lab::envoy::{Envoy, EnvoyOptions, RunFolder};
use meridian::lab::prometheus::Samples;
use meridian::policy::PolicyFile;
use meridian::{lab::modules, lab::paths};
use meridian_policy::Vantage;
use meridian_tests::raw::{self, Peer, Stream, tls};
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::certificates::Certificates;
use listeners::Surroundings;
pub(crate) use upstream::{GREETING, PAGE, SCRIPT, SCRIPT_RAN, Upstream};

/// The names in the gateway's one certificate.
pub(crate) const NAMES: [&str; 3] = ["shop.example.com", "api.example.com", "evil.test"];

/// Where every client of these tests connects from: outside the mesh.
const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 9, 0, 1));

/// Nothing here takes longer than this, unless it hangs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// The policy of tests that need none of their own: two hosts are allowed, one with one port alone.
pub(crate) const POLICY: &str = "
mesh: {cidrs: [127.1.0.0/16]}
hosts:
  ingress:
    default: deny
    rules:
    - {name: storefront, hosts: [shop.example.com, api.example.com], action: allow}
    - {name: database, hosts: ['db.example.com:5432'], action: allow}
    - {name: no-paste, hosts: [paste.example.com], action: deny}
";

/// Waits for `future`, but not for ever.
pub(crate) async fn soon<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(result) => result,
        Err(_) => anyhow::bail!("nothing came within {DEADLINE:?}"),
    }
}

/// One line of the access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Logged {
    /// `PROTOCOL METHOD AUTHORITY STATUS DETAILS`.
    pub(crate) line: String,
    /// The path, or `-`.
    pub(crate) path: String,
    /// The server name of the connection, or `-`.
    pub(crate) sni: String,
    /// The gRPC status, or `-`.
    pub(crate) grpc: String,
    /// The number that Envoy gave the connection.
    pub(crate) connection: u64,
}

/// The running gateway.
pub(crate) struct Gateway {
    envoy: Envoy,
    run: RunFolder,
    before: Samples,
    pub(crate) certificates: Certificates,
    /// Where requests go.
    pub(crate) upstream: Upstream,
    /// Where the gateway leads a CONNECT to `db.example.com` that it terminates itself.
    pub(crate) tunnel_end: Upstream,
}

impl Gateway {
    /// Starts a gateway with a policy in YAML.
    pub(crate) async fn start(name: &str, policy: &str) -> anyhow::Result<Self> {
        static ENVOY: OnceCell<PathBuf> = OnceCell::const_new();
        let binary = ENVOY
            .get_or_try_init(|| async {
                tokio::task::spawn_blocking(|| {
                    modules::build()?;
                    meridian::lab::envoy::obtain(None)
                })
                .await?
            })
            .await?;
        let run = RunFolder::create(name)?;
        let names = NAMES.map(str::to_owned).to_vec();
        let certificates = Certificates::create(run.path(), names, None)?;
        let upstream = Upstream::http().await?;
        let tunnel_end = Upstream::tunnel_end().await?;
        let policy = PolicyFile::parse(policy.as_bytes()).context("the policy")?;
        let filters = Filters::new(paths::modules_dir()?, &policy);
        let bootstrap = Surroundings {
            filters: vec![
                filters.http_filter(Vantage::Ingress),
                look_alike_filter(filters.tags()),
            ],
            certificates: &certificates,
            access_log: run.path().join("access.log"),
            upstream: upstream.address(),
            tunnel_end: tunnel_end.address(),
        }
        .bootstrap();
        let envoy = Envoy::start(binary, &run, name, &bootstrap, &EnvoyOptions::default()).await?;
        let before = scrape(&envoy).await?;
        Ok(Self {
            envoy,
            run,
            before,
            certificates,
            upstream,
            tunnel_end,
        })
    }

    /// Where the listener `name` listens; see [`listeners`].
    pub(crate) async fn address(&self, name: &str) -> anyhow::Result<SocketAddr> {
        let address = self.envoy.listener_address(name).await?;
        Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()))
    }

    /// A fresh TCP connection to a listener.
    pub(crate) async fn connect(&self, listener: &str) -> anyhow::Result<Box<dyn Stream>> {
        let server = self.address(listener).await?;
        let source = OUTSIDE;
        Ok(raw::connect(&Peer::Tcp { server, source }).await?.stream)
    }

    /// A fresh TLS connection to the listener `tls`.
    pub(crate) async fn connect_tls(
        &self,
        server_name: &str,
        alpn: &[&str],
    ) -> anyhow::Result<Box<dyn Stream>> {
        let options = tls::Options {
            ca: self.certificates.ca(),
            client: None,
            server_name: Some(server_name),
            alpn,
        };
        tls::connect(self.connect("tls").await?, &options).await
    }

    /// What the counters have grown by since this was last asked, as `DECISION RULE` or
    /// `dry-run DECISION RULE` and a number.
    pub(crate) async fn counted(&mut self) -> anyhow::Result<BTreeMap<String, u64>> {
        let after = scrape(&self.envoy).await?;
        let since = after.since(&self.before);
        let mut counted = BTreeMap::new();
        for (metric, prefix) in [
            ("meridian_requests_total", ""),
            ("meridian_dry_run_total", "dry-run "),
        ] {
            for sample in since.find(metric, &[]).filter(|sample| sample.value != 0.0) {
                let label = |name: &str| sample.labels.get(name).map_or("", String::as_str);
                let what = format!("{prefix}{} {}", label("decision"), label("rule"));
                *counted.entry(what).or_insert(0) += sample.value as u64;
            }
        }
        self.before = after;
        Ok(counted)
    }

    /// Asserts that the counters grew by exactly this since they were last looked at.
    pub(crate) async fn assert_counted(&mut self, expected: &[(&str, u64)]) -> anyhow::Result<()> {
        let expected: BTreeMap<String, u64> = expected
            .iter()
            .map(|(what, count)| ((*what).to_owned(), *count))
            .collect();
        assert_eq!(self.counted().await?, expected);
        Ok(())
    }

    /// The folder of what this run writes.
    pub(crate) fn folder(&self) -> &Path {
        self.run.path()
    }

    /// Ends Envoy, which then writes out its access log, and returns the log in its order.
    pub(crate) async fn stop(self) -> anyhow::Result<Vec<Logged>> {
        self.envoy.stop().await?;
        let path = self.run.path().join("access.log");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        text.lines()
            .map(|line| {
                let line: Value = serde_json::from_str(line)?;
                let field = |name: &str| match &line[name] {
                    Value::String(text) => text.clone(),
                    Value::Null => "-".to_owned(),
                    other => other.to_string(),
                };
                let words = ["protocol", "method", "authority", "status", "details"];
                Ok(Logged {
                    line: words.map(field).join(" "),
                    path: field("path"),
                    sni: field("sni"),
                    grpc: field("grpc"),
                    connection: line["connection"].as_u64().context("no connection")?,
                })
            })
            .collect()
    }

    /// Ends Envoy and asserts the lines of its access log, in their order.
    pub(crate) async fn assert_logged(self, expected: &[&str]) -> anyhow::Result<()> {
        let logged = self.stop().await?;
        let lines: Vec<&str> = logged.iter().map(|logged| logged.line.as_str()).collect();
        assert_eq!(lines, expected);
        Ok(())
    }
}

async fn scrape(envoy: &Envoy) -> anyhow::Result<Samples> {
    Samples::parse(
        &envoy
            .get("/stats/prometheus?usedonly&filter=meridian_")
            .await?,
    )
}
