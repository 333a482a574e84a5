//! Which of the observed hosts may be proposed, which are to be looked at first, and which the
//! policy allows already.

use std::collections::BTreeMap;

use meridian_policy::{
    Action, Authority, Candidate, Policy, Request, Standing, Subject, Unmet, Vantage, server_name,
};

use super::callers::Known;
use super::names::{LookAlikes, owned_by};
use super::observe::{Observations, Observed};
use super::tally::Tally;
use crate::policy::PolicyFile;
use crate::text::visible::excerpt;

/// More one-offs of one owner than this are listed as one.
const MANY_ONE_OFFS: usize = 20;

/// Why a host is not simply proposed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspicion {
    /// One of the words of `--json`.
    pub word: &'static str,
    /// In words for people, safe to print.
    pub text: String,
}

/// A host that may be proposed.
#[derive(Debug, Clone)]
pub struct Open<'o> {
    /// The canonical host.
    pub host: &'o str,
    /// The name below which all names have one owner, see [`owned_by`].
    pub owner: &'o str,
    /// How it was asked for.
    pub tally: &'o Tally,
}

/// A host, or many, to be looked at first.
#[derive(Debug, Clone)]
pub struct Suspicious<'o> {
    /// Where.
    pub at: Vantage,
    /// The host, safe to print.
    pub host: String,
    /// Why; at least one.
    pub reasons: Vec<Suspicion>,
    /// How it was asked for.
    pub tally: Tally,
    /// The host as it could be proposed with `--include-suspicious`; `None` where no rule can or
    /// should allow it.
    pub open: Option<Open<'o>>,
}

/// What became of the hosts of one vantage.
#[derive(Debug, Default)]
pub struct Judged<'o> {
    /// What may be proposed, by name.
    pub open: Vec<Open<'o>>,
    /// What is to be looked at first, by name.
    pub suspicious: Vec<Suspicious<'o>>,
    /// How many hosts a rule allows already.
    pub allowed: usize,
    /// How many rules the section has no room for.
    pub without_room: usize,
}

/// Judges by the policy, if there is one, and by the log alone.
#[derive(Debug)]
pub struct Judge<'j> {
    /// The policy that the proposals are for.
    pub file: Option<&'j PolicyFile>,
    /// The gateway of each vantage, by [`Vantage::index`], where it makes a difference.
    pub gateways: [Option<&'j str>; 4],
    /// What was seen.
    pub observations: &'j Observations,
    /// Hosts that were asked for less often are one-offs.
    pub min_requests: u64,
    /// The cluster's DNS domain.
    pub service_domain: &'j str,
}

/// What the policy's rules say of a host.
#[derive(Debug, PartialEq, Eq)]
enum Rules {
    /// For every caller one that allows.
    Allow,
    /// One that denies, be it for other callers.
    Deny(String),
    /// Nothing, at least for some caller.
    Nothing,
}

impl<'j> Judge<'j> {
    /// Judges the hosts of a vantage.
    pub fn judge(&self, at: Vantage) -> Judged<'j> {
        let hosts = self.observations.hosts(at);
        let looks = self.looks(&hosts);
        let mut judged = Judged::default();
        for (host, seen) in hosts {
            if let Some((rule, tally)) = &seen.refused {
                judged.suspicious.push(Suspicious {
                    at,
                    host: host.to_owned(),
                    reasons: vec![refused(rule)],
                    tally: tally.clone(),
                    open: None,
                });
                continue;
            }
            let tally = &seen.open;
            match self.rules(at, host, tally) {
                Rules::Allow => judged.allowed += 1,
                Rules::Deny(rule) => judged.suspicious.push(Suspicious {
                    at,
                    host: host.to_owned(),
                    reasons: vec![Suspicion {
                        word: "denied-by-rule",
                        text: format!("rule {rule} of the policy denies it, if not always"),
                    }],
                    tally: tally.clone(),
                    open: None,
                }),
                Rules::Nothing => {
                    let open = Open {
                        host,
                        owner: owned_by(host, self.service_domain).unwrap_or(host),
                        tally,
                    };
                    let reasons = self.reasons(&open, &looks);
                    if reasons.is_empty() {
                        judged.open.push(open);
                    } else {
                        judged.suspicious.push(Suspicious {
                            at,
                            host: host.to_owned(),
                            reasons,
                            tally: tally.clone(),
                            open: Some(open),
                        });
                    }
                }
            }
        }
        for ((_, raw), count) in self
            .observations
            .invalid
            .iter()
            .filter(|((vantage, _), _)| *vantage == at)
        {
            judged.suspicious.push(invalid(at, raw, *count));
        }
        judged.suspicious = together(judged.suspicious);
        judged
    }

    fn looks(&self, hosts: &BTreeMap<&str, &Observed>) -> LookAlikes {
        let mut looks = LookAlikes::default();
        if let Some(file) = self.file {
            looks.add_policy(file);
        }
        let mut domains: BTreeMap<&str, u64> = BTreeMap::new();
        for (host, seen) in hosts {
            if let Some(domain) = owned_by(host, self.service_domain) {
                *domains.entry(domain).or_default() += seen.open.requests;
            }
        }
        for (domain, requests) in domains {
            looks.add(domain, requests);
        }
        looks
    }

    fn reasons(&self, open: &Open<'_>, looks: &LookAlikes) -> Vec<Suspicion> {
        let mut reasons = Vec::new();
        let mut add = |word, text: String| reasons.push(Suspicion { word, text });
        let is_address = Authority::parse(open.host.as_bytes())
            .is_ok_and(|authority| matches!(authority.host, meridian_policy::Host::Address(_)));
        if is_address {
            add(
                "address",
                "an address, which says nothing of who is behind it".to_owned(),
            );
        } else if !open.host.contains('.') {
            add(
                "single-label",
                "a single label, which every resolver completes as it likes".to_owned(),
            );
        }
        if let Some(label) = open.host.split('.').find(|label| is_odd(label)) {
            let text = format!("no host on the internet is named so: `{}`", excerpt(label));
            add("odd-name", text);
        }
        if open.host.split('.').any(|label| label.starts_with("xn--")) {
            let (unicode, _) = idna::domain_to_unicode(open.host);
            add("punycode", format!("reads \"{}\"", excerpt(&unicode)));
        }
        if let Some(other) = looks.like(open.owner) {
            add("look-alike", format!("looks like {other}"));
        }
        if open.tally.requests < self.min_requests {
            add(
                "one-off",
                format!("requested fewer than {} times", self.min_requests),
            );
        }
        reasons
    }

    fn rules(&self, at: Vantage, host: &str, tally: &Tally) -> Rules {
        let Some(file) = self.file else {
            return Rules::Nothing;
        };
        let mut all_allowed = true;
        for ((port, _), _) in &tally.ports {
            let authority = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
            for (caller, _) in &tally.callers {
                let mut request = request(&authority, self.observations.callers.get(*caller));
                request.gateway = self.gateways[at.index()];
                let candidates = file.policy.candidates(at, Subject::Request, &mut request);
                if winner(&file.policy, at, &candidates) == Some(Action::Allow) {
                    continue;
                }
                if let Some(rule) = denying(&file.policy, at, &candidates) {
                    return Rules::Deny(rule);
                }
                // The candidates depend on host and port alone: no other caller has one that denies.
                all_allowed = false;
                break;
            }
        }
        if all_allowed && !tally.callers.is_empty() {
            Rules::Allow
        } else {
            Rules::Nothing
        }
    }
}

/// True for a label that is none of a host by RFC 1123, but for underscores within: DNS has those, and
/// so have internal names.
fn is_odd(label: &str) -> bool {
    label.starts_with(['-', '_']) || label.ends_with(['-', '_']) || label.is_empty()
}

/// What the command line knows of a request by this caller.
fn request<'r>(authority: &'r str, caller: &'r Known) -> Request<'r> {
    let mut request = Request::new(authority.as_bytes());
    request.today = Some(crate::policy::query::today());
    match caller {
        Known::Workload(principal) => request.peer = Some(principal.clone()),
        Known::Network { example, .. } => request.source = Some(*example),
        Known::Unknown => {}
    }
    request
}

/// What the rules say, were they all enforced but those in dry run by themselves.
fn winner(policy: &Policy, at: Vantage, candidates: &[Candidate]) -> Option<Action> {
    let rules = &policy.section(at).rules;
    let decides = candidates.iter().find(|candidate| {
        let is_dry = rules.get(candidate.rule).is_some_and(|rule| rule.dry_run);
        matches!(candidate.standing, Standing::Wins | Standing::DryRun { .. }) && !is_dry
    });
    decides.and_then(|candidate| Some(rules.get(candidate.rule)?.action))
}

/// A rule that denies this host to anybody: a new rule for the host could win over it.
fn denying(policy: &Policy, at: Vantage, candidates: &[Candidate]) -> Option<String> {
    let rules = &policy.section(at).rules;
    let mut denying = candidates.iter().filter_map(|candidate| {
        let rule = rules.get(candidate.rule)?;
        // It holds for nobody any more, or elsewhere.
        let holds_no_more = matches!(
            candidate.standing,
            Standing::Condition {
                unmet: Unmet::Expires | Unmet::Gateways,
                ..
            }
        );
        (rule.action == Action::Deny && !holds_no_more).then(|| rule.name.to_string())
    });
    denying.next()
}

/// Puts the one-offs of one owner together where they are many: names that somebody makes up.
fn together(suspicious: Vec<Suspicious<'_>>) -> Vec<Suspicious<'_>> {
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    let owners: Vec<Option<&str>> = suspicious.iter().map(one_off_of).collect();
    for owner in owners.iter().flatten() {
        *sizes.entry(owner).or_default() += 1;
    }
    let mut kept = Vec::new();
    let mut sums: BTreeMap<&str, Suspicious<'_>> = BTreeMap::new();
    for (each, owner) in suspicious.into_iter().zip(owners) {
        let Some(owner) = owner.filter(|owner| sizes.get(owner) > Some(&MANY_ONE_OFFS)) else {
            kept.push(each);
            continue;
        };
        match sums.get_mut(owner) {
            Some(sum) => sum.tally.merge(&each.tally),
            None => {
                let text = format!(
                    "{} names below it, such as {}, each asked for too rarely: are they made up?",
                    sizes.get(owner).copied().unwrap_or_default(),
                    each.host
                );
                sums.insert(
                    owner,
                    Suspicious {
                        host: owner.to_owned(),
                        reasons: vec![Suspicion {
                            word: "one-off",
                            text,
                        }],
                        open: None,
                        ..each
                    },
                );
            }
        }
    }
    kept.extend(sums.into_values());
    kept
}

/// The owner of a host that is a one-off and nothing worse.
fn one_off_of<'o>(suspicious: &Suspicious<'o>) -> Option<&'o str> {
    let is_only_that = matches!(&*suspicious.reasons, [reason] if reason.word == "one-off");
    let open = suspicious.open.as_ref().filter(|_| is_only_that)?;
    Some(open.owner)
}

fn refused(rule: &str) -> Suspicion {
    match rule {
        "sni-mismatch" => Suspicion {
            word: "sni-mismatch",
            text: "TLS was opened for another name; no rule for hosts mends that".to_owned(),
        },
        rule => Suspicion {
            word: "denied-by-rule",
            text: format!("rule {} refused it by name", excerpt(rule)),
        },
    }
}

fn invalid<'o>(at: Vantage, raw: &str, requests: u64) -> Suspicious<'o> {
    // What is a host may still be none for a server name.
    let parsed = Authority::parse(raw.as_bytes()).and_then(|_| server_name(raw.as_bytes()));
    let why = parsed.err().map(|why| format!(": {why}"));
    Suspicious {
        at,
        host: format!("\"{}\"", excerpt(raw)),
        reasons: vec![Suspicion {
            word: "invalid-host",
            text: format!("no host{}", why.unwrap_or_default()),
        }],
        tally: Tally {
            requests,
            ..Tally::default()
        },
        open: None,
    }
}
