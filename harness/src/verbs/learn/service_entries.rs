//! Proposed hosts as Istio's ServiceEntries: what makes a host outside known to the mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use meridian_policy::Vantage;
use serde_json::{Value, json};

use super::fragment::comments;
use super::group::{ProposedHost, ProposedRule};
use super::learned::Learned;
use super::tally::Protocol;

/// The manifests, one document each. Only what was asked for at egress: hosts at the other vantages
/// are the mesh's own.
///
/// # Errors
/// None that a caller could mend: serialising a value that was built here.
pub fn manifests(learned: &Learned<'_>) -> anyhow::Result<String> {
    let mut text = String::new();
    for rule in learned.rules_at(Vantage::Egress) {
        // Istio resolves no wildcard, so that those stand apart.
        let (wildcards, names): (Vec<_>, Vec<_>) =
            rule.hosts.iter().partition(|pattern| pattern.is_wildcard);
        let is_split = !wildcards.is_empty() && !names.is_empty();
        for (patterns, resolution) in [(names, "DNS"), (wildcards, "NONE")] {
            if patterns.is_empty() {
                continue;
            }
            let mut name = rule.name.clone();
            if is_split && resolution == "NONE" {
                // At most 253 bytes in Kubernetes; a rule's name has at most 63.
                name += "-wildcard";
            }
            let yaml = yaml_serde::to_string(&manifest(&name, rule, &patterns, resolution))?;
            let comment = if rule.reasons.is_empty() { "" } else { "# " };
            let _ = writeln!(text, "{comment}---");
            for reason in &rule.reasons {
                let _ = writeln!(text, "# LOOK FIRST, {}: {}", reason.word, reason.text);
            }
            let _ = writeln!(text, "# {}", rule.tally.summary(learned.callers()));
            for line in yaml.lines() {
                let _ = writeln!(text, "{comment}{line}");
            }
        }
    }
    Ok(text + &comments(learned))
}

fn manifest(
    name: &str,
    rule: &ProposedRule,
    patterns: &[&ProposedHost],
    resolution: &str,
) -> Value {
    let hosts: BTreeSet<String> = patterns
        .iter()
        .map(|pattern| match pattern.is_wildcard {
            true => format!("*.{}", pattern.name),
            false => pattern.name.clone(),
        })
        .collect();
    let ports: Vec<Value> = ports(patterns)
        .into_iter()
        .map(|(number, protocol)| {
            json!({
                "number": number,
                "name": format!("{}-{number}", protocol.to_ascii_lowercase()),
                "protocol": protocol,
            })
        })
        .collect();
    let export_to = if rule.namespaces.is_empty() {
        vec!["*".to_owned()]
    } else {
        rule.namespaces.clone()
    };
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": name},
        "spec": {
            "hosts": hosts,
            "exportTo": export_to,
            "location": "MESH_EXTERNAL",
            "ports": ports,
            "resolution": resolution,
        },
    })
}

/// Each port once, with the protocol that it was asked for with most.
fn ports(patterns: &[&ProposedHost]) -> BTreeMap<u16, &'static str> {
    let mut counts: BTreeMap<(u16, &'static str), u64> = BTreeMap::new();
    for pattern in patterns {
        for ((port, protocol), count) in &pattern.tally.ports {
            let (default, protocol) = match protocol {
                Protocol::Http => (80, "HTTP"),
                Protocol::Tls => (443, "TLS"),
                Protocol::Tcp => (443, "TCP"),
            };
            *counts
                .entry((port.unwrap_or(default), protocol))
                .or_default() += count;
        }
    }
    let mut by_count: Vec<((u16, &str), u64)> = counts.into_iter().collect();
    by_count.sort_by_key(|(_, count)| *count);
    by_count.into_iter().map(|(key, _)| key).collect()
}
