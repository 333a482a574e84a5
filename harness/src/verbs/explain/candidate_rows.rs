//! Every rule that `meridian explain` had to choose from, in words.

use std::cmp::Reverse;

use meridian_policy::{
    Action, Candidate, Direction, Host, HostPattern, Policy, Request, Rule, Standing, Subject,
    Unmet, Vantage,
};
use serde_json::{Value, json};

use crate::policy::PolicyFile;
use crate::policy::written::WrittenRule;

/// How many candidates the table shows; JSON has them all.
const TABLE_ROWS: usize = 20;

/// A rule with a host pattern that matches the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The rule's name.
    pub rule: String,
    /// The pattern, as the policy has it.
    pub pattern: String,
    /// What the rule says.
    pub action: Action,
    /// `wins`, `lost`, `condition` or `dry-run`.
    pub outcome: &'static str,
    /// Why.
    pub reason: String,
}

/// The candidates of a request or connection in the order of precedence; see [`Policy::candidates`].
/// Empty where its host is invalid.
pub fn rows(
    file: &PolicyFile,
    vantage: Vantage,
    subject: Subject,
    request: &mut Request<'_>,
) -> Vec<Row> {
    let candidates = file.policy.candidates(vantage, subject, request);
    let verdict = file.policy.decide(vantage, subject, request);
    let is_dialled = request.destination.is_some() && request.destination_port.is_some();
    let has_written_port =
        matches!(&verdict.authority, Some(authority) if authority.port.is_some());
    let known = Known {
        has_port: subject == Subject::Request || is_dialled || has_written_port,
        direction: verdict.direction,
        host: verdict.authority.map(|authority| authority.host),
    };
    explained(file, vantage, request, &candidates, &known)
}

/// What the decision made of the request, beside what the query says.
struct Known {
    /// `None` where a connection does not tell.
    host: Option<Host>,
    direction: Direction,
    has_port: bool,
}

fn explained(
    file: &PolicyFile,
    vantage: Vantage,
    request: &Request<'_>,
    candidates: &[Candidate],
    known: &Known,
) -> Vec<Row> {
    let texts: Vec<Matching> = candidates
        .iter()
        .map(|candidate| Matching::of(file, vantage, candidate, known.host.as_ref()))
        .collect();
    let explained = candidates.iter().zip(&texts).map(|(candidate, text)| {
        let winner = candidates
            .iter()
            .zip(&texts)
            .find(|(other, _)| matches!(candidate.standing, Standing::Lost { to } if to == other.rule && is_decisive(other)));
        let (outcome, reason) = words(
            &file.policy,
            vantage,
            request,
            known,
            candidate,
            text,
            winner,
        );
        let rule = file.policy.section(vantage).rules.get(candidate.rule);
        Row {
            rule: rule.map(|rule| rule.name.to_string()).unwrap_or_default(),
            pattern: text.text.clone(),
            action: rule.map_or(Action::Deny, |rule| rule.action),
            outcome,
            reason,
        }
    });
    explained.collect()
}

/// True if the candidate is the one that the others lost to, not a pattern of its rule for another
/// port.
fn is_decisive(candidate: &Candidate) -> bool {
    matches!(candidate.standing, Standing::Wins | Standing::DryRun { .. })
}

/// The pattern of a candidate.
struct Matching {
    text: String,
    host: HostPattern,
}

impl Matching {
    /// The rule's most specific pattern with the candidate's port.
    fn of(file: &PolicyFile, vantage: Vantage, candidate: &Candidate, host: Option<&Host>) -> Self {
        let rule = file.written().rule(vantage, candidate.rule);
        let hosts = rule.map(WrittenRule::hosts).unwrap_or_default();
        let matching = hosts
            .parsed()
            .filter(|written| {
                let pattern = &written.pattern;
                pattern.port == candidate.only_port && matches(&pattern.host, host)
            })
            .map(|written| Self {
                text: written.text.to_owned(),
                host: written.pattern.host,
            })
            .max_by_key(|matching| Reverse(matching.host.specificity()));
        matching.unwrap_or(Self {
            text: "*".to_owned(),
            host: HostPattern::Any,
        })
    }
}

fn matches(pattern: &HostPattern, host: Option<&Host>) -> bool {
    let Some(host) = host else {
        return *pattern == HostPattern::Any;
    };
    match (pattern, host) {
        (HostPattern::Any, _) => true,
        (HostPattern::Exact(name), Host::Name(host)) => name == host,
        (HostPattern::Suffix(suffix), Host::Name(host)) => host
            .as_str()
            .strip_suffix(suffix.as_str())
            .is_some_and(|rest| rest.ends_with('.')),
        (HostPattern::Network(network), Host::Address(address)) => network.contains(address),
        _ => false,
    }
}

fn words(
    policy: &Policy,
    vantage: Vantage,
    request: &Request<'_>,
    known: &Known,
    candidate: &Candidate,
    text: &Matching,
    winner: Option<(&Candidate, &Matching)>,
) -> (&'static str, String) {
    let rules = &policy.section(vantage).rules;
    let rule = rules.get(candidate.rule);
    let action = rule.map_or(Action::Deny, |rule| rule.action);
    match candidate.standing {
        Standing::Wins => (
            "wins",
            "the first of those whose conditions hold".to_owned(),
        ),
        Standing::DryRun { noted } => {
            let dry = match rule {
                Some(rule) if rule.dry_run => "the rule".to_owned(),
                _ => format!("hosts.{vantage}"),
            };
            let told = if noted {
                format!("it would {action}")
            } else {
                format!("it would {action}, but another dry run is counted")
            };
            ("dry-run", format!("{dry} is in dry run: {told}"))
        }
        Standing::Lost { to } => {
            let name = rules.get(to).map(|rule| &*rule.name).unwrap_or_default();
            let winning = rules.get(to).map(|rule| rule.action);
            let reason = match winner {
                Some((_, winner)) if winner.host != text.host => {
                    format!("its host is less specific than that of rule {name:?}")
                }
                _ if winning != Some(action) => {
                    format!("at a tie rule {name:?} wins, because it denies")
                }
                _ => format!("at a tie rule {name:?} wins, because it comes earlier"),
            };
            ("lost", reason)
        }
        Standing::SniMismatch => (
            "lost",
            "the TLS connection was not opened for this host, which is refused before any rule"
                .to_owned(),
        ),
        Standing::Condition { unmet, missing } => {
            let reason = if missing {
                missing_evidence(unmet, request)
            } else {
                condition(unmet, candidate, rule, request, known)
            };
            ("condition", reason)
        }
    }
}

/// The field of the policy that does not hold.
fn field(unmet: Unmet) -> &'static str {
    match unmet {
        Unmet::Gateways => "gateways",
        Unmet::HostPort | Unmet::HostUnknown => "hosts",
        Unmet::Ports => "ports",
        Unmet::NotHosts => "notHosts",
        Unmet::Directions => "directions",
        Unmet::Expires => "expires",
        Unmet::Principals => "from.principals",
        Unmet::NotPrincipals => "from.notPrincipals",
        Unmet::Namespaces => "from.namespaces",
        Unmet::NotNamespaces => "from.notNamespaces",
        Unmet::Cidrs => "from.cidrs",
        Unmet::NotCidrs => "from.notCidrs",
    }
}

fn missing_evidence(unmet: Unmet, request: &Request<'_>) -> String {
    let field = field(unmet);
    match unmet {
        Unmet::Cidrs | Unmet::NotCidrs if request.source.is_some() => format!(
            "{field} needs a source address, and this one may be the client's own claim in x-forwarded-for"
        ),
        Unmet::Cidrs | Unmet::NotCidrs => {
            format!("{field} needs a source address, and the connection has none")
        }
        Unmet::Gateways => format!("{field} needs the name of the gateway, which is not known"),
        Unmet::HostUnknown => {
            "where the connection is to go is not known, which never allows it".to_owned()
        }
        Unmet::Expires => format!("{field} needs the day, which is not known"),
        _ => format!("{field} needs an identity, and the connection has none"),
    }
}

fn condition(
    unmet: Unmet,
    candidate: &Candidate,
    rule: Option<&Rule>,
    request: &Request<'_>,
    known: &Known,
) -> String {
    let field = field(unmet);
    let peer = request.peer.as_ref().map(ToString::to_string);
    let peer = peer.unwrap_or_default();
    let namespace = request.peer.as_ref().map(|peer| peer.namespace());
    let namespace = namespace.unwrap_or_default();
    let source = request
        .source
        .map(|source| source.to_canonical().to_string());
    let source = source.unwrap_or_default();
    match unmet {
        Unmet::Gateways => {
            let gateways = rule.map(|rule| rule.gateways.join(", "));
            format!(
                "it holds at other gateways: {}",
                gateways.unwrap_or_default()
            )
        }
        // Always for want of evidence.
        Unmet::HostUnknown => missing_evidence(unmet, request),
        Unmet::HostPort => {
            let port = candidate.only_port.unwrap_or_default();
            format!("its host is for port {port} alone")
        }
        Unmet::Ports if !known.has_port => "the port is not known".to_owned(),
        Unmet::Ports => "the request's port is not in ports".to_owned(),
        Unmet::NotHosts => "the host is in notHosts".to_owned(),
        Unmet::Expires => "the rule has expired".to_owned(),
        Unmet::Directions => {
            let direction = known.direction;
            format!("the direction is {direction}, which is not in directions")
        }
        Unmet::Principals => format!("the peer {peer} is not in {field}"),
        Unmet::NotPrincipals => format!("the peer {peer} is in {field}"),
        Unmet::Namespaces => format!("the peer's namespace {namespace} is not in {field}"),
        Unmet::NotNamespaces => format!("the peer's namespace {namespace} is in {field}"),
        Unmet::Cidrs => format!("the source {source} is not in {field}"),
        Unmet::NotCidrs => format!("the source {source} is in {field}"),
    }
}

/// The rows as `--json` has them.
pub fn to_json(rows: &[Row]) -> Value {
    let rows = rows.iter().map(|row| {
        json!({
            "rule": row.rule,
            "pattern": row.pattern,
            "action": row.action.as_str(),
            "outcome": row.outcome,
            "reason": row.reason,
        })
    });
    rows.collect()
}

/// The rows as a table; empty without one.
pub fn to_text(rows: &[Row]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let shown = rows.get(..TABLE_ROWS).unwrap_or(rows);
    let widest = |of: fn(&Row) -> &str| {
        let widths = shown.iter().map(|row| of(row).chars().count());
        widths.max().unwrap_or_default()
    };
    let (rule, pattern) = (widest(|row| &row.rule), widest(|row| &row.pattern));
    let mut text = "candidates, the most specific host first\n".to_owned();
    for row in shown {
        text.push_str(&format!(
            "  {:rule$}  {:pattern$}  {:5}  {:9}  {}\n",
            row.rule, row.pattern, row.action, row.outcome, row.reason
        ));
    }
    if rows.len() > shown.len() {
        text.push_str(&format!(
            "  and {} more; --json has them all\n",
            rows.len() - shown.len()
        ));
    }
    text
}
