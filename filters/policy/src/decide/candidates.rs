//! Every rule that a decision had to choose from, and what became of each.
//!
//! For people who ask why; no filter calls this, so it costs the modules nothing.

use std::ops::ControlFlow;

use super::connection::{Connection, NO_HOST};
use crate::decide::decision::{Facts, unmet};
use crate::decide::direction::direction;
use crate::{Action, Authority, Direction, Evidence, Mode, Policy, SniMode, Unmet, Vantage};

/// A rule with a host pattern that matches, and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The index of the rule in [`crate::Section::rules`].
    pub rule: usize,
    /// The port of the pattern; `None` is any.
    pub only_port: Option<u16>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It decides.
    Wins,
    /// It, or its section, is in dry run: it decides nothing.
    DryRun {
        /// True if it is what [`crate::Verdict::dry_run`] tells of; at most one candidate is.
        noted: bool,
    },
    /// Its conditions hold, but the rule of this index comes first.
    Lost {
        /// The index of the rule that wins.
        to: usize,
    },
    /// Its conditions hold, but the connection was opened for another host, which was refused
    /// before any rule was asked.
    SniMismatch,
    /// It would allow a connection to a host that nobody knows.
    NoHost,
    /// A condition does not hold.
    Condition {
        /// The first that does not.
        unmet: Unmet,
        /// True if the evidence that it needs is missing: an identity, or a source address.
        missing: bool,
    },
}

impl Policy {
    /// The candidates of a request in the order of precedence: the most specific host first, at a
    /// tie deny before allow, then as in the document.
    ///
    /// A rule is listed once, under its first pattern whose port is the request's; patterns before
    /// that with another port are listed as well. Empty when the host is invalid.
    pub fn candidates<E: Evidence>(&self, vantage: Vantage, evidence: &mut E) -> Vec<Candidate> {
        let mut facts = Facts::new(&self.mesh, vantage, evidence);
        let Ok(authority) = Authority::from_bytes(facts.evidence.authority()) else {
            return Vec::new();
        };
        let (direction, _) = direction(Some(&authority), &mut facts);
        let mismatch = self.sni_mismatch(vantage, &authority, &mut facts);
        self.list(vantage, &authority, direction, mismatch, &mut facts)
    }

    /// The candidates of a connection whose bytes pass unread, in the same order.
    pub fn connection_candidates<E: Evidence>(
        &self,
        vantage: Vantage,
        evidence: &mut E,
    ) -> Vec<Candidate> {
        let mut facts = Facts::new(&self.mesh, vantage, evidence);
        let connection = Connection::of(&mut facts);
        match connection.target {
            Ok(_) => self.list(
                vantage,
                connection.authority().unwrap_or(&NO_HOST),
                connection.direction,
                SniMode::Ignore,
                &mut facts,
            ),
            Err(_) => Vec::new(),
        }
    }

    fn list<E: Evidence>(
        &self,
        vantage: Vantage,
        authority: &Authority,
        direction: Direction,
        mismatch: SniMode,
        facts: &mut Facts<'_, E>,
    ) -> Vec<Candidate> {
        let refused = mismatch == SniMode::Deny;
        let mismatch = mismatch != SniMode::Ignore;
        let section = self.section(vantage);
        let is_enforced = section.mode == Mode::Enforce;
        let mut noted = mismatch;
        let mut winner = None;
        let mut settled = vec![false; section.rules.len()];
        let mut candidates = Vec::new();
        section.hosts.visit(&authority.host, |rank, only_port| {
            let Some((index, rule)) = section.rule(rank) else {
                return ControlFlow::Continue(());
            };
            let Some(settled) = settled.get_mut(index).filter(|settled| !**settled) else {
                return ControlFlow::Continue(());
            };
            let is_other_port = only_port.is_some_and(|only| {
                !facts.port_holds(rule.action, authority, &|port| port == only)
            });
            *settled = !is_other_port;
            let unmet = if is_other_port {
                Some(Unmet::HostPort)
            } else {
                unmet(rule, authority, direction, facts)
            };
            let outcome = match (unmet, winner) {
                (Some(unmet), _) => Outcome::Condition {
                    unmet,
                    missing: is_missing(unmet, facts),
                },
                (None, _) if rule.action == Action::Allow && authority.host.is_none() => {
                    Outcome::NoHost
                }
                (None, _) if refused => Outcome::SniMismatch,
                (None, Some(to)) => Outcome::Lost { to },
                (None, None) if rule.dry_run => Outcome::DryRun {
                    // A section in dry run tells of its own decision.
                    noted: is_enforced && !std::mem::replace(&mut noted, true),
                },
                (None, None) => {
                    winner = Some(index);
                    if is_enforced {
                        Outcome::Wins
                    } else {
                        Outcome::DryRun { noted: !mismatch }
                    }
                }
            };
            candidates.push(Candidate {
                rule: index,
                only_port,
                outcome,
            });
            ControlFlow::Continue(())
        });
        candidates
    }
}

/// True if a condition does not hold for want of evidence.
fn is_missing<E: Evidence>(unmet: Unmet, facts: &mut Facts<'_, E>) -> bool {
    match unmet {
        Unmet::Principals | Unmet::NotPrincipals | Unmet::Namespaces | Unmet::NotNamespaces => {
            facts.peer().is_none()
        }
        Unmet::Cidrs | Unmet::NotCidrs => facts.source().is_none(),
        Unmet::Expires => facts.evidence.today().is_none(),
        Unmet::HostPort | Unmet::Ports | Unmet::NotHosts | Unmet::Directions => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Action, Reason, Request};

    const POLICY: &[u8] = br#"{"hosts": {"ingress": {"rules": [
        {"name": "all", "hosts": ["*"], "action": "allow"},
        {"name": "port", "hosts": ["a.example.com:8443", "*.example.com"], "action": "allow"},
        {"name": "who", "hosts": ["a.example.com"], "action": "deny", "from": {"principals": ["*"]}},
        {"name": "try", "hosts": ["*.example.com"], "action": "deny", "dryRun": true},
        {"name": "tie", "hosts": ["a.example.com"], "action": "allow"},
        {"name": "no", "hosts": ["a.example.com"], "action": "deny", "ports": [81]}
    ]}}}"#;

    fn outcomes(policy: &Policy, request: &mut Request<'_>) -> Vec<(usize, Outcome)> {
        policy
            .candidates(Vantage::Ingress, request)
            .iter()
            .map(|candidate| (candidate.rule, candidate.outcome))
            .collect()
    }

    #[test]
    fn are_in_the_order_of_precedence_with_their_outcomes() {
        let policy = Policy::from_json(POLICY).unwrap();
        let condition = |unmet, missing| Outcome::Condition { unmet, missing };
        let mut request = Request::new(b"a.example.com");
        assert_eq!(
            outcomes(&policy, &mut request),
            [
                (2, condition(Unmet::Principals, true)),
                (5, condition(Unmet::Ports, false)),
                (1, condition(Unmet::HostPort, false)),
                (4, Outcome::Wins),
                (3, Outcome::Lost { to: 4 }),
                (1, Outcome::Lost { to: 4 }),
                (0, Outcome::Lost { to: 4 }),
            ]
        );
        let mut request = Request::new(b"b.example.com");
        assert_eq!(
            outcomes(&policy, &mut request),
            [
                (3, Outcome::DryRun { noted: true }),
                (1, Outcome::Wins),
                (0, Outcome::Lost { to: 1 }),
            ]
        );
        assert_eq!(outcomes(&policy, &mut Request::new(b"a..b")), []);
    }

    #[test]
    fn a_refusal_before_the_rules_is_told_by_each() {
        let policy = Policy::from_json(POLICY).unwrap();
        let mut request = Request::new(b"other.example");
        request.sni = Some(b"shop.example");
        assert_eq!(outcomes(&policy, &mut request), [(0, Outcome::SniMismatch)]);
    }

    #[test]
    fn the_winner_is_the_decision_s_rule() {
        let policy = Policy::from_json(POLICY).unwrap();
        for host in [
            "a.example.com",
            "a.example.com:8443",
            "x.example.com",
            "com",
            "1.2.3.4",
        ] {
            let mut request = Request::new(host.as_bytes());
            let verdict = policy.decide(Vantage::Ingress, &mut request);
            let candidates = policy.candidates(Vantage::Ingress, &mut request);
            let winner = candidates
                .iter()
                .find(|candidate| candidate.outcome == Outcome::Wins)
                .unwrap();
            assert_eq!(verdict.reason, Reason::Rule(winner.rule), "{host}");
            assert_eq!(verdict.decision, Action::Allow);
        }
    }
}
