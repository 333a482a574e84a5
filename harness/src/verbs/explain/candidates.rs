//! Every rule that `meridian explain` had to choose from, in words.

use meridian_policy::{
    Action, Authority, Candidate, Direction, Host, HostPattern, Outcome, Pattern, Policy, Request,
    Unmet, Vantage,
};
use serde_json::{Value, json};

use crate::policy::PolicyFile;

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

/// The candidates of a request in the order of precedence; see [`Policy::candidates`].
pub fn rows(file: &PolicyFile, vantage: Vantage, request: &mut Request<'_>) -> Vec<Row> {
    let Ok(authority) = Authority::parse(request.authority) else {
        return Vec::new();
    };
    let subject = Subject {
        host: Some(authority.host),
        direction: file.policy.decide(vantage, request).direction,
        has_port: true,
    };
    let candidates = file.policy.candidates(vantage, request);
    explained(file, vantage, request, &candidates, &subject)
}

/// The candidates of a connection that passes unread; see [`Policy::connection_candidates`].
pub fn connection_rows(file: &PolicyFile, vantage: Vantage, request: &mut Request<'_>) -> Vec<Row> {
    let verdict = file.policy.decide_connection(vantage, request);
    let is_dialled = request.destination.is_some() && request.destination_port.is_some();
    let has_port = is_dialled
        || verdict
            .authority
            .as_ref()
            .is_some_and(|one| one.port.is_some());
    let subject = Subject {
        host: verdict.authority.map(|authority| authority.host),
        direction: verdict.direction,
        has_port,
    };
    let candidates = file.policy.connection_candidates(vantage, request);
    explained(file, vantage, request, &candidates, &subject)
}

/// What is known of that which is decided over, beside what was asked.
struct Subject {
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
    subject: &Subject,
) -> Vec<Row> {
    let texts: Vec<Matching> = candidates
        .iter()
        .map(|candidate| Matching::of(file, vantage, candidate, subject.host.as_ref()))
        .collect();
    let explained = candidates.iter().zip(&texts).map(|(candidate, text)| {
        let winner = candidates
            .iter()
            .zip(&texts)
            .find(|(other, _)| matches!(candidate.outcome, Outcome::Lost { to } if to == other.rule && is_decisive(other)));
        let (outcome, reason) = words(
            &file.policy,
            vantage,
            request,
            subject,
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
    matches!(candidate.outcome, Outcome::Wins | Outcome::DryRun { .. })
}

/// The pattern of a candidate.
struct Matching {
    text: String,
    host: HostPattern,
}

impl Matching {
    /// The rule's most specific pattern with the candidate's port. The compiled policy no longer
    /// has the texts, the document does.
    fn of(file: &PolicyFile, vantage: Vantage, candidate: &Candidate, host: Option<&Host>) -> Self {
        let rule = &file.json["hosts"][vantage.as_str()]["rules"][candidate.rule];
        let hosts = rule["hosts"].as_array().map(Vec::as_slice);
        let matching = hosts
            .unwrap_or_default()
            .iter()
            .filter_map(|text| {
                let text = text.as_str()?;
                let pattern = Pattern::parse(text).ok()?;
                let fits = pattern.port == candidate.only_port && matches(&pattern.host, host);
                fits.then(|| Self {
                    text: text.to_owned(),
                    host: pattern.host,
                })
            })
            .max_by_key(|matching| specificity(&matching.host));
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

/// The order of patterns that match one host.
fn specificity(pattern: &HostPattern) -> usize {
    match pattern {
        HostPattern::Any => 0,
        HostPattern::Network(network) => 1 + usize::from(network.prefix_len()),
        HostPattern::Suffix(name) => name.as_str().len(),
        HostPattern::Exact(_) => usize::MAX,
    }
}

fn words(
    policy: &Policy,
    vantage: Vantage,
    request: &Request<'_>,
    subject: &Subject,
    candidate: &Candidate,
    text: &Matching,
    winner: Option<(&Candidate, &Matching)>,
) -> (&'static str, String) {
    let rules = &policy.section(vantage).rules;
    let rule = rules.get(candidate.rule);
    let action = rule.map_or(Action::Deny, |rule| rule.action);
    match candidate.outcome {
        Outcome::Wins => (
            "wins",
            "the first of those whose conditions hold".to_owned(),
        ),
        Outcome::DryRun { noted } => {
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
        Outcome::Lost { to } => {
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
        Outcome::NoHost => (
            "condition",
            "where the connection is to go is not known, which never allows it".to_owned(),
        ),
        Outcome::SniMismatch => (
            "lost",
            "the TLS connection was not opened for this host, which is refused before any rule"
                .to_owned(),
        ),
        Outcome::Condition { unmet, missing } => {
            let reason = if missing {
                missing_evidence(unmet, request)
            } else {
                condition(unmet, candidate, request, subject)
            };
            ("condition", reason)
        }
    }
}

/// The field of the policy that does not hold.
fn field(unmet: Unmet) -> &'static str {
    match unmet {
        Unmet::HostPort => "hosts",
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
        Unmet::Expires => format!("{field} needs the day, which is not known"),
        _ => format!("{field} needs an identity, and the connection has none"),
    }
}

fn condition(
    unmet: Unmet,
    candidate: &Candidate,
    request: &Request<'_>,
    subject: &Subject,
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
        Unmet::HostPort => {
            let port = candidate.only_port.unwrap_or_default();
            format!("its host is for port {port} alone")
        }
        Unmet::Ports if !subject.has_port => "the port is not known".to_owned(),
        Unmet::Ports => "the request's port is not in ports".to_owned(),
        Unmet::NotHosts => "the host is in notHosts".to_owned(),
        Unmet::Expires => "the rule has expired".to_owned(),
        Unmet::Directions => {
            let direction = subject.direction;
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
