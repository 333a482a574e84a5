//! `meridian demo`: the sample traffic through the local topology, checked against the policy.
//!
//! What each filter decided is read from the difference of two real scrapes; what the workload saw
//! from the workload. Both must be what the policy says of the same evidence.

mod compare;
mod observed;
mod scenarios;
mod show;

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use meridian_policy::{Action, ComponentType, Policy, Request, TagWrite, Verdict};
use serde_json::json;

use crate::access_log::Log;
use crate::lab::prometheus::Samples;
use crate::lab::topology::Topology;
use crate::topology_args::{Prepared, TopologyArgs};
use crate::{output, runtime, traffic};
use observed::{Counted, Observed};
use scenarios::{Hop, Scenario};

/// Send sample traffic through the local topology and check it against the policy (the default)
///
/// Builds the modules, starts the topology, sends each request, and prints its path, its tag and
/// the decision of every filter, then the counters scraped from every Envoy. Exits 1 if anything
/// differs from what the policy says.
#[derive(Debug, Clone, Default, Args)]
pub struct DemoArgs {
    /// What every topology is started with.
    #[command(flatten)]
    pub topology: TopologyArgs,
}

/// Runs the demo. Exits 0 when everything seen is what the policy says, else 1.
///
/// # Errors
/// If the topology does not start, or a part of it does not answer.
pub fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let prepared = args.topology.prepare("demo", true)?;
    runtime::block_on(play(&prepared, args.topology.json))
}

async fn play(prepared: &Prepared, json: bool) -> anyhow::Result<ExitCode> {
    eprintln!("starting the topology");
    let topology = Topology::start(&prepared.topology).await?;
    let policy = &prepared.policy.policy;
    let scenarios = scenarios::all(&topology)?;
    let mut all_observed = Vec::new();
    for (index, scenario) in scenarios.iter().enumerate() {
        let observed = send(&topology, policy, scenario).await.with_context(|| {
            format!(
                "{}; the run is in {}",
                scenario.title,
                topology.run_folder().display()
            )
        })?;
        if !json {
            output::print(&show::observed(index + 1, policy, &observed))?;
        }
        all_observed.push(observed);
    }
    let mut scraped = Vec::new();
    for envoy in topology.envoys() {
        scraped.push((
            envoy.name().to_owned(),
            Samples::parse(&envoy.scrape().await?)?,
        ));
    }
    let failed = all_observed
        .iter()
        .filter(|observed| !observed.differences.is_empty())
        .count();
    if !json {
        output::print(&show::metrics(&scraped))?;
        if topology.nginx.is_none() {
            output::print("nginx is not installed: the requests through it were left out\n")?;
        }
    }
    let run = topology.run_folder().to_owned();
    // Envoy writes the last lines of its access logs when it ends.
    topology.stop().await?;
    let page = run.join("report.html");
    let traffic = traffic::read(&[Log::File(run)])?;
    std::fs::write(&page, traffic::page("The sample traffic", &traffic))
        .with_context(|| format!("cannot write {}", page.display()))?;
    if json {
        let shown = json!({
            "ok": failed == 0,
            "run": page.parent(),
            "report": page,
            "requests": all_observed.iter().map(|observed| show::observed_json(policy, observed)).collect::<Vec<_>>(),
            "metrics": show::metrics_json(&scraped),
        });
        output::print(&format!("{shown}\n"))?;
    } else {
        let summary = show::summary(all_observed.len(), failed, &page);
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
) -> anyhow::Result<Observed<'s>> {
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
    let mut observed = Observed {
        scenario,
        verdicts,
        reply,
        arrival,
        differences: Vec::new(),
    };
    let differences = [
        compare::counters(expected, &before, &after),
        compare::reply(&observed, policy),
        compare::arrival(&observed, policy),
    ];
    observed.differences = differences.concat();
    Ok(observed)
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
            gateway: policy.first_gateway(hop.vantage),
            ..hop.request(scenario)
        };
        let verdict = policy.decide(hop.vantage, hop.subject, &mut request);
        tag = match verdict.tags {
            Some(TagWrite::Replace) => Some(verdict.direction.as_str().to_owned()),
            Some(TagWrite::Remove) | None => None,
        };
        let refused = verdict.decision == Action::Deny;
        verdicts.push((hop, verdict));
        if refused {
            break;
        }
    }
    verdicts
}

fn expect(policy: &Policy, hop: &Hop, verdict: &Verdict) -> Counted {
    Counted {
        envoy: hop.envoy.clone(),
        reporter: hop.vantage.as_str().to_owned(),
        direction: verdict.direction.as_str().to_owned(),
        component_type: verdict
            .component
            .map_or("", ComponentType::as_str)
            .to_owned(),
        decision: verdict.decision.as_str().to_owned(),
        rule: verdict.reason.label(policy.section(hop.vantage)).to_owned(),
    }
}
