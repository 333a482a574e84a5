//! Proposed rules as a unified diff of the policy's file.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use meridian_policy::Vantage;
use serde_json::{Value, json};
use similar::TextDiff;

use super::fragment::{block, comments, object};
use super::group::ProposedRule;
use super::learned::Learned;
use super::yaml_edit::{Addition, add};
use crate::policy::PolicyFile;
use crate::text::visible::excerpt;

/// The diff, with what is to be known beside it in comments before it, which `patch` passes over.
///
/// # Errors
/// If the text of the policy is such that the rules cannot be placed in it. What is made is read again
/// and compared, so that no diff is given that says anything else.
pub fn diff(
    learned: &Learned<'_>,
    path: &Path,
    text: &str,
    file: &PolicyFile,
) -> anyhow::Result<String> {
    let mut new = text.to_owned();
    let mut expected = file.json.clone();
    for vantage in Vantage::ALL {
        let all: Vec<&ProposedRule> = learned.rules_at(*vantage).collect();
        let rules: Vec<Value> = all
            .iter()
            .filter(|rule| rule.reasons.is_empty())
            .map(|rule| object(rule))
            .collect();
        if rules.is_empty() {
            continue;
        }
        let flow: Vec<String> = rules.iter().map(Value::to_string).collect();
        let addition = Addition {
            block: &|indent| {
                all.iter()
                    .map(|rule| block(rule, indent, learned.callers()))
                    .collect()
            },
            flow: &flow,
        };
        new = add(&new, *vantage, &addition).with_context(|| {
            format!(
                "cannot tell where rules of hosts.{vantage} go in this file: use --format fragment"
            )
        })?;
        expect(&mut expected, *vantage, rules);
    }
    match PolicyFile::parse(new.as_bytes()) {
        Ok(read) => ensure!(
            read.json == expected,
            "the rules would not come to stand where they belong in this file: use --format fragment"
        ),
        Err(errors) => {
            bail!("the policy with the rules would be refused ({errors}): use --format fragment")
        }
    }
    let name = excerpt(&path.display().to_string());
    let diff = TextDiff::from_lines(text, new.as_str());
    let unified = diff.unified_diff().header(&name, &name).to_string();
    Ok(comments(learned) + &unified)
}

fn expect(policy: &mut Value, vantage: Vantage, rules: Vec<Value>) {
    let mut node = policy;
    for key in ["hosts", vantage.as_str()] {
        if node.get(key).is_none() {
            node[key] = json!({});
        }
        node = &mut node[key];
    }
    match node.get_mut("rules").and_then(Value::as_array_mut) {
        Some(list) => list.extend(rules),
        None => node["rules"] = rules.into(),
    }
}
