//! Proposed rules as text: the fragment of a policy, and what is said beside it in comments.

use std::fmt::Write;

use meridian_policy::{MAX_RULES, Vantage};
use serde_json::{Value, json};

use super::callers::Callers;
use super::group::ProposedRule;
use super::learned::Learned;
use super::observe::MAX_HOSTS;
use crate::text::numbers::counted;

/// How many names of a wildcard are shown.
const MAX_NAMES: usize = 5;
/// How many suspicious hosts are listed; JSON has them all.
const MAX_LISTED: usize = 100;

/// A policy of nothing but the proposed rules.
pub fn fragment(learned: &Learned<'_>) -> String {
    let mut text = String::new();
    for vantage in Vantage::ALL {
        let rules: Vec<&ProposedRule> = learned.rules_at(*vantage).collect();
        if rules.is_empty() {
            continue;
        }
        if text.is_empty() {
            text += "hosts:\n";
        }
        // With nothing but comments below it, a key would have the value null.
        let only_comments = rules.iter().all(|rule| !rule.reasons.is_empty());
        let comment = if only_comments { "# " } else { "" };
        let _ = write!(text, "  {comment}{vantage}:\n    {comment}rules:\n");
        for rule in rules {
            text += &block(rule, 4, learned.callers());
        }
    }
    if learned.proposed() == 0 {
        // A mapping with nothing but comments in it.
        text = text.replacen("hosts:\n", "# hosts:\n", 1);
    }
    text + &comments(learned)
}

/// A rule as an item of a block sequence whose dashes stand in column `indent`. One to be looked at
/// first is a comment.
pub fn block(rule: &ProposedRule, indent: usize, callers: &Callers) -> String {
    let mut lines = Vec::new();
    let name = &rule.name;
    lines.push(format!("- name: {name}"));
    lines.push("  hosts:".to_owned());
    let is_alone = rule.hosts.len() == 1;
    for pattern in &rule.hosts {
        let texts = pattern.texts();
        for (index, text) in texts.iter().enumerate() {
            let mut line = format!("  - {}", yaml(text));
            if index == 0 && pattern.is_wildcard {
                let names: Vec<&str> = pattern
                    .names
                    .iter()
                    .take(MAX_NAMES)
                    .map(String::as_str)
                    .collect();
                let more = if pattern.names.len() > MAX_NAMES {
                    ", …"
                } else {
                    ""
                };
                let count = pattern.names.len();
                let _ = write!(line, "  # for {count} names: {}{more}", names.join(", "));
            } else if index == 0 && !is_alone {
                let _ = write!(line, "  # {}", counted(pattern.tally.requests, "request"));
            }
            lines.push(line);
        }
    }
    lines.push("  action: allow".to_owned());
    if let Some(gateway) = &rule.gateway {
        lines.push(format!("  gateways: [{}]", yaml(gateway)));
    }
    if !rule.namespaces.is_empty() {
        // Namespaces are labels: as a plain scalar one could be a number or `true`.
        let names: Vec<String> = rule.namespaces.iter().map(|name| yaml(name)).collect();
        lines.push(format!("  from: {{namespaces: [{}]}}", names.join(", ")));
    }
    let margin = " ".repeat(indent);
    let also: usize = rule.hosts.iter().map(|pattern| pattern.suspicious).sum();
    let comment = if rule.reasons.is_empty() { "" } else { "# " };
    let mut text = String::new();
    for reason in &rule.reasons {
        let _ = writeln!(
            text,
            "{margin}# LOOK FIRST, {}: {}",
            reason.word, reason.text
        );
    }
    let _ = writeln!(text, "{margin}# {}", rule.tally.summary(callers));
    if also > 0 {
        let count = counted(also as u64, "name");
        let _ = writeln!(
            text,
            "{margin}# LOOK FIRST: a wildcard allows {count} of those listed apart"
        );
    }
    if !rule.namespaces.is_empty() {
        let strangers = rule.tally.callers.iter();
        let strangers = strangers.filter(|(caller, _)| callers.get(*caller).namespace().is_none());
        let uncovered = rule.tally.further + strangers.map(|(_, count)| count).sum::<u64>();
        if uncovered > 0 {
            let count = counted(uncovered, "request");
            let _ = writeln!(text, "{margin}# {count} of others may stay refused");
        }
    }
    for line in lines {
        let _ = writeln!(text, "{margin}{comment}{line}");
    }
    text
}

/// A rule as an object of JSON, which is YAML as well.
pub fn object(rule: &ProposedRule) -> Value {
    let hosts: Vec<String> = rule
        .hosts
        .iter()
        .flat_map(|pattern| pattern.texts())
        .collect();
    let mut object = json!({"name": rule.name, "hosts": hosts, "action": "allow"});
    if let Some(gateway) = &rule.gateway {
        object["gateways"] = json!([gateway]);
    }
    if !rule.namespaces.is_empty() {
        object["from"] = json!({"namespaces": rule.namespaces});
    }
    object
}

/// What is to be known beside the rules, each line a comment.
pub fn comments(learned: &Learned<'_>) -> String {
    let mut lines = Vec::new();
    let seen = learned.observations;
    lines.push(format!(
        "{} looked at, {} proposed",
        counted(seen.taken, "entry"),
        counted(learned.proposed() as u64, "rule")
    ));
    if learned.allowed > 0 {
        lines.push(format!(
            "{} allowed by the policy already",
            counted(learned.allowed as u64, "host")
        ));
    }
    if learned.rules_at(Vantage::Ingress).next().is_some() {
        lines.push(
            "at ingress any client can ask for any host: take the names that are yours".to_owned(),
        );
    }
    let lost = seen.overflow + seen.invalid_overflow;
    if lost > 0 {
        lines.push(format!(
            "NOT ALL: {} for hosts beyond the {} that are kept",
            counted(lost, "request"),
            MAX_HOSTS
        ));
    }
    if learned.without_room > 0 {
        lines.push(format!(
            "NOT ALL: no room for {}, a section has at most {MAX_RULES}",
            counted(learned.without_room as u64, "rule")
        ));
    }
    if !learned.suspicious.is_empty() {
        lines.push("not proposed, look first:".to_owned());
        for each in learned.suspicious.iter().take(MAX_LISTED) {
            let reasons: Vec<String> = each
                .reasons
                .iter()
                .map(|reason| format!("{}: {}", reason.word, reason.text))
                .collect();
            lines.push(format!(
                "  {:<8} {}  {} ({})",
                each.at.as_str(),
                each.host,
                reasons.join("; "),
                each.tally.summary(learned.callers())
            ));
        }
        if let Some(more) = learned
            .suspicious
            .len()
            .checked_sub(MAX_LISTED)
            .filter(|more| *more > 0)
        {
            lines.push(format!("  … and {more} more, see --json"));
        }
    }
    let mut text = String::new();
    for line in lines {
        let _ = writeln!(text, "# {line}");
    }
    text
}

/// The object of `--json`.
pub fn json(learned: &Learned<'_>) -> Value {
    let tally = |tally: &super::tally::Tally| {
        let callers: Vec<Value> = tally
            .callers
            .iter()
            .map(|(caller, requests)| {
                json!({"caller": learned.callers().get(*caller).name(), "requests": requests})
            })
            .collect();
        json!({
            "requests": tally.requests,
            "callers": callers,
            "further_callers_requests": tally.further,
            "first": tally.first.map(|time| time.to_string()),
            "last": tally.last.map(|time| time.to_string()),
        })
    };
    let with = |mut value: Value, more: Value| {
        if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
            value.extend(more);
        }
        value
    };
    let reasons = |reasons: &[super::judge::Suspicion]| -> Value {
        reasons
            .iter()
            .map(|reason| json!({"reason": reason.word, "text": reason.text}))
            .collect()
    };
    let proposals: Vec<Value> = learned
        .rules
        .iter()
        .filter(|rule| rule.reasons.is_empty())
        .map(|rule| {
            let hosts: Vec<Value> = rule
                .hosts
                .iter()
                .map(|pattern| {
                    let value = json!({"patterns": pattern.texts(), "names": pattern.names});
                    with(value, tally(&pattern.tally))
                })
                .collect();
            let value = json!({"at": rule.at.as_str(), "rule": object(rule), "hosts": hosts});
            with(value, tally(&rule.tally))
        })
        .collect();
    let suspicious: Vec<Value> = learned
        .suspicious
        .iter()
        .map(|each| {
            let value = json!({
                "at": each.at.as_str(),
                "host": each.host,
                "reasons": reasons(&each.reasons),
            });
            with(value, tally(&each.tally))
        })
        .collect();
    let seen = learned.observations;
    json!({
        "proposals": proposals,
        "suspicious": suspicious,
        "allowed_already": learned.allowed,
        "without_room": learned.without_room,
        "entries": seen.taken,
        "without_vantage": seen.without_vantage,
        "overflow": seen.overflow + seen.invalid_overflow,
    })
}

/// The text as a YAML scalar, quoted unless it is a name that can be taken for nothing else.
pub fn yaml(text: &str) -> String {
    let is_plain = text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.contains('.')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte))
        && !text.ends_with(':');
    if is_plain {
        text.to_owned()
    } else {
        serde_json::Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_what_is_a_name_stays_unquoted() {
        for (text, yaml) in [
            ("a.example", "a.example"),
            ("a.example:8443", "a.example:8443"),
            ("*.a.example", "\"*.a.example\""),
            ("1.2e3", "\"1.2e3\""),
            ("true", "\"true\""),
            ("_a.example", "\"_a.example\""),
        ] {
            assert_eq!(super::yaml(text), yaml);
        }
    }
}
