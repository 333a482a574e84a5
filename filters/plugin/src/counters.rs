//! The counters of a vantage point, defined when the policy is loaded.

use meridian_metrics::{CONNECTIONS, DRY_RUN, Metric, REQUESTS};
use meridian_policy::{
    Action, ComponentType, Direction, DryRun, Mode, Policy, Reason, Section, SniMode, Vantage,
};

use crate::filter::Subject;
use crate::host::{Counter, Refused};

/// Decisions without a rule come before the rules: default, invalid host, SNI mismatch.
const WITHOUT_RULE: usize = 3;

/// One counter for every combination of labels that the policy can produce, so that nothing is
/// defined in a request.
pub(crate) struct Counters {
    /// By reason, component type (of requests alone) and direction.
    decided: Vec<Option<Counter>>,
    /// By reason and direction.
    dry_run: Vec<Option<Counter>>,
    /// How many component types are told apart.
    components: usize,
}

impl Counters {
    /// Defines the counters that `vantage` needs for `subject`.
    pub(crate) fn define(
        policy: &Policy,
        vantage: Vantage,
        subject: Subject,
    ) -> Result<Self, Refused> {
        let section = policy.section(vantage);
        let sni = match subject {
            Subject::Requests if vantage == Vantage::Ingress => policy.sni.mismatch,
            _ => SniMode::Ignore,
        };
        let (metric, components) = match subject {
            Subject::Requests => (&REQUESTS, ComponentType::ALL),
            // Not a label there.
            Subject::Connections => (&CONNECTIONS, &[ComponentType::Application][..]),
        };
        let mut counters = Self {
            decided: Vec::new(),
            dry_run: Vec::new(),
            components: components.len(),
        };
        for slot in 0..WITHOUT_RULE + section.rules.len() {
            let define =
                |metric: &Metric, component: ComponentType, direction: Direction, decision| {
                    let Some(decision) = decision else {
                        return Ok(None);
                    };
                    let decision = Action::as_str(decision);
                    let rule = label(section, slot);
                    let [vantage, direction, component] =
                        [vantage.as_str(), direction.as_str(), component.as_str()];
                    let name = if metric.labels.len() == REQUESTS.labels.len() {
                        metric.stat_name(&[vantage, direction, component, decision, rule])
                    } else {
                        metric.stat_name(&[vantage, direction, decision, rule])
                    };
                    Counter::define(&name).map(Some)
                };
            for component in components {
                for direction in Direction::ALL {
                    let decision = real_decision(section, sni, slot);
                    let counter = define(metric, *component, *direction, decision)?;
                    counters.decided.push(counter);
                }
            }
            for direction in Direction::ALL {
                let decision = dry_run_decision(section, sni, slot);
                let counter = define(&DRY_RUN, ComponentType::Application, *direction, decision)?;
                counters.dry_run.push(counter);
            }
        }
        Ok(counters)
    }

    /// Counts a decision; the component type of a connection is anything.
    pub(crate) fn count(
        &self,
        reason: Reason,
        component: ComponentType,
        direction: Direction,
        dry_run: Option<DryRun>,
    ) -> Result<(), Refused> {
        let component = match component {
            ComponentType::Application if self.components > 1 => 1,
            _ => 0,
        };
        let direction = match direction {
            Direction::NorthSouth => 0,
            Direction::EastWest => 1,
            Direction::Unknown => 2,
        };
        let row = slot(reason) * self.components + component;
        increment(&self.decided, row, direction)?;
        match dry_run {
            Some(dry_run) => increment(&self.dry_run, slot(dry_run.reason), direction),
            None => Ok(()),
        }
    }
}

fn increment(counters: &[Option<Counter>], row: usize, direction: usize) -> Result<(), Refused> {
    let index = row * Direction::ALL.len() + direction;
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
fn real_decision(section: &Section, sni: SniMode, slot: usize) -> Option<Action> {
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
            _ => (sni == SniMode::Deny).then_some(Action::Deny),
        },
    }
}

/// What a dry run would decide for the reason of a slot; `None` where that cannot be.
fn dry_run_decision(section: &Section, sni: SniMode, slot: usize) -> Option<Action> {
    match slot.checked_sub(WITHOUT_RULE) {
        Some(index) => section
            .rules
            .get(index)
            .filter(|rule| section.mode == Mode::DryRun || rule.dry_run)
            .map(|rule| rule.action),
        None => match slot {
            0 => (section.mode == Mode::DryRun).then_some(section.default),
            1 => None,
            _ => (sni == SniMode::DryRun).then_some(Action::Deny),
        },
    }
}
