//! The counters of a vantage point, defined when the policy is loaded.

use meridian_metrics::{DRY_RUN, REQUESTS};
use meridian_policy::{
    Action, ComponentType, Direction, Mode, Policy, Reason, Section, SniMode, Vantage, Verdict,
};

use crate::host::{Counter, Refused};

/// Decisions without a rule come before the rules: default, invalid host, SNI mismatch.
const WITHOUT_RULE: usize = 3;

/// One counter for every combination of labels that the policy can produce, so that nothing is
/// defined in a request.
pub(crate) struct Counters {
    /// By reason, component type and direction.
    requests: Vec<Option<Counter>>,
    /// By reason and direction.
    dry_run: Vec<Option<Counter>>,
    /// By reason and what the dry run would decide, which is one for each reason.
    directions: usize,
}

impl Counters {
    /// Defines the counters that `vantage` needs.
    pub(crate) fn define(policy: &Policy, vantage: Vantage) -> Result<Self, Refused> {
        let section = policy.section(vantage);
        let mut counters = Self {
            requests: Vec::new(),
            dry_run: Vec::new(),
            directions: Direction::ALL.len(),
        };
        for slot in 0..WITHOUT_RULE + section.rules.len() {
            let real = real_decision(policy, vantage, slot);
            let rule = label(section, slot);
            for component in ComponentType::ALL {
                for direction in Direction::ALL {
                    counters.requests.push(match real {
                        Some(decision) => Some(Counter::define(&REQUESTS.stat_name(&[
                            vantage.as_str(),
                            direction.as_str(),
                            component.as_str(),
                            decision.as_str(),
                            rule,
                        ]))?),
                        None => None,
                    });
                }
            }
            let would = dry_run_decision(policy, vantage, slot);
            for direction in Direction::ALL {
                counters.dry_run.push(match would {
                    Some(decision) => Some(Counter::define(&DRY_RUN.stat_name(&[
                        vantage.as_str(),
                        direction.as_str(),
                        decision.as_str(),
                        rule,
                    ]))?),
                    None => None,
                });
            }
        }
        Ok(counters)
    }

    /// Counts a decision.
    pub(crate) fn count(&self, verdict: &Verdict) -> Result<(), Refused> {
        let component = match verdict.component {
            ComponentType::System => 0,
            ComponentType::Application => 1,
        };
        let direction = match verdict.direction {
            Direction::NorthSouth => 0,
            Direction::EastWest => 1,
            Direction::Unknown => 2,
        };
        let row = slot(verdict.reason) * ComponentType::ALL.len() + component;
        increment(&self.requests, row * self.directions + direction)?;
        if let Some(dry_run) = verdict.dry_run {
            increment(
                &self.dry_run,
                slot(dry_run.reason) * self.directions + direction,
            )?;
        }
        Ok(())
    }
}

fn increment(counters: &[Option<Counter>], index: usize) -> Result<(), Refused> {
    match counters.get(index).copied().flatten() {
        Some(counter) => counter.increment(),
        None => Ok(()),
    }
}

fn slot(reason: Reason) -> usize {
    match reason {
        Reason::Default => 0,
        Reason::InvalidHost(_) => 1,
        Reason::SniMismatch => 2,
        Reason::Rule(index) => WITHOUT_RULE + index,
    }
}

fn label(section: &Section, slot: usize) -> &str {
    match slot.checked_sub(WITHOUT_RULE) {
        Some(index) => Reason::Rule(index).label(section),
        None => match slot {
            0 => "default",
            1 => "invalid-host",
            _ => "sni-mismatch",
        },
    }
}

/// What is decided for the reason of a slot; `None` where that reason cannot decide.
fn real_decision(policy: &Policy, vantage: Vantage, slot: usize) -> Option<Action> {
    let section = policy.section(vantage);
    match slot.checked_sub(WITHOUT_RULE) {
        Some(index) => section
            .rules
            .get(index)
            .filter(|rule| section.mode == Mode::Enforce && !rule.dry_run)
            .map(|rule| rule.action),
        None => match slot {
            0 if section.mode == Mode::DryRun => Some(Action::Allow),
            0 => Some(section.default),
            1 => Some(Action::Deny),
            _ => (vantage == Vantage::Ingress && policy.sni.mismatch == SniMode::Deny)
                .then_some(Action::Deny),
        },
    }
}

/// What a dry run would decide for the reason of a slot; `None` where that cannot be.
fn dry_run_decision(policy: &Policy, vantage: Vantage, slot: usize) -> Option<Action> {
    let section = policy.section(vantage);
    match slot.checked_sub(WITHOUT_RULE) {
        Some(index) => section
            .rules
            .get(index)
            .filter(|rule| section.mode == Mode::DryRun || rule.dry_run)
            .map(|rule| rule.action),
        None => match slot {
            0 => (section.mode == Mode::DryRun).then_some(section.default),
            1 => None,
            _ => (vantage == Vantage::Ingress && policy.sni.mismatch == SniMode::DryRun)
                .then_some(Action::Deny),
        },
    }
}
