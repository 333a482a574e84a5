//! The sample traffic, one request after another, each compared with what the policy says of it.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Context;
use meridian_policy::{Action, ComponentType, Policy, Request, TagWrite, Verdict};
use serde_json::{Value, json};

use super::observed::{Counted, Observed};
use super::scenarios::{Hop, Scenario};
use super::stage::Stage;
use super::{compare, show};
use crate::lab::prometheus::Samples;
use crate::output;

/// What became of all the sample traffic.
pub(super) struct Played<'s> {
    pub(super) observed: Vec<Observed<'s>>,
    pub(super) scraped: BTreeMap<String, Samples>,
}

impl Played<'_> {
    pub(super) fn failed(&self) -> usize {
        let failed = |observed: &&Observed<'_>| !observed.differences.is_empty();
        self.observed.iter().filter(failed).count()
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        match self.failed() {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }
    }

    pub(super) fn to_json(&self, policy: &Policy) -> Value {
        let requests = self.observed.iter();
        json!({
            "ok": self.failed() == 0,
            "requests": requests.map(|observed| show::observed_json(policy, observed)).collect::<Vec<_>>(),
            "metrics": show::metrics_json(&self.scraped),
        })
    }
}

/// Sends every request, one after another, and shows each unless all will be one object.
pub(super) async fn send_all<'s>(
    stage: &Stage<'_>,
    policy: &Policy,
    scenarios: &'s [Scenario],
    json: bool,
) -> anyhow::Result<Played<'s>> {
    let mut all = Vec::new();
    for (index, scenario) in scenarios.iter().enumerate() {
        let observed = send(stage, policy, scenario)
            .await
            .with_context(|| scenario.title.clone())?;
        if !json {
            output::print(&show::observed(index + 1, policy, &observed))?;
        }
        all.push(observed);
    }
    let scraped = stage.scrape().await?;
    if !json {
        output::print(&show::metrics(&scraped))?;
    }
    Ok(Played {
        observed: all,
        scraped,
    })
}

/// Sends one request and compares what became of it with what the policy says.
async fn send<'s>(
    stage: &Stage<'_>,
    policy: &Policy,
    scenario: &'s Scenario,
) -> anyhow::Result<Observed<'s>> {
    stage.forget_arrivals();
    let before = stage.scrape().await?;
    let reply = match &scenario.raw {
        Some(bytes) => scenario.call.send_raw(bytes).await,
        None => scenario.call.send().await,
    };
    let reply = match reply {
        // Whether it was to be closed is for the comparison to say.
        Err(_) if scenario.is_passthrough() => None,
        reply => Some(reply?),
    };
    let after = stage.scrape().await?;
    let arrival = stage.arrival(reply.as_ref());
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

/// What the policy says at each hop, until one refuses. The tag travels from hop to hop.
fn judge<'s>(policy: &Policy, scenario: &'s Scenario) -> Vec<(&'s Hop, Verdict)> {
    let mut verdicts = Vec::new();
    let mut tag = scenario.forged_tag.map(str::to_owned);
    let mut authority = scenario.authority.as_str();
    for hop in &scenario.hops {
        if let Some(own) = &hop.own_request {
            (authority, tag) = (own, None);
        }
        let mut request = Request {
            tag: tag.as_deref().map(str::as_bytes),
            gateway: policy.first_gateway(hop.vantage),
            ..hop.request(authority)
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
