//! The demo's results, for people and programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use meridian_metrics::{Kind, METRICS, Metric};
use meridian_policy::{Action, ComponentType, Policy, Subject, Vantage, Verdict};
use serde_json::{Value, json};

use super::compare::tag_headers;
use super::observed::Observed;
use super::scenarios::Hop;
use crate::lab::prometheus::{Sample, Samples};
use crate::lab::topology::roles::SHOP;
use crate::policy::Explanation;

/// A paragraph for one request.
pub(super) fn observed(number: usize, policy: &Policy, observed: &Observed<'_>) -> String {
    let scenario = observed.scenario;
    let mut text = format!("{number:>2}. {}\n", scenario.title);
    let mut path = vec![format!(
        "{} asks for {}",
        scenario.client, scenario.authority
    )];
    path.extend(scenario.via.map(str::to_owned));
    for (hop, _) in &observed.verdicts {
        path.extend(
            hop.own_request
                .as_ref()
                .map(|authority| format!("{} asks for {authority}", SHOP.name)),
        );
        path.push(place(hop.vantage).to_owned());
    }
    path.extend(
        observed
            .arrival
            .as_ref()
            .map(|arrival| arrival.server.clone()),
    );
    line(&mut text, "path", &path.join(" → "));
    if let Some(tag) = scenario.forged_tag {
        line(
            &mut text,
            "forged",
            &format!("{}: {tag}", policy.tags.direction_header),
        );
    }
    for (hop, verdict) in &observed.verdicts {
        line(
            &mut text,
            hop.vantage.as_str(),
            &decision(policy, hop, verdict),
        );
    }
    if let Some(arrival) = &observed.arrival
        && let Some((_, verdict)) = observed.verdicts.last()
    {
        let tags: Vec<String> = tag_headers(policy, verdict)
            .iter()
            .flat_map(|(header, _)| {
                arrival
                    .header(header)
                    .into_iter()
                    .map(move |value| format!("{header}: {value}"))
            })
            .collect();
        let tags = if tags.is_empty() {
            "no tag".to_owned()
        } else {
            tags.join(", ")
        };
        line(&mut text, "arrived", &tags);
    }
    match &observed.reply {
        Some(reply) => line(&mut text, "status", &reply.status.to_string()),
        None => line(&mut text, "closed", "without an answer"),
    }
    for difference in &observed.differences {
        line(&mut text, "WRONG", difference);
    }
    text.push('\n');
    text
}

fn line(text: &mut String, name: &str, value: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "    {name:<9} {value}");
}

fn decision(policy: &Policy, hop: &Hop, verdict: &Verdict) -> String {
    let rule = verdict.reason.label(policy.section(hop.vantage));
    format!(
        "{:<5} by {rule:<13} {:<11} ({}), {}",
        verdict.decision,
        verdict.direction,
        verdict.evidence,
        verdict
            .component
            .map_or("TLS passthrough", ComponentType::as_str)
    )
}

/// The same as an object.
pub(super) fn observed_json(policy: &Policy, observed: &Observed<'_>) -> Value {
    let hops: Vec<Value> = observed
        .verdicts
        .iter()
        .map(|(hop, verdict)| {
            let mut explanation = Explanation {
                policy,
                vantage: hop.vantage,
                gateway: policy.first_gateway(hop.vantage).map(str::to_owned),
                subject: hop.subject,
                verdict: verdict.clone(),
            }
            .to_json();
            explanation["envoy"] = json!(hop.envoy);
            explanation["reporter"] = json!(hop.vantage.as_str());
            explanation["passthrough"] = json!(hop.subject == Subject::Connection);
            // Every hop has the same fields, though a connection has neither.
            for field in ["component_type", "status"] {
                explanation[field] = explanation[field].take();
            }
            explanation
        })
        .collect();
    json!({
        "title": observed.scenario.title,
        "client": observed.scenario.client,
        "authority": observed.scenario.authority,
        "via": observed.scenario.via,
        "forged_tag": observed.scenario.forged_tag,
        "hops": hops,
        "allowed": observed.verdicts.iter().all(|(_, verdict)| verdict.decision == Action::Allow),
        "arrival": observed.arrival,
        "status": observed.reply.as_ref().map(|reply| reply.status),
        "differences": observed.differences,
    })
}

/// Every counter of ours that is not zero, as scraped.
pub(super) fn metrics(scraped: &BTreeMap<String, Samples>) -> String {
    let mut text = "Counters, as scraped from /stats/prometheus of every Envoy:\n\n".to_owned();
    for (envoy, samples) in scraped {
        let _ = writeln!(text, "    {envoy}");
        for sample in ours(samples) {
            let labels: Vec<String> = own_labels(sample)
                .iter()
                .map(|(label, value)| format!("{label}=\"{value}\""))
                .collect();
            let _ = writeln!(
                text,
                "      {}{{{}}} {}",
                sample.name,
                labels.join(","),
                sample.value
            );
        }
    }
    text.push('\n');
    text
}

/// The same as a list of objects.
pub(super) fn metrics_json(scraped: &BTreeMap<String, Samples>) -> Vec<Value> {
    scraped
        .iter()
        .flat_map(|(envoy, samples)| {
            ours(samples).map(move |sample| {
                json!({"envoy": envoy, "name": sample.name, "labels": sample.labels, "value": sample.value})
            })
        })
        .collect()
}

fn ours(samples: &Samples) -> impl Iterator<Item = &Sample> {
    samples
        .iter()
        .filter(|sample| metric_of(sample).is_some() && sample.value > 0.0)
}

/// The metric of a sample; of a histogram its count alone.
fn metric_of(sample: &Sample) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| match metric.kind {
        Kind::Histogram { .. } => sample.name.strip_suffix("_count") == Some(metric.name),
        Kind::Counter | Kind::Gauge => sample.name == metric.name,
    })
}

/// The labels in the order of the metric's definition.
fn own_labels(sample: &Sample) -> Vec<(&str, &str)> {
    metric_of(sample)
        .into_iter()
        .flat_map(|metric| metric.labels)
        .filter_map(|label| Some((*label, sample.labels.get(*label)?.as_str())))
        .collect()
}

/// The last lines.
pub(super) fn summary(requests: usize, failed: usize, report: &Path) -> String {
    let verdict = match failed {
        0 => format!("{requests} requests, each as the policy says."),
        failed => format!("{failed} of {requests} requests were NOT as the policy says."),
    };
    let run = report.parent().unwrap_or(report).display();
    format!(
        "{verdict} Logs and configurations: {run}\nThe traffic map, for a browser: {}",
        report.display()
    )
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
