//! A Prometheus of our own on a port of the kernel's choice.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use meridian::lab::child::ChildProcess;
use meridian::lab::envoy::Admin;
use meridian::lab::paths;
use serde_json::{Value, json};

/// How long Prometheus may take until it serves.
const READY: Duration = Duration::from_secs(20);
/// How often a port may be lost to somebody else between its choice and its use.
const ATTEMPTS: usize = 5;

pub(crate) struct Prometheus {
    _process: ChildProcess,
    // Its client serves for any HTTP server.
    api: Admin,
}

impl Prometheus {
    /// Starts one in `folder`, which holds the rendered files, with these targets.
    pub(crate) async fn start(folder: &Path, targets: &[SocketAddr]) -> anyhow::Result<Self> {
        list_targets(folder, targets)?;
        let mut last = String::new();
        for attempt in 0..ATTEMPTS {
            // Prometheus does not tell the port that it got for port 0.
            let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
            let mut command = Command::new("prometheus");
            command
                .arg(format!(
                    "--config.file={}",
                    folder.join("prometheus.yml").display()
                ))
                .arg(format!(
                    "--storage.tsdb.path={}",
                    folder.join(format!("data-{attempt}")).display()
                ))
                .arg(format!("--web.listen-address={address}"));
            let log = folder.join(format!("prometheus-{attempt}.log"));
            let mut process = ChildProcess::spawn(command, &log)?;
            let api = Admin::new(address);
            let deadline = Instant::now() + READY;
            loop {
                if process.try_wait()?.is_some() {
                    break;
                }
                // The port may be somebody else's, who answers something else.
                if let Ok(answer) = api.get("/-/ready").await
                    && answer.contains("Prometheus")
                {
                    return Ok(Self {
                        _process: process,
                        api,
                    });
                }
                ensure!(Instant::now() < deadline, "not ready: {}", log.display());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            last = fs::read_to_string(&log)?;
            if !last.contains("address already in use") {
                break;
            }
        }
        bail!("Prometheus ended: {last}")
    }

    async fn data(&self, path: &str) -> anyhow::Result<Value> {
        let answer: Value = serde_json::from_str(&self.api.get(path).await?)?;
        ensure!(answer["status"] == "success", "{path}: {answer}");
        Ok(answer["data"].clone())
    }

    /// The samples of an instant query: labels and value.
    pub(crate) async fn query(&self, expr: &str) -> anyhow::Result<Vec<(Value, f64)>> {
        let path = format!("/api/v1/query?query={}", encode(expr));
        let data = self.data(&path).await;
        let data = data.with_context(|| format!("the query {expr}"))?;
        let samples = data["result"].as_array().context("no vector")?;
        samples
            .iter()
            .map(|sample| {
                let value = sample["value"][1].as_str().context("no value")?;
                Ok((sample["metric"].clone(), value.parse()?))
            })
            .collect()
    }

    /// The alerts that fire, as name and labels, and the names of those that fire or soon will.
    pub(crate) async fn alerts(&self) -> anyhow::Result<(Vec<(String, Value)>, BTreeSet<String>)> {
        let data = self.data("/api/v1/alerts").await?;
        let alerts = data["alerts"].as_array().context("no alerts")?;
        let name = |alert: &Value| alert["labels"]["alertname"].as_str().map(str::to_owned);
        let firing = alerts
            .iter()
            .filter(|alert| alert["state"] == "firing")
            .filter_map(|alert| Some((name(alert)?, alert["labels"].clone())))
            .collect();
        Ok((firing, alerts.iter().filter_map(name).collect()))
    }

    /// Every rule that Prometheus cannot evaluate, with the reason.
    pub(crate) async fn broken_rules(&self) -> anyhow::Result<Vec<String>> {
        let data = self.data("/api/v1/rules").await?;
        let groups = data["groups"].as_array().context("no groups")?;
        let rules = groups.iter().filter_map(|group| group["rules"].as_array());
        let rules: Vec<&Value> = rules.flatten().collect();
        ensure!(!rules.is_empty(), "no rules are loaded");
        Ok(rules
            .into_iter()
            .filter(|rule| rule["health"] != "ok")
            .map(Value::to_string)
            .collect())
    }
}

/// Writes the file with the targets, which a running Prometheus reads again.
pub(crate) fn list_targets(folder: &Path, targets: &[SocketAddr]) -> anyhow::Result<()> {
    let targets: Vec<String> = targets.iter().map(SocketAddr::to_string).collect();
    let listed = json!([{"targets": targets}]).to_string();
    paths::write_atomically(&folder.join("targets.yaml"), listed.as_bytes())
}

fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}
