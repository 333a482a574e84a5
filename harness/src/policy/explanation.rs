//! A verdict in words, for people and as JSON.

use meridian_policy::{Action, Policy, Reason, Subject, TagWrite, Vantage, Verdict};
use serde_json::{Value, json};

use crate::policy::query::Query;

/// What a policy says of one request or connection.
#[derive(Debug, Clone)]
pub struct Explanation<'p> {
    /// The policy that decided.
    pub policy: &'p Policy,
    /// Where.
    pub vantage: Vantage,
    /// At which gateway, where that makes a difference.
    pub gateway: Option<String>,
    /// On what.
    pub subject: Subject,
    /// What it decided.
    pub verdict: Verdict,
}

impl<'p> Explanation<'p> {
    /// What the policy says of what the query describes.
    pub fn of(policy: &'p Policy, query: &Query) -> Self {
        let (vantage, subject) = (query.at, query.subject());
        Self {
            policy,
            vantage,
            gateway: query.gateway.clone(),
            subject,
            verdict: policy.decide(vantage, subject, &mut query.request()),
        }
    }

    /// The object of `meridian explain --json`, but for the candidates. Only a request has `status` and
    /// `component_type`, only a connection `closed`.
    pub fn to_json(&self) -> Value {
        let Verdict {
            decision,
            reason,
            direction,
            evidence,
            component,
            dry_run,
            ..
        } = self.verdict;
        let mut value = json!({
            "decision": decision.as_str(),
            "rule": self.rule(reason),
            "reason": self.reason(decision, reason),
            "direction": direction.as_str(),
            "evidence": evidence.as_str(),
            "host": self.verdict.host().map(ToString::to_string),
            "dry_run": dry_run.map(|dry_run| json!({
                "decision": dry_run.decision.as_str(),
                "rule": self.rule(dry_run.reason),
                "reason": self.reason(dry_run.decision, dry_run.reason),
            })),
        });
        match self.subject {
            Subject::Request => {
                let refusal = self.policy.refusal(&self.verdict);
                value["status"] = json!(refusal.map(|refusal| refusal.status));
                value["component_type"] = json!(component.map(|component| component.as_str()));
            }
            Subject::Connection => value["closed"] = json!(decision == Action::Deny),
        }
        value
    }

    /// A line for each thing that was found out.
    pub fn to_text(&self) -> String {
        let verdict = &self.verdict;
        let mut lines = vec![
            format!(
                "decision   {}{}: {}",
                verdict.decision,
                self.consequence(),
                self.reason(verdict.decision, verdict.reason)
            ),
            format!(
                "direction  {}: {} ({})",
                verdict.direction,
                verdict.evidence.sentence(),
                verdict.evidence
            ),
        ];
        if let Some(component) = verdict.component {
            lines.push(format!("component  {component}"));
        }
        if let Some(host) = verdict.host() {
            lines.push(format!("host       {host}"));
        }
        if let Some(gateway) = &self.gateway {
            lines.push(format!("gateway    {gateway}"));
        }
        let header = &self.policy.tags.direction_header;
        match verdict.tags {
            Some(_) if verdict.decision == Action::Deny => {}
            Some(TagWrite::Replace) => {
                lines.push(format!("tag        {header}: {}", verdict.direction));
            }
            Some(TagWrite::Remove) => lines.push(format!("tag        {header} is removed")),
            None => {}
        }
        if let Some(dry_run) = verdict.dry_run {
            let reason = self.reason(dry_run.decision, dry_run.reason);
            lines.push(format!("dry run    would {}: {reason}", dry_run.decision));
        }
        lines.join("\n") + "\n"
    }

    /// What the client of a refused request or connection sees; empty when it goes on.
    fn consequence(&self) -> String {
        match (self.subject, self.policy.refusal(&self.verdict)) {
            (_, None) => String::new(),
            (Subject::Request, Some(refusal)) => format!(" with {}", refusal.status),
            (Subject::Connection, Some(_)) => ", the connection is closed".to_owned(),
        }
    }

    fn rule(&self, reason: Reason) -> Option<&str> {
        match reason {
            Reason::Rule(_) => Some(reason.label(self.policy.section(self.vantage))),
            Reason::Default | Reason::InvalidHost(_) | Reason::SniMismatch => None,
        }
    }

    fn reason(&self, decision: Action, reason: Reason) -> String {
        let section = self.policy.section(self.vantage);
        let vantage = self.vantage;
        match reason {
            Reason::Rule(_) => {
                format!(
                    "rule {:?} of hosts.{vantage} says {decision}",
                    reason.label(section)
                )
            }
            Reason::Default if section.default != decision => {
                format!("hosts.{vantage} is in dry run")
            }
            Reason::Default => {
                format!("no rule of hosts.{vantage} matches, and its default is {decision}")
            }
            Reason::InvalidHost(invalid) => format!("the host is invalid: {invalid}"),
            Reason::SniMismatch => "the TLS connection was not opened for this host".to_owned(),
        }
    }
}
