//! The demo as a service of a compose project, whose Prometheus is asked what it has seen of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use meridian_metrics::{POLICY_REVISION, REQUESTS};
use serde::Deserialize;
use serde_json::json;

use super::play::send_all;
use super::scenarios;
use super::stage::Stage;
use crate::lab::compose::{Networks, PROMETHEUS_PORT};
use crate::lab::prometheus::Samples;
use crate::lab::topology::Call;
use crate::output;
use crate::policy::PolicyFile;

/// How long the project may take to be ready, and Prometheus to have seen everything.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// The labels that the graph is drawn by.
const LABELS: [&str; 3] = ["reporter", "direction", "decision"];
/// The width of the graph's longest bar.
const BAR: usize = 40;

/// Requests, by the values of [`LABELS`].
type Counts = BTreeMap<[String; 3], u64>;

/// Sends the sample traffic, and prints what became of it and what Prometheus says of it. `shown` is
/// where the reader reaches Prometheus.
pub(super) async fn demo(
    networks: &Networks,
    policy: &PolicyFile,
    shown: &str,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let stage = Stage::compose(networks)?;
    await_policy(&stage, policy).await?;
    let policy = &policy.policy;
    let scenarios = scenarios::all(&stage)?;
    let played = send_all(&stage, policy, &scenarios, json).await?;

    let query = format!("sum by ({}) ({})", LABELS.join(", "), REQUESTS.name);
    let counted = of_proxies(&played.scraped);
    let prometheus = (Networks::prometheus(networks.inside), PROMETHEUS_PORT);
    let seen = await_counts(prometheus.into(), &query, &counted).await?;
    let graph: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
    let link = format!("{shown}/graph?g0.tab=0&g0.range_input=15m&g0.expr={graph}");
    if json {
        let series: Vec<_> = seen
            .iter()
            .map(|([reporter, direction, decision], requests)| {
                json!({"reporter": reporter, "direction": direction, "decision": decision, "requests": requests})
            })
            .collect();
        let mut object = played.to_json(policy);
        object["prometheus"] = json!({"query": query, "graph": link, "series": series});
        output::print(&format!("{object}\n"))?;
    } else {
        let total = played.observed.len();
        let verdict = match played.failed() {
            0 => format!("{total} requests, each as the policy says."),
            failed => format!("{failed} of {total} requests were NOT as the policy says."),
        };
        output::print(&format!(
            "What Prometheus has scraped, {query}:\n\n{}\n{verdict}\nPrometheus' graph: {link}\n",
            bars(&seen)
        ))?;
    }
    Ok(played.exit_code())
}

/// Waits until every proxy answers, and has the filters of this policy.
async fn await_policy(stage: &Stage<'_>, policy: &PolicyFile) -> anyhow::Result<()> {
    let wanted = policy.revision() as f64;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let lacks = match stage.scrape().await {
            Ok(scraped) => {
                let stale = scraped.iter().find(|(_, samples)| {
                    let revisions = samples.find(POLICY_REVISION.name, &[]);
                    let mut revisions = revisions.map(|sample| sample.value).peekable();
                    revisions.peek().is_none() || revisions.any(|revision| revision != wanted)
                });
                match stale {
                    None => return Ok(()),
                    Some((name, _)) => anyhow::anyhow!(
                        "the proxy {name} does not have the policy; see the logs of the services policy and {name}"
                    ),
                }
            }
            Err(error) => error,
        };
        if Instant::now() > deadline {
            return Err(lacks.context(format!("the project is not ready after {PATIENCE:?}")));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// What the proxies themselves say.
fn of_proxies(scraped: &BTreeMap<String, Samples>) -> Counts {
    let mut counts = Counts::new();
    for sample in scraped
        .values()
        .flat_map(|samples| samples.find(REQUESTS.name, &[]))
    {
        let label = |name: &str| sample.labels.get(name).cloned().unwrap_or_default();
        *counts.entry(LABELS.map(label)).or_default() += sample.value as u64;
    }
    counts
}

/// Waits until Prometheus has scraped what was counted, or more.
async fn await_counts(
    prometheus: std::net::SocketAddr,
    query: &str,
    counted: &Counts,
) -> anyhow::Result<Counts> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = ask(prometheus, query).await?;
        let complete = counted
            .iter()
            .all(|(labels, count)| seen.get(labels).is_some_and(|seen| seen >= count));
        if complete {
            return Ok(seen);
        }
        if Instant::now() > deadline {
            bail!(
                "Prometheus has not seen after {PATIENCE:?} what the proxies counted: {seen:?} for {counted:?}"
            );
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Prometheus' answer to an instant query.
#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    value: (f64, String),
}

async fn ask(prometheus: std::net::SocketAddr, query: &str) -> anyhow::Result<Counts> {
    let query: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
    let call = Call::new(prometheus, "prometheus").path(&format!("/api/v1/query?query={query}"));
    let reply = call.send().await.context("Prometheus")?;
    let answer: Answer = serde_json::from_slice(&reply.body)
        .with_context(|| format!("Prometheus answered {}: {}", reply.status, reply.text()))?;
    let mut counts = Counts::new();
    for Series { metric, value } in answer.data.result {
        let label = |name: &str| metric.get(name).cloned().unwrap_or_default();
        let count: f64 = value
            .1
            .parse()
            .context("a value of Prometheus' is no number")?;
        counts.insert(LABELS.map(label), count as u64);
    }
    Ok(counts)
}

fn bars(counts: &Counts) -> String {
    let most = counts.values().copied().max().unwrap_or_default().max(1);
    let mut text = String::new();
    // Series of decisions that were not taken yet are there from the start.
    for ([reporter, direction, decision], count) in counts.iter().filter(|(_, count)| **count > 0) {
        let length = (*count as usize * BAR).div_ceil(most as usize);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "    {reporter:<9}{direction:<12}{decision:<6}{count:>5} {}",
            "█".repeat(length)
        );
    }
    text
}
