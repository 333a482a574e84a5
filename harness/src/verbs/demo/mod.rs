//! `meridian demo`: the sample traffic through the local topology, checked against the policy.
//!
//! What each filter decided is read from the difference of two real scrapes; what the workload saw
//! from the workload. Both must be what the policy says of the same evidence.

mod scenarios;
mod show;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use meridian_metrics::{CONNECTIONS, REQUESTS};
use meridian_policy::{Action, ComponentType, Policy, Request, TagWrite, Vantage, Verdict};
use serde_json::json;

use crate::lab::prometheus::Samples;
use crate::lab::topology::{Arrival, Options as TopologyOptions, Reply, Topology};
use crate::output;
use crate::policy::PolicyFile;
use crate::verbs::report;
use scenarios::{Hop, Scenario};

/// What the verb is run with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The policy.
    pub policy: PolicyFile,
    /// The Envoy binary.
    pub envoy: PathBuf,
    /// The folder of the modules.
    pub modules: PathBuf,
    /// Print one JSON object instead of text.
    pub json: bool,
}

/// What a filter counted for one request, or what it should have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Counted {
    envoy: String,
    reporter: String,
    direction: String,
    /// Empty for a connection that passes unread.
    component_type: String,
    decision: String,
    rule: String,
}

/// A scenario, what the policy says of it, and what became of it.
struct Outcome<'s> {
    scenario: &'s Scenario,
    verdicts: Vec<(&'s Hop, Verdict)>,
    /// `None` for a connection that was closed.
    reply: Option<Reply>,
    arrival: Option<Arrival>,
    /// Each difference between what was seen and what the policy says; empty when all is well.
    differences: Vec<String>,
}

/// Runs the demo. Exits 0 when everything seen is what the policy says, else 1.
///
/// # Errors
/// If the topology does not start, or a part of it does not answer.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    eprintln!("starting the topology");
    let topology = Topology::start(&TopologyOptions {
        run: "demo".to_owned(),
        policy: options.policy.json.clone(),
        envoy: options.envoy,
        modules: Some(options.modules),
    })
    .await?;
    let policy = &options.policy.policy;
    let scenarios = scenarios::all(&topology)?;
    let mut outcomes = Vec::new();
    for (index, scenario) in scenarios.iter().enumerate() {
        let outcome = send(&topology, policy, scenario).await.with_context(|| {
            format!(
                "{}; the run is in {}",
                scenario.title,
                topology.run_folder().display()
            )
        })?;
        if !options.json {
            output::print(&show::outcome(index + 1, policy, &outcome))?;
        }
        outcomes.push(outcome);
    }
    let mut scraped = Vec::new();
    for envoy in topology.envoys() {
        scraped.push((
            envoy.name().to_owned(),
            Samples::parse(&envoy.scrape().await?)?,
        ));
    }
    let failed = outcomes
        .iter()
        .filter(|outcome| !outcome.differences.is_empty())
        .count();
    if !options.json {
        output::print(&show::metrics(&scraped))?;
        if topology.nginx.is_none() {
            output::print("nginx is not installed: the requests through it were left out\n")?;
        }
    }
    let run = topology.run_folder().to_owned();
    // Envoy writes the last lines of its access logs when it ends.
    topology.stop().await?;
    let page = run.join("report.html");
    report::write(&[run], &page, "The sample traffic")?;
    if options.json {
        let shown = json!({
            "ok": failed == 0,
            "run": page.parent(),
            "report": page,
            "requests": outcomes.iter().map(|outcome| show::outcome_json(policy, outcome)).collect::<Vec<_>>(),
            "metrics": show::metrics_json(&scraped),
        });
        output::print(&format!("{shown}\n"))?;
    } else {
        let summary = show::summary(outcomes.len(), failed, &page);
        output::print(&format!("{summary}\n"))?;
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Sends one request and compares what became of it with what the policy says.
async fn send<'s>(
    topology: &Topology,
    policy: &Policy,
    scenario: &'s Scenario,
) -> anyhow::Result<Outcome<'s>> {
    topology.arrivals().take();
    let before = scrape(topology).await?;
    let reply = match &scenario.raw {
        Some(bytes) => scenario.call.send_raw(bytes).await,
        None => scenario.call.send().await,
    };
    let reply = match reply {
        // Whether it was to be closed is for the comparison to say.
        Err(_) if scenario.is_passthrough() => None,
        reply => Some(reply?),
    };
    let after = scrape(topology).await?;
    let arrival = topology.arrivals().take().pop();
    let verdicts = judge(policy, scenario);

    let expected: Vec<Counted> = verdicts
        .iter()
        .map(|(hop, verdict)| expect(policy, hop, verdict))
        .collect();
    let mut outcome = Outcome {
        scenario,
        verdicts,
        reply,
        arrival,
        differences: Vec::new(),
    };
    compare_counters(&mut outcome, expected, &before, &after);
    compare_reply(&mut outcome, policy);
    compare_arrival(&mut outcome, policy);
    Ok(outcome)
}

async fn scrape(topology: &Topology) -> anyhow::Result<BTreeMap<String, Samples>> {
    let mut scraped = BTreeMap::new();
    for envoy in topology.envoys() {
        scraped.insert(
            envoy.name().to_owned(),
            Samples::parse(&envoy.scrape().await?)?,
        );
    }
    Ok(scraped)
}

/// What the policy says at each hop, until one refuses. The tag travels from hop to hop.
fn judge<'s>(policy: &Policy, scenario: &'s Scenario) -> Vec<(&'s Hop, Verdict)> {
    let mut verdicts = Vec::new();
    let mut tag = scenario.forged_tag.map(str::to_owned);
    for hop in &scenario.hops {
        let mut request = Request {
            tag: tag.as_deref().map(str::as_bytes),
            ..hop.request(scenario)
        };
        let verdict = if hop.passthrough {
            decide_connection(policy, hop.vantage, &mut request)
        } else {
            policy.decide(hop.vantage, &mut request)
        };
        tag = match verdict.tags {
            TagWrite::Replace => Some(verdict.direction.as_str().to_owned()),
            TagWrite::Remove => None,
        };
        let refused = verdict.decision == Action::Deny;
        verdicts.push((hop, verdict));
        if refused {
            break;
        }
    }
    verdicts
}

/// The verdict over a connection as one over a request: without a component type, and no tag is
/// written into what passes unread.
fn decide_connection(policy: &Policy, vantage: Vantage, request: &mut Request<'_>) -> Verdict {
    let verdict = policy.decide_connection(vantage, request);
    Verdict {
        decision: verdict.decision,
        reason: verdict.reason,
        direction: verdict.direction,
        evidence: verdict.evidence,
        component: ComponentType::Application,
        authority: verdict.authority,
        dry_run: verdict.dry_run,
        tags: TagWrite::Remove,
        caller: None,
    }
}

fn expect(policy: &Policy, hop: &Hop, verdict: &Verdict) -> Counted {
    Counted {
        envoy: hop.envoy.clone(),
        reporter: hop.vantage.as_str().to_owned(),
        direction: verdict.direction.as_str().to_owned(),
        component_type: match hop.passthrough {
            true => String::new(),
            false => verdict.component.as_str().to_owned(),
        },
        decision: verdict.decision.as_str().to_owned(),
        rule: verdict.reason.label(policy.section(hop.vantage)).to_owned(),
    }
}

fn compare_counters(
    outcome: &mut Outcome<'_>,
    mut expected: Vec<Counted>,
    before: &BTreeMap<String, Samples>,
    after: &BTreeMap<String, Samples>,
) {
    let mut counted = Vec::new();
    for (envoy, after) in after {
        let since = before
            .get(envoy)
            .map_or_else(|| after.clone(), |before| after.since(before));
        for sample in [REQUESTS, CONNECTIONS]
            .iter()
            .flat_map(|metric| since.find(metric.name, &[]))
            .filter(|sample| sample.value > 0.0)
        {
            let label = |name: &str| sample.labels.get(name).cloned().unwrap_or_default();
            let row = Counted {
                envoy: envoy.clone(),
                reporter: label("reporter"),
                direction: label("direction"),
                component_type: label("component_type"),
                decision: label("decision"),
                rule: label("rule"),
            };
            // A count of two is a row too many, and so a difference.
            counted.extend(std::iter::repeat_n(row, sample.value as usize));
        }
    }
    counted.sort();
    expected.sort();
    for row in expected.iter().filter(|row| !counted.contains(row)) {
        outcome
            .differences
            .push(format!("the policy says, but it was not counted: {row:?}"));
    }
    for row in counted.iter().filter(|row| !expected.contains(row)) {
        outcome
            .differences
            .push(format!("counted, but the policy does not say it: {row:?}"));
    }
    if counted.len() != expected.len() {
        outcome.differences.push(format!(
            "{} decisions were counted, not {}",
            counted.len(),
            expected.len()
        ));
    }
}

fn compare_reply(outcome: &mut Outcome<'_>, policy: &Policy) {
    let refusal = outcome
        .verdicts
        .last()
        .and_then(|(_, verdict)| policy.refusal(verdict));
    let (status, body) = match &outcome.reply {
        Some(reply) => (Some(reply.status), reply.text()),
        None => (None, String::new()),
    };
    let expected = match refusal {
        Some(_) if outcome.scenario.is_passthrough() => None,
        Some(refusal) => Some(refusal.status),
        None => Some(200),
    };
    if status != expected {
        let say = |status: Option<u16>| match status {
            Some(status) => format!("answered with {status}"),
            None => "closed".to_owned(),
        };
        outcome
            .differences
            .push(format!("it was {}, not {}", say(status), say(expected)));
    }
    if let Some(refusal) = refusal
        && status.is_some()
        && body != refusal.body
    {
        outcome
            .differences
            .push(format!("the body is {body:?}, not {:?}", refusal.body));
    }
}

fn compare_arrival(outcome: &mut Outcome<'_>, policy: &Policy) {
    let Some((_, verdict)) = outcome.verdicts.last() else {
        return;
    };
    let mut differences = Vec::new();
    match (&outcome.arrival, verdict.decision) {
        (None, Action::Deny) => {}
        (Some(arrival), Action::Deny) => {
            differences.push(format!("it arrived at {} all the same", arrival.server))
        }
        (None, Action::Allow) => differences.push("it did not arrive".to_owned()),
        (Some(arrival), Action::Allow) => {
            if arrival.server != outcome.scenario.destination {
                differences.push(format!(
                    "it arrived at {}, not at {}",
                    arrival.server, outcome.scenario.destination
                ));
            }
            for (header, value) in tag_headers(policy, verdict) {
                let seen = arrival.header(header);
                let expected: &[&str] = match verdict.tags {
                    TagWrite::Replace => &[value],
                    TagWrite::Remove => &[],
                };
                if seen != expected {
                    differences.push(format!("{header} arrived as {seen:?}, not {expected:?}"));
                }
            }
        }
    }
    outcome.differences.extend(differences);
}

/// The tag headers of the policy, with what a verdict writes into them.
fn tag_headers<'p>(policy: &'p Policy, verdict: &Verdict) -> Vec<(&'p str, &'static str)> {
    let tags = &policy.tags;
    let mut headers = vec![(tags.direction_header.as_str(), verdict.direction.as_str())];
    headers.extend(
        tags.component_header
            .as_deref()
            .map(|header| (header, verdict.component.as_str())),
    );
    headers.extend(
        tags.evidence_header
            .as_deref()
            .map(|header| (header, verdict.evidence.as_str())),
    );
    headers
}

/// `ingress gateway`, `sidecar inbound`, …
fn place(vantage: Vantage) -> &'static str {
    match vantage {
        Vantage::Ingress => "ingress gateway",
        Vantage::Egress => "egress gateway",
        Vantage::Inbound => "sidecar inbound",
        Vantage::Outbound => "sidecar outbound",
    }
}
