//! What a policy can decide: the labels of its counters, known before the first request.

use crate::{Action, Mode, Policy, Reason, SniMode, Subject, Vantage};

/// A reason that a policy can have, and what it can do for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PossibleReason<'p> {
    /// The metric label `rule`.
    pub rule: &'p str,
    /// The gateways that it is limited to; empty for all.
    pub gateways: &'p [Box<str>],
    /// What is decided for it; `None` where it never decides.
    pub decided: Option<Action>,
    /// What a dry run can say for it; `None` where it never does.
    pub dry_run: Option<Action>,
}

/// Reasons without a rule come before the rules: default, invalid host, SNI mismatch.
const WITHOUT_RULE: usize = 3;

impl Reason {
    /// The place of this reason in [`Policy::possible_reasons`].
    pub fn slot(self) -> usize {
        match self {
            Self::Default => 0,
            Self::InvalidHost(_) => 1,
            Self::SniMismatch => 2,
            Self::Rule(index) => WITHOUT_RULE + index,
        }
    }
}

impl Policy {
    /// Every reason that requests, or connections whose bytes pass unread, can be decided for at a
    /// vantage point, in the order of [`Reason::slot`].
    pub fn possible_reasons(
        &self,
        vantage: Vantage,
        subject: Subject,
    ) -> impl Iterator<Item = PossibleReason<'_>> {
        let section = self.section(vantage);
        let is_enforced = section.mode == Mode::Enforce;
        let sni = match vantage {
            Vantage::Ingress if subject == Subject::Request => {
                [self.sni.mismatch, self.sni.missing]
            }
            _ => [SniMode::Ignore; 2],
        };
        let without_rule = [
            PossibleReason {
                rule: "default",
                gateways: &[],
                decided: Some(if is_enforced {
                    section.default
                } else {
                    Action::Allow
                }),
                dry_run: (!is_enforced).then_some(section.default),
            },
            PossibleReason {
                rule: "invalid-host",
                gateways: &[],
                decided: (self.invalid == Mode::Enforce).then_some(Action::Deny),
                dry_run: (self.invalid == Mode::DryRun).then_some(Action::Deny),
            },
            PossibleReason {
                rule: "sni-mismatch",
                gateways: &[],
                decided: sni.contains(&SniMode::Deny).then_some(Action::Deny),
                dry_run: sni.contains(&SniMode::DryRun).then_some(Action::Deny),
            },
        ];
        let rules = section.rules.iter().map(move |rule| {
            let decides = is_enforced && !rule.dry_run;
            PossibleReason {
                rule: &rule.name,
                gateways: &rule.gateways,
                decided: decides.then_some(rule.action),
                dry_run: (!decides).then_some(rule.action),
            }
        });
        without_rule.into_iter().chain(rules)
    }
}
