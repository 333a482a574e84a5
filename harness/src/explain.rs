//! `meridian explain`: what a policy says of one request, and why.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args;
use meridian_policy::{
    Action, Date, Policy, Principal, Reason, Request, TagWrite, Vantage, Verdict,
};
use serde_json::{Value, json};

use crate::candidates;
use crate::policy_file::PolicyFile;

/// What the verb is run with.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The policy, in YAML or JSON
    #[arg(long, value_name = "FILE")]
    pub policy: PathBuf,
    /// Where the filter stands: ingress, egress, inbound or outbound
    #[arg(long, value_name = "VANTAGE", value_parser = parse_vantage)]
    pub at: Vantage,
    /// The authority (Host header) as the client writes it
    #[arg(long, value_name = "HOST")]
    pub authority: String,
    /// The client's address
    #[arg(long, value_name = "IP:PORT", value_parser = parse_address)]
    pub source: Option<IpAddr>,
    /// The address that the client dials, for passthrough at outbound
    #[arg(long, value_name = "IP:PORT", value_parser = parse_address)]
    pub destination: Option<IpAddr>,
    /// The peer's identity by mutual TLS, as in cluster.local/ns/shop/sa/cart
    #[arg(long, value_name = "ID", value_parser = parse_principal)]
    pub principal: Option<Principal>,
    /// The namespace of the workload behind the sidecar
    #[arg(long, value_name = "NS")]
    pub namespace: Option<String>,
    /// The server name (SNI) of the client's TLS connection
    #[arg(long, value_name = "NAME")]
    pub sni: Option<String>,
    /// The cluster of the route, as in outbound|80||cart.shop.svc.cluster.local
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// The value of the direction header as it arrives
    #[arg(long, value_name = "VALUE")]
    pub tag: Option<String>,
    /// The day, for rules that expire; without it today, in UTC
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = parse_date)]
    pub today: Option<Date>,
    /// The request carries x-forwarded-for
    #[arg(long)]
    pub forwarded: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

pub(crate) fn parse_vantage(text: &str) -> Result<Vantage, String> {
    Vantage::from_word(text).ok_or_else(|| {
        format!(
            "write one of {}",
            Vantage::ALL
                .iter()
                .map(|word| word.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        )
    })
}

pub(crate) fn parse_address(text: &str) -> Result<IpAddr, String> {
    let with_port = text.parse::<SocketAddr>().map(|address| address.ip());
    with_port
        .or_else(|_| text.trim_matches(['[', ']']).parse())
        .map_err(|_| "write IP:PORT, such as 203.0.113.7:51234 or [2001:db8::1]:51234".to_owned())
}

pub(crate) fn parse_date(text: &str) -> Result<Date, String> {
    Date::parse(text).ok_or_else(|| "write YYYY-MM-DD".to_owned())
}

/// The day, in UTC.
pub(crate) fn today() -> Date {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Date::from_unix_seconds(since.map_or(0, |since| since.as_secs()))
}

pub(crate) fn parse_principal(text: &str) -> Result<Principal, String> {
    Principal::parse(text).ok_or_else(|| "write TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT".to_owned())
}

/// Prints what the policy says of the request. Exits 0 whatever it says.
///
/// # Errors
/// If the policy cannot be read.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let file = PolicyFile::load(Some(&options.policy))?;
    let mut request = Request {
        authority: options.authority.as_bytes(),
        source: options.source,
        destination: options.destination,
        peer: options.principal.clone(),
        sni: options.sni.as_deref().map(str::as_bytes),
        tls: options.sni.is_some(),
        cluster: options.cluster.as_deref(),
        tag: options.tag.as_deref().map(str::as_bytes),
        forwarded: options.forwarded,
        namespace: options.namespace.as_deref(),
        today: Some(options.today.unwrap_or_else(today)),
        ..Request::default()
    };
    let verdict = file.policy.decide(options.at, &mut request);
    let explanation = Explanation {
        policy: &file.policy,
        vantage: options.at,
        verdict: &verdict,
    };
    let rows = candidates::rows(&file, options.at, &mut request);
    if options.json {
        let mut value = explanation.to_json();
        value["candidates"] = candidates::to_json(&rows);
        println!("{value}");
    } else {
        print!("{}{}", explanation.to_text(), candidates::to_text(&rows));
    }
    Ok(ExitCode::SUCCESS)
}

/// A verdict in words.
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
        let Verdict {
            decision,
            direction,
            evidence,
            component,
            dry_run,
            ..
        } = self.verdict;
        json!({
            "decision": decision.as_str(),
            "rule": self.rule(self.verdict.reason),
            "status": self.policy.refusal(self.verdict).map(|refusal| refusal.status),
            "reason": self.reason(*decision, self.verdict.reason),
            "direction": direction.as_str(),
            "evidence": evidence.as_str(),
            "component_type": component.as_str(),
            "host": self.verdict.host().map(ToString::to_string),
            "dry_run": dry_run.map(|dry_run| json!({
                "decision": dry_run.decision.as_str(),
                "rule": self.rule(dry_run.reason),
                "reason": self.reason(dry_run.decision, dry_run.reason),
            })),
        })
    }

    /// A line for each thing that was found out.
    pub fn to_text(&self) -> String {
        let Verdict {
            decision,
            direction,
            evidence,
            component,
            dry_run,
            ..
        } = self.verdict;
        let status = self
            .policy
            .refusal(self.verdict)
            .map(|refusal| format!(" with {}", refusal.status))
            .unwrap_or_default();
        let mut lines = vec![
            format!(
                "decision   {decision}{status}: {}",
                self.reason(*decision, self.verdict.reason)
            ),
            format!(
                "direction  {direction}: {} ({evidence})",
                evidence.sentence()
            ),
            format!("component  {component}"),
        ];
        if let Some(host) = self.verdict.host() {
            lines.push(format!("host       {host}"));
        }
        if *decision == Action::Allow {
            let header = &self.policy.tags.direction_header;
            lines.push(match self.verdict.tags {
                TagWrite::Replace => format!("tag        {header}: {direction}"),
                TagWrite::Remove => format!("tag        {header} is removed"),
            });
        }
        if let Some(dry_run) = dry_run {
            lines.push(format!(
                "dry run    would {}: {}",
                dry_run.decision,
                self.reason(dry_run.decision, dry_run.reason)
            ));
        }
        lines.push(String::new());
        lines.join("\n")
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
            Reason::SniMismatch => "the TLS connection was opened for another host".to_owned(),
        }
    }
}
