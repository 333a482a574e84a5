//! What was seen of a scenario beside what the policy says of it.

use std::collections::BTreeMap;

use meridian_metrics::{CONNECTIONS, REQUESTS};
use meridian_policy::{Action, ComponentType, Policy, TagWrite, Verdict};

use super::observed::{Counted, Observed};
use crate::lab::prometheus::Samples;

/// The decisions that only one of policy and counters knows of.
pub(super) fn counters(
    mut expected: Vec<Counted>,
    before: &BTreeMap<String, Samples>,
    after: &BTreeMap<String, Samples>,
) -> Vec<String> {
    let mut differences = Vec::new();
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
        differences.push(format!("the policy says, but it was not counted: {row:?}"));
    }
    for row in counted.iter().filter(|row| !expected.contains(row)) {
        differences.push(format!("counted, but the policy does not say it: {row:?}"));
    }
    if counted.len() != expected.len() {
        differences.push(format!(
            "{} decisions were counted, not {}",
            counted.len(),
            expected.len()
        ));
    }
    differences
}

/// The reply, where it is not what the policy answers.
pub(super) fn reply(observed: &Observed<'_>, policy: &Policy) -> Vec<String> {
    let mut differences = Vec::new();
    let refusal = observed
        .verdicts
        .last()
        .and_then(|(_, verdict)| policy.refusal(verdict));
    let (status, body) = match &observed.reply {
        Some(reply) => (Some(reply.status), reply.text()),
        None => (None, String::new()),
    };
    let expected = match refusal {
        Some(_) if observed.scenario.is_passthrough() => None,
        Some(refusal) => Some(refusal.status),
        None => Some(200),
    };
    if status != expected {
        let say = |status: Option<u16>| match status {
            Some(status) => format!("answered with {status}"),
            None => "closed".to_owned(),
        };
        differences.push(format!("it was {}, not {}", say(status), say(expected)));
    }
    if let Some(refusal) = refusal
        && status.is_some()
        && body != refusal.body
    {
        differences.push(format!("the body is {body:?}, not {:?}", refusal.body));
    }
    differences
}

/// What the workload got, where it is not what the policy lets through.
pub(super) fn arrival(observed: &Observed<'_>, policy: &Policy) -> Vec<String> {
    let Some((_, verdict)) = observed.verdicts.last() else {
        return Vec::new();
    };
    let mut differences = Vec::new();
    match (&observed.arrival, verdict.decision) {
        (None, Action::Deny) => {}
        (Some(arrival), Action::Deny) => {
            differences.push(format!("it arrived at {} all the same", arrival.server))
        }
        (None, Action::Allow) => differences.push("it did not arrive".to_owned()),
        (Some(arrival), Action::Allow) => {
            if arrival.server != observed.scenario.destination {
                differences.push(format!(
                    "it arrived at {}, not at {}",
                    arrival.server, observed.scenario.destination
                ));
            }
            for (header, value) in tag_headers(policy, verdict) {
                let seen = arrival.header(header);
                let expected: &[&str] = match verdict.tags {
                    Some(TagWrite::Replace) => &[value],
                    Some(TagWrite::Remove) | None => &[],
                };
                if seen != expected {
                    differences.push(format!("{header} arrived as {seen:?}, not {expected:?}"));
                }
            }
        }
    }
    differences
}

/// The tag headers of the policy, with what a verdict writes into them.
pub(super) fn tag_headers<'p>(
    policy: &'p Policy,
    verdict: &Verdict,
) -> Vec<(&'p str, &'static str)> {
    let tags = &policy.tags;
    let component = verdict.component.map_or("", ComponentType::as_str);
    let headers = [
        (Some(&tags.direction_header), verdict.direction.as_str()),
        (tags.component_header.as_ref(), component),
        (tags.evidence_header.as_ref(), verdict.evidence.as_str()),
    ];
    let written = headers.into_iter();
    written
        .filter_map(|(header, value)| Some((header?.as_str(), value)))
        .collect()
}
