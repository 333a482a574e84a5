//! Rules out of hosts: one for each owner of names, with wildcards where many names are asked for.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use meridian_policy::fields::MAX_RULE_NAME;
use meridian_policy::{MAX_RULES, Vantage};

use super::callers::{CallerId, Callers};
use super::judge::{Judge, Judged, Open, Suspicion, Suspicious};
use super::tally::Tally;

/// More ports than this are not written out.
const MAX_PORTS: usize = 4;

/// A rule that allows.
#[derive(Debug, Clone)]
pub struct ProposedRule {
    /// Where.
    pub at: Vantage,
    /// Its name, which no rule of the policy has.
    pub name: String,
    /// The only gateway; `None` for all.
    pub gateway: Option<String>,
    /// The hosts, in the order of their names.
    pub hosts: Vec<ProposedHost>,
    /// The namespaces that may call; empty for all callers.
    pub namespaces: Vec<String>,
    /// How its hosts were asked for.
    pub tally: Tally,
    /// Why it is to be looked at first. Such a rule is written as a comment.
    pub reasons: Vec<Suspicion>,
}

/// A host or a wildcard.
#[derive(Debug, Clone)]
pub struct ProposedHost {
    /// The host, or the name that the wildcard stands over.
    pub name: String,
    /// True for `*.name`.
    pub is_wildcard: bool,
    /// The only ports; empty for all.
    pub ports: Vec<u16>,
    /// The names that the wildcard was made of.
    pub names: Vec<String>,
    /// How many names the wildcard allows that are to be looked at first.
    pub suspicious: usize,
    /// How it was asked for.
    pub tally: Tally,
}

impl ProposedHost {
    /// The patterns as a policy has them, one for each port.
    pub fn texts(&self) -> Vec<String> {
        let host = if self.is_wildcard {
            format!("*.{}", self.name)
        } else {
            self.name.clone()
        };
        if self.ports.is_empty() {
            return vec![host];
        }
        let with_port = self.ports.iter().map(|port| format!("{host}:{port}"));
        with_port.collect()
    }
}

/// How rules are made.
#[derive(Debug, Clone, Copy)]
pub struct Grouping<'g> {
    /// From how many names on they become a wildcard; 0 is never.
    pub wildcard_threshold: usize,
    /// A rule at egress says which namespaces may call.
    pub by_caller: bool,
    /// Hosts to be looked at first get rules of their own.
    pub include_suspicious: bool,
    /// The only gateway that rules are for; `None` for all.
    pub gateway: Option<&'g str>,
}

/// Makes rules of what may be proposed. What it cannot propose after all is added to what is to be
/// looked at first.
pub fn rules<'o>(
    judge: &Judge<'o>,
    at: Vantage,
    judged: &mut Judged<'o>,
    grouping: Grouping<'_>,
) -> Vec<ProposedRule> {
    let callers = &judge.observations.callers;
    let by_caller = grouping.by_caller && at == Vantage::Egress;
    let suspicious = Parents::of(&judged.suspicious);
    let mut groups: BTreeMap<(&str, Vec<String>), Vec<Open<'_>>> = BTreeMap::new();
    for open in std::mem::take(&mut judged.open) {
        let namespaces = if by_caller {
            namespaces(open.tally, callers)
        } else {
            Vec::new()
        };
        if by_caller && namespaces.is_empty() {
            judged.suspicious.push(without_identity(at, open));
        } else {
            groups
                .entry((open.owner, namespaces))
                .or_default()
                .push(open);
        }
    }
    let taken = judge.file.map(|file| &file.policy.section(at).rules);
    let mut names: HashSet<String> = taken
        .into_iter()
        .flatten()
        .map(|rule| rule.name.to_string())
        .collect();
    let room = MAX_RULES.saturating_sub(names.len());
    let mut rules: Vec<ProposedRule> = Vec::new();
    for ((owner, namespaces), hosts) in groups {
        let patterns = patterns(at, owner, hosts, &suspicious, grouping);
        // The last rule that a section has room for takes all the rest of the same callers.
        if rules.len() >= room
            && let Some(last) = rules.last_mut()
            && last.namespaces == namespaces
        {
            for pattern in &patterns {
                last.tally.merge(&pattern.tally);
            }
            last.hosts.extend(patterns);
            continue;
        }
        rules.push(rule(at, owner, patterns, namespaces, grouping, &mut names));
    }
    judged.without_room = rules.len().saturating_sub(room);
    rules.truncate(room);
    if grouping.include_suspicious {
        for each in &judged.suspicious {
            if let Some(open) = &each.open {
                let namespaces = if by_caller {
                    namespaces(open.tally, callers)
                } else {
                    Vec::new()
                };
                let pattern = exact(at, open);
                let reasons = each.reasons.clone();
                let patterns = vec![pattern];
                let rule = rule(at, open.host, patterns, namespaces, grouping, &mut names);
                rules.push(ProposedRule { reasons, ..rule });
            }
        }
    }
    rules
}

fn rule(
    at: Vantage,
    owner: &str,
    hosts: Vec<ProposedHost>,
    namespaces: Vec<String>,
    grouping: Grouping<'_>,
    names: &mut HashSet<String>,
) -> ProposedRule {
    let mut tally = Tally::default();
    for pattern in &hosts {
        tally.merge(&pattern.tally);
    }
    ProposedRule {
        at,
        name: name_of(owner, names),
        gateway: grouping.gateway.map(str::to_owned),
        hosts,
        namespaces,
        tally,
        reasons: Vec::new(),
    }
}

/// `learned-partner-example`, with a number behind it where that is taken.
fn name_of(owner: &str, names: &mut HashSet<String>) -> String {
    let words: Vec<String> = owner
        .split(|other: char| !other.is_ascii_lowercase() && !other.is_ascii_digit())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    let base = format!("learned-{}", words.join("-"));
    for number in 1_u64.. {
        let suffix = match number {
            1 => String::new(),
            number => format!("-{number}"),
        };
        let length = base.len().min(MAX_RULE_NAME - suffix.len());
        let base = base
            .get(..length)
            .unwrap_or("learned")
            .trim_end_matches('-');
        let name = format!("{base}{suffix}");
        if names.insert(name.clone()) {
            return name;
        }
    }
    base
}

fn exact(at: Vantage, open: &Open<'_>) -> ProposedHost {
    ProposedHost {
        name: open.host.to_owned(),
        is_wildcard: false,
        ports: ports(at, open.tally),
        names: Vec::new(),
        suspicious: 0,
        tally: open.tally.clone(),
    }
}

/// The ports to limit a host to: those that were asked for, if each request named one.
fn ports(at: Vantage, tally: &Tally) -> Vec<u16> {
    // At ingress the port is the client's own claim, which routes ignore.
    if at == Vantage::Ingress {
        return Vec::new();
    }
    let ports = tally.written_ports().unwrap_or_default();
    if ports.len() > MAX_PORTS {
        return Vec::new();
    }
    ports
}

/// The patterns for hosts of one owner. Names become a wildcard at the deepest parent that has enough
/// of them.
fn patterns(
    at: Vantage,
    owner: &str,
    hosts: Vec<Open<'_>>,
    suspicious: &Parents,
    grouping: Grouping<'_>,
) -> Vec<ProposedHost> {
    // Below a public suffix everybody can have names; `owned_by` gives none there, and the host stands
    // for itself.
    let mut below: BTreeMap<&str, usize> = BTreeMap::new();
    let mut parents: Vec<&str> = Vec::new();
    for open in &hosts {
        for parent in parents_of(open.host, owner) {
            let count = below.entry(parent).or_default();
            *count += 1;
            if *count == 1 {
                parents.push(parent);
            }
        }
    }
    parents.sort_by_key(|parent| (std::cmp::Reverse(parent.split('.').count()), *parent));
    let mut rest = hosts;
    let mut patterns = Vec::new();
    for parent in parents {
        let is_enough = below.get(parent).copied() >= Some(grouping.wildcard_threshold);
        if grouping.wildcard_threshold == 0 || !is_enough {
            continue;
        }
        // Some of them may have gone into a deeper wildcard.
        let is_below = |open: &Open<'_>| parents_of(open.host, owner).any(|other| other == parent);
        if rest.iter().filter(|open| is_below(open)).count() < grouping.wildcard_threshold
            || suspicious.refused.contains(parent)
        {
            continue;
        }
        let (covered, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(is_below);
        rest = others;
        let mut tally = Tally::default();
        let mut names = Vec::new();
        for open in covered {
            tally.merge(open.tally);
            names.push(open.host.to_owned());
        }
        patterns.push(ProposedHost {
            name: parent.to_owned(),
            is_wildcard: true,
            ports: ports(at, &tally),
            names,
            suspicious: suspicious.counts.get(parent).copied().unwrap_or_default(),
            tally,
        });
    }
    patterns.extend(rest.iter().map(|open| exact(at, open)));
    patterns
        .sort_by(|one, other| (&one.name, one.is_wildcard).cmp(&(&other.name, other.is_wildcard)));
    patterns
}

/// The names above `host` up to `owner`, the nearest first; none for the owner itself.
fn parents_of<'h>(host: &'h str, owner: &str) -> impl Iterator<Item = &'h str> {
    let shortest = owner.len();
    let mut parent = host;
    std::iter::from_fn(move || {
        let (_, above) = parent.split_once('.')?;
        parent = above;
        (above.len() >= shortest).then_some(above)
    })
}

/// The names that stand above those which are to be looked at first.
struct Parents {
    /// Above how many.
    counts: BTreeMap<String, usize>,
    /// Above one that a rule refused.
    refused: BTreeSet<String>,
}

impl Parents {
    fn of(suspicious: &[Suspicious<'_>]) -> Self {
        let mut counts = BTreeMap::new();
        let mut refused = BTreeSet::new();
        for each in suspicious {
            let is_refused = each
                .reasons
                .iter()
                .any(|reason| reason.word == "denied-by-rule");
            for parent in parents_of(&each.host, "") {
                *counts.entry(parent.to_owned()).or_default() += 1;
                if is_refused {
                    refused.insert(parent.to_owned());
                }
            }
        }
        Self { counts, refused }
    }
}

fn namespaces(tally: &Tally, callers: &Callers) -> Vec<String> {
    let namespace = |(caller, _): &(CallerId, u64)| callers.get(*caller).namespace();
    let namespaces: BTreeSet<&str> = tally.callers.iter().filter_map(namespace).collect();
    namespaces.into_iter().map(str::to_owned).collect()
}

fn without_identity(at: Vantage, open: Open<'_>) -> Suspicious<'_> {
    Suspicious {
        at,
        host: open.host.to_owned(),
        reasons: vec![Suspicion {
            word: "no-identity",
            text: "no caller has an identity that a rule could name".to_owned(),
        }],
        tally: open.tally.clone(),
        // A rule without `from` is not what was asked for.
        open: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_rules_are_unique_and_short() {
        let mut names = HashSet::from(["learned-a-example".to_owned()]);
        assert_eq!(name_of("a.example", &mut names), "learned-a-example-2");
        assert_eq!(name_of("a_.example", &mut names), "learned-a-example-3");
        let long = format!("{}.example", "a".repeat(100));
        for _ in 0..12 {
            let name = name_of(&long, &mut names);
            assert!(name.len() <= MAX_RULE_NAME, "{name}");
        }
        assert_eq!(name_of("-.-", &mut names), "learned");
        assert_eq!(names.len(), 16);
    }

    #[test]
    fn parents_end_at_the_owner() {
        let parents = |host, owner| parents_of(host, owner).collect::<Vec<_>>();
        assert_eq!(
            parents("a.b.example.com", "example.com"),
            ["b.example.com", "example.com"]
        );
        assert!(parents("example.com", "example.com").is_empty());
        assert!(parents("redis", "redis").is_empty());
    }
}
