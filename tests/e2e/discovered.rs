//! An ingress gateway whose filter comes by extension discovery, from a file in place of istiod.
//!
//! The file is there when Envoy starts, and Envoy reads it before its workers start: one before 1.38 would
//! not survive a first filter that comes later.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use meridian::lab::config::wasm::Filters;
use meridian::lab::envoy::{Envoy, EnvoyOptions, RunFolder};
use meridian::policy::PolicyFile;
use meridian::{lab::modules, lab::paths};
use meridian_policy::Vantage;
use serde_json::{Value, json};

/// The prefix of what Envoy counts about the discovery.
const STATS: &str = "extension_config_discovery.http_filter.meridian";

/// How long Envoy may take over a configuration.
const DEADLINE: Duration = Duration::from_secs(30);

/// The gateway.
pub(crate) struct Gateway {
    pub(crate) envoy: Envoy,
    /// Where it takes requests.
    pub(crate) address: SocketAddr,
    filters: Filters,
    file: PathBuf,
    version: u32,
}

impl Gateway {
    /// Starts one with a policy in YAML. What the filter lets through is answered with 200 and with
    /// its tag as the body.
    pub(crate) async fn start(name: &str, policy: &str, workers: u32) -> anyhow::Result<Self> {
        let options = EnvoyOptions {
            concurrency: workers,
            ..EnvoyOptions::default()
        };
        Self::start_with(name, policy, &options).await
    }

    /// Starts one as [`Self::start`] does, with more to say about the Envoy.
    pub(crate) async fn start_with(
        name: &str,
        policy: &str,
        options: &EnvoyOptions,
    ) -> anyhow::Result<Self> {
        tokio::task::spawn_blocking(modules::build).await??;
        let policy = PolicyFile::parse(policy.as_bytes()).context("the policy")?;
        let filters = Filters::new(paths::modules_dir()?, &policy);
        Self::start_filters(name, filters, options).await
    }

    /// Starts one with these filters.
    pub(crate) async fn start_filters(
        name: &str,
        filters: Filters,
        options: &EnvoyOptions,
    ) -> anyhow::Result<Self> {
        let obtain = || meridian::lab::envoy::obtain(None);
        let binary = tokio::task::spawn_blocking(obtain).await??;
        let run = RunFolder::create(name)?;
        let file = run.path().join("discovered.json");
        let filter = filters.http_filter(Vantage::Ingress)["typed_config"].clone();
        publish(&file, 0, filter)?;
        let envoy = Envoy::start(&binary, &run, name, &bootstrap(&file), options).await?;
        let address = envoy.listener_address("http").await?;
        let gateway = Self {
            envoy,
            address,
            filters,
            file,
            version: 0,
        };
        // Envoy is live before every worker has the first configuration, and counts it after.
        gateway.reaches((1, 0)).await?;
        Ok(gateway)
    }

    /// Waits until Envoy has taken and refused so many configurations, and no others. The first is
    /// among those it has taken.
    pub(crate) async fn reaches(&self, expected: (u64, u64)) -> anyhow::Result<()> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let (taken, refused) = self.updates().await?;
            if (taken, refused) == expected {
                return Ok(());
            }
            ensure!(
                taken <= expected.0 && refused <= expected.1 && Instant::now() < deadline,
                "Envoy has taken {taken} and refused {refused} configurations, not {expected:?}; \
                 its log is {}",
                self.envoy.log_path().display()
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Publishes another configuration of the plugin, an `Any` in JSON, without waiting for Envoy.
    pub(crate) fn publish(&mut self, configuration: Value) -> anyhow::Result<()> {
        self.version += 1;
        let mut filter = self.filters.http_filter(Vantage::Ingress)["typed_config"].clone();
        filter["config"]["configuration"] = configuration;
        publish(&self.file, self.version, filter)
    }

    /// How many configurations Envoy has taken and how many it has refused.
    async fn updates(&self) -> anyhow::Result<(u64, u64)> {
        let stats = self.envoy.get(&format!("/stats?filter={STATS}")).await?;
        let count = |name: &str| -> anyhow::Result<u64> {
            let name = format!("{STATS}.{name}: ");
            let line = stats.lines().find_map(|line| line.strip_prefix(&name));
            line.and_then(|count| count.trim().parse().ok())
                .with_context(|| format!("Envoy does not count {name}\n{stats}"))
        };
        let refused = count("config_fail")?;
        // A reload is counted before it fails.
        Ok((count("config_reload")?.saturating_sub(refused), refused))
    }
}

/// A policy, as the text of the plugin's configuration.
pub(crate) fn text(policy: &str) -> Value {
    json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": policy})
}

fn publish(file: &std::path::Path, version: u32, filter: Value) -> anyhow::Result<()> {
    let response = json!({
        "version_info": version.to_string(),
        "resources": [{
            "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            "name": "meridian",
            "typed_config": filter,
        }],
    });
    // Envoy looks at the file when another takes its place.
    paths::write_atomically(file, response.to_string().as_bytes())
}

fn bootstrap(file: &std::path::Path) -> Value {
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "http",
        "use_remote_address": true,
        "http_filters": [
            {
                "name": "meridian",
                "config_discovery": {
                    "config_source": {
                        "path_config_source": {"path": file},
                        "resource_api_version": "V3",
                    },
                    "type_urls": ["type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"],
                },
            },
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            },
        ],
        "route_config": {"virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{
                "match": {"prefix": "/"},
                "direct_response": {"status": 200},
                "response_headers_to_add": [{"header": {
                    "key": "x-arrived",
                    "value": "%REQ(x-traffic-direction)%",
                }}],
            }],
        }]},
    });
    json!({
        "node": {"id": "gateway", "cluster": "gateway"},
        "stats_config": meridian::lab::config::stats::stats_config(),
        "static_resources": {"listeners": [{
            "name": "http",
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": manager,
            }]}],
        }]},
    })
}
