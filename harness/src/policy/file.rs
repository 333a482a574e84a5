//! A policy as people write it: a file in YAML or JSON.

use std::fmt;
use std::path::Path;

use anyhow::Context;
use meridian_policy::{ConfigError, Document, Policy, StringList, Vantage};
use serde_json::Value;

use crate::policy::yaml::{self, TooLarge};

/// The policy that the examples are rendered from and that runs where none is named.
pub const SAMPLE: &str = include_str!("../../../examples/policy.yaml");

/// What is expected of the sample policy, for `meridian test`.
pub const SAMPLE_EXPECTATIONS: &str = include_str!("../../../examples/policy.test.yaml");

/// A policy that was read without an error.
#[derive(Debug, Clone)]
pub struct PolicyFile {
    /// The document in JSON, names in A-labels: what the filters get.
    pub json: Value,
    /// The policy.
    pub policy: Policy,
}

/// Every error of a policy document.
#[derive(Debug, Clone)]
pub struct PolicyErrors(pub Vec<ConfigError>);

impl fmt::Display for PolicyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let line_break = if index == 0 { "" } else { "\n" };
            write!(f, "{line_break}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyErrors {}

/// A revision as people see it: twelve hexadecimal digits. Prometheus shows the same number in decimal.
pub fn revision_text(revision: u64) -> String {
    format!("{revision:012x}")
}

impl PolicyFile {
    /// The revision that the filters report for this policy: what it says itself, else see
    /// [`meridian_policy::revision`].
    pub fn revision(&self) -> u64 {
        let hash = || meridian_policy::revision(self.json.to_string().as_bytes());
        self.policy.revision.unwrap_or_else(hash)
    }

    /// How many rules it has, in all sections.
    pub fn rules(&self) -> usize {
        let sections = Vantage::ALL.iter();
        let rules = sections.map(|vantage| self.policy.section(*vantage).rules.len());
        rules.sum()
    }

    /// Reads the file; `None` is the sample policy.
    ///
    /// # Errors
    /// [`PolicyErrors`] when the document is wrong; another error when the file cannot be read.
    pub fn load(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else {
            return Ok(Self::parse(SAMPLE.as_bytes())?);
        };
        let bytes = std::fs::read(path)
            .with_context(|| format!("cannot read the policy {}", path.display()))?;
        Ok(Self::parse(&bytes)?)
    }

    /// Reads a document in JSON or YAML.
    ///
    /// # Errors
    /// Every error of the document.
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyErrors> {
        let mut document = read(bytes).map_err(|error| PolicyErrors(vec![error]))?;
        let mut errors = Vec::new();
        to_a_labels(&mut document, "", &mut errors);
        match Policy::from_document(&document) {
            Ok(policy) if errors.is_empty() => Ok(Self {
                json: to_json(&document),
                policy,
            }),
            Ok(_) => Err(PolicyErrors(errors)),
            Err(more) => {
                // A name that could not be converted is reported once.
                errors.extend(
                    more.into_iter()
                        .filter(|error| !errors.iter().any(|known| known.path == error.path))
                        .collect::<Vec<_>>(),
                );
                Err(PolicyErrors(errors))
            }
        }
    }
}

/// Reads JSON as the filters do, and what is none as YAML.
fn read(bytes: &[u8]) -> Result<Document<'_>, ConfigError> {
    let error = |message: String, hint: &str| ConfigError {
        path: String::new(),
        message,
        hint: hint.to_owned(),
    };
    let text = std::str::from_utf8(bytes).map_err(|invalid| {
        let line = 1 + bytes
            .iter()
            .take(invalid.valid_up_to())
            .filter(|byte| **byte == b'\n')
            .count();
        error(
            format!("is not UTF-8 at line {line}"),
            "save the file in UTF-8",
        )
    })?;
    let json = match Document::from_json(bytes) {
        Ok(document) => return Ok(document),
        Err(error) => error,
    };
    // The YAML reader takes a time that grows with the square of the depth.
    if text.trim().is_empty() || json.message.contains("recursion limit") {
        return Err(json);
    }
    yaml::bound(text).map_err(|large| ConfigError {
        message: large.to_string(),
        hint: TooLarge::HINT.to_owned(),
        path: large.path,
    })?;
    yaml_serde::from_str(text).map_err(|invalid| {
        error(
            format!("is not YAML: {invalid}"),
            "write one YAML or JSON document, the policy",
        )
    })
}

/// Turns the names in `hosts` and `notHosts` from Unicode into A-labels (UTS #46), which is how
/// they arrive in requests.
fn to_a_labels(document: &mut Document, path: &str, errors: &mut Vec<ConfigError>) {
    match document {
        Document::Mapping(entries) => {
            for (key, value) in entries {
                let path = match path {
                    "" => key.clone(),
                    parent => format!("{parent}.{key}"),
                };
                match value {
                    Document::Strings(list) if key == "hosts" || key == "notHosts" => {
                        convert_list(list, &path, errors);
                    }
                    value => to_a_labels(value, &path, errors),
                }
            }
        }
        Document::List(list) => {
            for (index, value) in list.iter_mut().enumerate() {
                to_a_labels(value, &format!("{path}[{index}]"), errors);
            }
        }
        _ => {}
    }
}

fn convert_list(list: &mut StringList, path: &str, errors: &mut Vec<ConfigError>) {
    if list.iter().all(str::is_ascii) {
        return;
    }
    let mut converted = StringList::default();
    for (index, host) in list.iter().enumerate() {
        let ascii = convert(host).unwrap_or_else(|| {
            errors.push(ConfigError {
                path: format!("{path}[{index}]"),
                message: format!("{host:?} is not an internationalised name"),
                hint: "write a name that UTS #46 allows, or its A-label form (xn--…)".to_owned(),
            });
            host.to_owned()
        });
        converted.push(&ascii);
    }
    *list = converted;
}

/// The A-label form of a pattern; `None` if its name has none.
fn convert(host: &str) -> Option<String> {
    let (wildcard, name) = match host.strip_prefix("*.") {
        Some(name) => ("*.", name),
        None => ("", host),
    };
    let (name, port) = match name.rsplit_once(':') {
        Some((name, port)) => (name, format!(":{port}")),
        None => (name, String::new()),
    };
    // The mapping makes `*` and `/` of their full-width forms: a name must not become a pattern.
    let is_name = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
    };
    let ascii = idna::domain_to_ascii(name)
        .ok()
        .filter(|ascii| is_name(ascii))?;
    Some(format!("{wildcard}{ascii}{port}"))
}

fn to_json(document: &Document) -> Value {
    match document {
        Document::Null => Value::Null,
        Document::Bool(value) => Value::from(*value),
        Document::Integer(value) => Value::from(*value),
        Document::Float(value) => Value::from(*value),
        Document::String(value) => Value::from(&**value),
        Document::Strings(list) => list.iter().collect(),
        Document::List(list) => list.iter().map(to_json).collect(),
        Document::Mapping(entries) => entries
            .iter()
            .map(|(key, value)| (key.clone(), to_json(value)))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_a_policy() {
        PolicyFile::load(None).unwrap();
    }

    #[test]
    fn a_part_of_a_policy_has_the_revision_of_the_whole() {
        let whole = PolicyFile::parse(b"deny: {status: 404}").unwrap();
        assert_eq!(whole.policy.revision, None);
        let revision = revision_text(whole.revision());
        let part = format!("{{revision: '{revision}', deny: {{status: 404}}}}");
        let part = PolicyFile::parse(part.as_bytes()).unwrap();
        assert_eq!(part.revision(), whole.revision());
        assert_ne!(part.json, whole.json);
    }

    #[test]
    fn names_in_unicode_become_a_labels() {
        let file = PolicyFile::parse(
            "hosts: {ingress: {rules: [{name: a, action: allow, hosts: ['*.Bücher.example:443', 日本.example]}]}}"
                .as_bytes(),
        )
        .unwrap();
        assert_eq!(
            file.json["hosts"]["ingress"]["rules"][0]["hosts"],
            serde_json::json!(["*.xn--bcher-kva.example:443", "xn--wgv71a.example"])
        );
    }

    #[test]
    fn a_name_in_unicode_never_becomes_a_pattern() {
        for host in [
            "＊",
            "\u{ad}*",
            "＊.example.com",
            "0.0.0.0／0",
            "\u{200b}*.com",
        ] {
            let text = format!(
                "hosts: {{ingress: {{rules: [{{name: a, action: allow, hosts: ['{host}']}}]}}}}"
            );
            let errors = PolicyFile::parse(text.as_bytes()).unwrap_err();
            assert_eq!(
                errors.0[0].path, "hosts.ingress.rules[0].hosts[0]",
                "{host}"
            );
        }
    }

    #[test]
    fn all_errors_of_a_document_are_located() {
        let errors = PolicyFile::parse(
            b"mesh: {cidr: []}\nhosts:\n  ingress:\n    rules:\n    - {name: A, hosts: ['*x', 1], action: maybe}\n",
        )
        .unwrap_err();
        let paths: Vec<&str> = errors.0.iter().map(|error| error.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "mesh.cidr",
                "hosts.ingress.rules[0].name",
                "hosts.ingress.rules[0].action",
                "hosts.ingress.rules[0].hosts[0]",
                "hosts.ingress.rules[0].hosts[1]",
            ]
        );
    }
}
