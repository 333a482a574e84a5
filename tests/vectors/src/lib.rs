//! The cases that all three tiers share: how they are read, and how a policy is checked by them.
//!
//! Does no I/O, because tier 2 (wasm32 under Node) has no files: [`FILES`] and [`POLICIES`] carry
//! the texts, and a test checks that they hold the whole folder.
//!
//! README.md of this crate describes the format.

use std::collections::BTreeSet;

use meridian_policy::{
    Action, Date, Document, GatewayError, Policy, Principal, Request, Subject, TagWrite, Vantage,
    Verdict,
};
use serde::de::Deserialize;

mod compare;
pub mod connections;
mod format;

use compare::compare;
pub use connections::Connections;
pub use format::{
    Bytes, Case, DEFAULT_NAMESPACE, DEFAULT_SOURCE, EnvoyAnswer, Expect, ExpectDryRun, Wire,
};

macro_rules! texts {
    ($($name:literal),+ $(,)?) => { &[$(($name, include_str!(concat!("../", $name)))),+] };
}

/// Every file of requests, with its text.
pub const FILES: &[(&str, &str)] = texts![
    "canonical-names.yaml",
    "claimed-ports.yaml",
    "components.yaml",
    "conditions.yaml",
    "custom.yaml",
    "defaults.yaml",
    "direction-egress.yaml",
    "direction-inbound.yaml",
    "direction-ingress.yaml",
    "direction-outbound.yaml",
    "dry-run-sections.yaml",
    "dry-run.yaml",
    "expires.yaml",
    "gateways.yaml",
    "invalid-dry-run.yaml",
    "ipv4-spellings.yaml",
    "ipv6.yaml",
    "precedence.yaml",
    "protocols.yaml",
    "sni-missing-dry-run.yaml",
    "sni-missing.yaml",
    "sni-status.yaml",
    "sni.yaml",
    "spoofed-tags.yaml",
    "unwritten.yaml",
    "wildcards.yaml",
    "wire-forms.yaml",
];

/// Every policy that several files share, with its text.
pub const POLICIES: &[(&str, &str)] = texts![
    "policies/conditions.yaml",
    "policies/custom.yaml",
    "policies/dry-run.yaml",
    "policies/mesh.yaml",
    "policies/names.yaml",
    "policies/precedence.yaml",
];

/// One file: cases against one policy.
pub struct Vectors {
    /// The file's name, such as `wildcards.yaml`.
    pub file: &'static str,
    /// What the policy is called: its file under `policies/`, or this file when it is inline.
    pub policy_name: String,
    /// The policy as it was written.
    pub document: yaml_serde::Value,
    /// The same policy, ready to decide.
    pub policy: Policy,
    /// The cases in their order.
    pub cases: Vec<Case>,
}

impl Vectors {
    /// Reads all files.
    ///
    /// # Panics
    /// If a file or a policy is wrong; says which and why.
    pub fn all() -> Vec<Self> {
        let vectors: Vec<Self> = FILES
            .iter()
            .map(|(file, text)| {
                Self::read(file, text).unwrap_or_else(|error| panic!("{file}: {error}"))
            })
            .collect();
        let mut names = BTreeSet::new();
        for case in vectors.iter().flat_map(|vectors| &vectors.cases) {
            assert!(
                names.insert(&case.name),
                "two cases are called `{}`",
                case.name
            );
        }
        vectors
    }

    fn read(file: &'static str, text: &str) -> Result<Self, String> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            policy: yaml_serde::Value,
            cases: Vec<Case>,
        }
        let written: File = yaml_serde::from_str(text).map_err(|error| error.to_string())?;
        let (policy_name, document) = match written.policy {
            yaml_serde::Value::String(name) => {
                let path = format!("policies/{name}");
                let (_, text) = POLICIES
                    .iter()
                    .find(|(known, _)| *known == path)
                    .ok_or_else(|| format!("there is no policy {path}"))?;
                let document =
                    yaml_serde::from_str(text).map_err(|error| format!("{path}: {error}"))?;
                (name, document)
            }
            inline => (file.to_owned(), inline),
        };
        let read: Document =
            Document::deserialize(document.clone()).map_err(|error| error.to_string())?;
        let policy = Policy::from_document(&read).map_err(|errors| {
            let errors: Vec<String> = errors
                .iter()
                .map(|error| format!("{}: {}; {}", error.path, error.message, error.hint))
                .collect();
            format!("policy {policy_name}:\n{}", errors.join("\n"))
        })?;
        for case in &written.cases {
            case.validate()
                .map_err(|error| format!("`{}`: {error}", case.name))?;
            case.gateway(&policy)
                .map_err(|error| format!("`{}`: gateway: {error}", case.name))?;
        }
        Ok(Self {
            file,
            policy_name,
            document,
            policy,
            cases: written.cases,
        })
    }
}

/// Checks the policy crate by every case and returns their number, those included that Envoy
/// answers before any filter.
///
/// # Panics
/// If a case fails: lists every one that does.
pub fn check_all() -> usize {
    let all = Vectors::all();
    let connections = Connections::with_port(connections::PORT);
    let mut failures: Vec<String> = all
        .iter()
        .flat_map(|vectors| {
            vectors.cases.iter().filter_map(|case| {
                let error = case.check(&vectors.policy).err()?;
                Some(format!("{}: `{}`: {error}", vectors.file, case.name))
            })
        })
        .collect();
    failures.extend(connections.failures());
    assert!(
        failures.is_empty(),
        "{} cases fail:\n{}",
        failures.len(),
        failures.join("\n")
    );
    count()
}

/// How many cases there are, of requests and of connections.
pub fn count() -> usize {
    let connections = Connections::with_port(connections::PORT).cases.len();
    let requests = Vectors::all();
    let requests = requests.iter().map(|vectors| vectors.cases.len());
    requests.sum::<usize>() + connections
}

/// The document that the filter at a gateway is given, or at a sidecar: without the rules of other
/// gateways, and without the names of those that are left.
pub fn at_gateway(
    document: &yaml_serde::Value,
    vantage: Vantage,
    gateway: Option<&str>,
) -> yaml_serde::Value {
    let mut document = document.clone();
    let Some(hosts) = document.get_mut("hosts") else {
        return document;
    };
    for each in Vantage::ALL {
        let gateway = gateway.filter(|_| *each == vantage);
        let rules = hosts
            .get_mut(each.as_str())
            .and_then(|section| section.get_mut("rules"));
        let Some(yaml_serde::Value::Sequence(rules)) = rules else {
            continue;
        };
        rules.retain(|rule| match rule.get("gateways") {
            Some(yaml_serde::Value::Sequence(names)) => {
                names.iter().any(|name| name.as_str() == gateway)
            }
            _ => true,
        });
        for rule in rules
            .iter_mut()
            .filter_map(yaml_serde::Value::as_mapping_mut)
        {
            rule.remove("gateways");
        }
    }
    document
}

impl Case {
    /// The gateway that the case is at, where that makes a difference.
    ///
    /// # Errors
    /// If the policy has no such gateway, or has several and none is named.
    pub fn gateway<'p>(&self, policy: &'p Policy) -> Result<Option<&'p str>, GatewayError<'p>> {
        policy.gateway(self.at, self.gateway.as_deref())
    }

    /// The decision of a policy; `None` where no filter is ever asked.
    pub fn decide(&self, policy: &Policy) -> Option<Verdict> {
        self.ask(policy, |request| {
            policy.decide(self.at, Subject::Request, request)
        })
    }

    /// What `question` says of the request as the policy gets it; `None` where no filter is asked.
    pub fn ask<T>(
        &self,
        policy: &Policy,
        question: impl FnOnce(&mut Request<'_>) -> T,
    ) -> Option<T> {
        let tag = self.sent_tag(policy);
        let mut request = Request::new(&self.authority.as_ref()?.0);
        request.source = self.source;
        request.destination = self.destination;
        request.peer = self.principal.as_deref().and_then(Principal::parse);
        request.sni = self.sni.as_deref().map(str::as_bytes);
        request.tls = self.is_tls();
        request.cluster = self.cluster.as_deref();
        request.tag = tag.as_deref();
        request.forwarded = self.sends("x-forwarded-for");
        request.namespace = Some(&self.namespace);
        // Of no case is it an error: they are read with their policies.
        request.gateway = self.gateway(policy).ok().flatten();
        // Any day will do between the two that expires.yaml names; real Envoy has its own clock.
        request.today = Date::parse("2026-11-24");
        Some(question(&mut request))
    }

    fn sends(&self, header: &str) -> bool {
        self.headers
            .keys()
            .any(|name| name.eq_ignore_ascii_case(header))
    }

    /// The tag as a proxy hands it on: the values of several headers joined with commas.
    fn sent_tag(&self, policy: &Policy) -> Option<Vec<u8>> {
        let header = &policy.tags.direction_header;
        let mut values: Vec<&[u8]> = self.tag.iter().map(|tag| tag.0.as_slice()).collect();
        values.extend(
            self.headers
                .iter()
                .filter(|(name, _)| name.eq_ignore_ascii_case(header))
                .map(|(_, value)| value.as_bytes()),
        );
        (!values.is_empty()).then(|| values.join(&b","[..]))
    }

    /// Checks a policy's decision on this case.
    ///
    /// # Errors
    /// Everything that is not as expected, in one line.
    pub fn check(&self, policy: &Policy) -> Result<(), String> {
        let Some(verdict) = self.decide(policy) else {
            return Ok(());
        };
        let expect = &self.expect;
        let section = policy.section(self.at);
        let rule = |label: &str| {
            let reserved = ["default", "invalid-host", "sni-mismatch"];
            (!reserved.contains(&label)).then(|| label.to_owned())
        };
        let label = verdict.reason.label(section);
        let status = policy.refusal(&verdict).map(|refusal| refusal.status);
        let host = verdict.host().map(ToString::to_string);
        let mut found = Vec::new();
        compare(&mut found, "decision", expect.decision, verdict.decision);
        compare(&mut found, "rule", expect.rule.clone(), rule(label));
        compare(&mut found, "label", expect.label(), label.to_owned());
        compare(&mut found, "status", expect.status.map(Some), status);
        compare(&mut found, "direction", expect.direction, verdict.direction);
        compare(&mut found, "evidence", expect.evidence, verdict.evidence);
        compare(
            &mut found,
            "component",
            expect.component.map(Some),
            verdict.component,
        );
        compare(&mut found, "host", expect.host.clone(), host);
        if verdict.decision == Action::Allow {
            let tag = match verdict.tags {
                Some(TagWrite::Replace) => Some(verdict.direction.to_string()),
                Some(TagWrite::Remove) | None => None,
            };
            compare(&mut found, "tag", expect.tag.clone(), tag);
        }
        if let Some(expected) = &expect.dry_run {
            let dry_run = verdict.dry_run;
            compare(
                &mut found,
                "dry_run",
                Some(expected.is_some()),
                dry_run.is_some(),
            );
            if let (Some(expected), Some(dry_run)) = (expected, dry_run) {
                let label = dry_run.reason.label(section);
                compare(
                    &mut found,
                    "dry_run.decision",
                    expected.decision,
                    dry_run.decision,
                );
                compare(
                    &mut found,
                    "dry_run.rule",
                    expected.rule.clone(),
                    rule(label),
                );
            }
        }
        if found.is_empty() {
            Ok(())
        } else {
            Err(found.join("; "))
        }
    }
}
