//! `meridian explain`: what a policy says of one request or connection, and why.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use meridian_policy::{
    Action, ConnectionVerdict, Direction, DirectionEvidence, DryRun, Host, Policy, Reason,
    TagWrite, Vantage, Verdict,
};
use serde_json::{Value, json};

pub(crate) use crate::policy::query::{parse_vantage, today};

use crate::policy::PolicyFile;
use crate::policy::query::{Asked, Misplaced};

pub mod candidates;

/// What the verb is run with.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The policy, in YAML or JSON
    #[arg(long, value_name = "FILE")]
    pub policy: PathBuf,
    /// What is asked about.
    #[command(flatten)]
    pub asked: Asked,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Prints what the policy says of the request or connection. Exits 0 whatever it says.
///
/// # Errors
/// If an argument cannot stand beside the others, or the policy cannot be read.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let asked = &options.asked;
    if let Err(Misplaced { field, message }) = asked.validate() {
        anyhow::bail!("--{field} {message}");
    }
    let file = PolicyFile::load(Some(&options.policy))?;
    let request = &mut asked.request();
    let rows = if asked.connection {
        candidates::connection_rows(&file, asked.at, request)
    } else {
        candidates::rows(&file, asked.at, request)
    };
    if options.json {
        let mut value = to_json(&file.policy, asked);
        value["candidates"] = candidates::to_json(&rows);
        println!("{value}");
    } else {
        let text = if asked.connection {
            connection(&file.policy, asked).to_text()
        } else {
            let verdict = file.policy.decide(asked.at, request);
            Explanation {
                policy: &file.policy,
                vantage: asked.at,
                verdict: &verdict,
            }
            .to_text()
        };
        print!("{text}{}", candidates::to_text(&rows));
    }
    Ok(ExitCode::SUCCESS)
}

/// What `--json` prints, but for the candidates.
pub fn to_json(policy: &Policy, asked: &Asked) -> Value {
    if asked.connection {
        return connection(policy, asked).to_json();
    }
    let verdict = policy.decide(asked.at, &mut asked.request());
    Explanation {
        policy,
        vantage: asked.at,
        verdict: &verdict,
    }
    .to_json()
}

fn connection<'p>(policy: &'p Policy, asked: &Asked) -> ConnectionExplanation<'p> {
    ConnectionExplanation {
        policy,
        vantage: asked.at,
        verdict: policy.decide_connection(asked.at, &mut asked.request()),
    }
}

/// A verdict over a request in words.
#[derive(Debug, Clone, Copy)]
pub struct Explanation<'v> {
    /// The policy that decided.
    pub policy: &'v Policy,
    /// Where.
    pub vantage: Vantage,
    /// What it decided.
    pub verdict: &'v Verdict,
}

impl Explanation<'_> {
    /// The object of `--json`.
    pub fn to_json(&self) -> Value {
        let refusal = self.policy.refusal(self.verdict);
        let mut value = self.said().to_json();
        value["status"] = json!(refusal.map(|refusal| refusal.status));
        value["component_type"] = json!(self.verdict.component.as_str());
        value
    }

    /// A line for each thing that was found out.
    pub fn to_text(&self) -> String {
        let refusal = self.policy.refusal(self.verdict);
        let status = refusal.map(|refusal| format!(" with {}", refusal.status));
        let component = format!("component  {}\n", self.verdict.component);
        let header = &self.policy.tags.direction_header;
        let tag = match (self.verdict.decision, self.verdict.tags) {
            (Action::Deny, _) => String::new(),
            (Action::Allow, TagWrite::Replace) => {
                format!("tag        {header}: {}\n", self.verdict.direction)
            }
            (Action::Allow, TagWrite::Remove) => format!("tag        {header} is removed\n"),
        };
        self.said()
            .to_text(&status.unwrap_or_default(), &component, &tag)
    }

    fn said(&self) -> Said<'_> {
        Said {
            policy: self.policy,
            vantage: self.vantage,
            decision: self.verdict.decision,
            reason: self.verdict.reason,
            direction: self.verdict.direction,
            evidence: self.verdict.evidence,
            host: self.verdict.host(),
            dry_run: self.verdict.dry_run,
        }
    }
}

/// A verdict over a connection that passes unread, in words.
#[derive(Debug, Clone)]
struct ConnectionExplanation<'p> {
    policy: &'p Policy,
    vantage: Vantage,
    verdict: ConnectionVerdict,
}

impl ConnectionExplanation<'_> {
    fn to_json(&self) -> Value {
        let mut value = self.said().to_json();
        value["closed"] = json!(self.verdict.decision == Action::Deny);
        value
    }

    fn to_text(&self) -> String {
        let closed = match self.verdict.decision {
            Action::Deny => ", the connection is closed",
            Action::Allow => "",
        };
        self.said().to_text(closed, "", "")
    }

    fn said(&self) -> Said<'_> {
        let authority = self.verdict.authority.as_ref();
        Said {
            policy: self.policy,
            vantage: self.vantage,
            decision: self.verdict.decision,
            reason: self.verdict.reason,
            direction: self.verdict.direction,
            evidence: self.verdict.evidence,
            host: authority.map(|authority| &authority.host),
            dry_run: self.verdict.dry_run,
        }
    }
}

/// What a policy says of requests and connections alike.
struct Said<'v> {
    policy: &'v Policy,
    vantage: Vantage,
    decision: Action,
    reason: Reason,
    direction: Direction,
    evidence: DirectionEvidence,
    host: Option<&'v Host>,
    dry_run: Option<DryRun>,
}

impl Said<'_> {
    fn to_json(&self) -> Value {
        json!({
            "decision": self.decision.as_str(),
            "rule": self.rule(self.reason),
            "reason": self.reason(self.decision, self.reason),
            "direction": self.direction.as_str(),
            "evidence": self.evidence.as_str(),
            "host": self.host.map(ToString::to_string),
            "dry_run": self.dry_run.map(|dry_run| json!({
                "decision": dry_run.decision.as_str(),
                "rule": self.rule(dry_run.reason),
                "reason": self.reason(dry_run.decision, dry_run.reason),
            })),
        })
    }

    /// The lines, with `how` behind the decision and the lines `component` and `tag` in their places.
    fn to_text(&self, how: &str, component: &str, tag: &str) -> String {
        let host = self.host.map(|host| format!("host       {host}\n"));
        let dry_run = self.dry_run.map(|dry_run| {
            format!(
                "dry run    would {}: {}\n",
                dry_run.decision,
                self.reason(dry_run.decision, dry_run.reason)
            )
        });
        format!(
            "decision   {}{how}: {}\ndirection  {}: {} ({})\n{component}{}{tag}{}",
            self.decision,
            self.reason(self.decision, self.reason),
            self.direction,
            self.evidence.sentence(),
            self.evidence,
            host.unwrap_or_default(),
            dry_run.unwrap_or_default(),
        )
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
