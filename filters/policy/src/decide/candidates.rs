//! Every rule that a decision had to choose from, and what became of each.
//!
//! For people who ask why; no filter calls this, so it costs the modules nothing.

use std::ops::ControlFlow;

use crate::decide::decision::for_each_rule;
use crate::decide::direction::direction;
use crate::decide::facts::Facts;
use crate::decide::target::target;
use crate::{Evidence, Mode, Policy, SniMode, Subject, Unmet, Vantage};

/// A rule with a host pattern that matches, and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The index of the rule in [`crate::Section::rules`].
    pub rule: usize,
    /// The port of the pattern; `None` is any.
    pub only_port: Option<u16>,
    /// What became of it.
    pub standing: Standing,
}

/// What became of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
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
    /// A condition does not hold.
    Condition {
        /// The first that does not.
        unmet: Unmet,
        /// True if the evidence that it needs is missing: an identity, or a source address.
        missing: bool,
    },
}

impl Policy {
    /// The candidates of a request or connection in the order of their [`crate::Precedence`].
    ///
    /// A rule is listed once, under its first pattern whose port is the request's; patterns before
    /// that with another port are listed as well. Empty when the host is invalid.
    pub fn candidates<E: Evidence>(
        &self,
        vantage: Vantage,
        subject: Subject,
        evidence: &mut E,
    ) -> Vec<Candidate> {
        let facts = &mut Facts::new(&self.mesh, vantage, subject, evidence);
        let Ok(authority) = target(facts) else {
            return Vec::new();
        };
        let (direction, _) = direction(Some(&authority), facts);
        let mismatch = self.sni_mismatch(&authority, facts);
        let is_refused = mismatch == SniMode::Deny;
        let is_mismatch = mismatch != SniMode::Ignore;
        let section = self.section(vantage);
        let is_enforced = section.mode == Mode::Enforce;
        let mut noted = is_mismatch;
        let mut winner = None;
        let mut settled = vec![false; section.rules.len()];
        let mut candidates = Vec::new();
        for_each_rule(section, &authority, direction, facts, |matched| {
            let Some(settled) = settled.get_mut(matched.index).filter(|settled| !**settled) else {
                return ControlFlow::Continue(());
            };
            *settled = matched.unmet != Some(Unmet::HostPort);
            let standing = match (matched.unmet, winner) {
                (Some(unmet), _) => Standing::Condition {
                    unmet,
                    missing: false,
                },
                (None, _) if is_refused => Standing::SniMismatch,
                (None, Some(to)) => Standing::Lost { to },
                (None, None) if matched.rule.dry_run => Standing::DryRun {
                    // A section in dry run tells of its own decision.
                    noted: is_enforced && !std::mem::replace(&mut noted, true),
                },
                (None, None) => {
                    winner = Some(matched.index);
                    if is_enforced {
                        Standing::Wins
                    } else {
                        Standing::DryRun {
                            noted: !is_mismatch,
                        }
                    }
                }
            };
            candidates.push(Candidate {
                rule: matched.index,
                only_port: matched.only_port,
                standing,
            });
            ControlFlow::Continue(())
        });
        for candidate in &mut candidates {
            if let Standing::Condition { unmet, missing } = &mut candidate.standing {
                *missing = is_missing(*unmet, facts);
            }
        }
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
        Unmet::Gateways => facts.evidence.is_gateway(&[]).is_none(),
        Unmet::HostUnknown => true,
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

    fn standings(policy: &Policy, request: &mut Request<'_>) -> Vec<(usize, Standing)> {
        policy
            .candidates(Vantage::Ingress, Subject::Request, request)
            .iter()
            .map(|candidate| (candidate.rule, candidate.standing))
            .collect()
    }

    #[test]
    fn are_in_the_order_of_precedence_with_their_standings() {
        let policy = Policy::from_json(POLICY).unwrap();
        let condition = |unmet, missing| Standing::Condition { unmet, missing };
        let mut request = Request::new(b"a.example.com");
        assert_eq!(
            standings(&policy, &mut request),
            [
                (2, condition(Unmet::Principals, true)),
                (5, condition(Unmet::Ports, false)),
                (1, condition(Unmet::HostPort, false)),
                (4, Standing::Wins),
                (3, Standing::Lost { to: 4 }),
                (1, Standing::Lost { to: 4 }),
                (0, Standing::Lost { to: 4 }),
            ]
        );
        let mut request = Request::new(b"b.example.com");
        assert_eq!(
            standings(&policy, &mut request),
            [
                (3, Standing::DryRun { noted: true }),
                (1, Standing::Wins),
                (0, Standing::Lost { to: 1 }),
            ]
        );
        assert_eq!(standings(&policy, &mut Request::new(b"a..b")), []);
    }

    #[test]
    fn a_refusal_before_the_rules_is_told_by_each() {
        let policy = Policy::from_json(POLICY).unwrap();
        let mut request = Request::new(b"other.example");
        request.sni = Some(b"shop.example");
        assert_eq!(
            standings(&policy, &mut request),
            [(0, Standing::SniMismatch)]
        );
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
            let verdict = policy.decide(Vantage::Ingress, Subject::Request, &mut request);
            let candidates = policy.candidates(Vantage::Ingress, Subject::Request, &mut request);
            let winner = candidates
                .iter()
                .find(|candidate| candidate.standing == Standing::Wins)
                .unwrap();
            assert_eq!(verdict.reason, Reason::Rule(winner.rule), "{host}");
            assert_eq!(verdict.decision, Action::Allow);
        }
    }
}
