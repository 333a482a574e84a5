//! The counters of a vantage point, defined when the policy is loaded.

use meridian_metrics::{
    CALLERS, CONNECTIONS, DRY_RUN, Metric, OTHER_NAMESPACE, REQUESTS, UNKNOWN_NAMESPACE,
};
use meridian_policy::{
    Action, Caller, ComponentType, Direction, DryRun, Policy, Reason, Subject, Vantage,
};
use proxy_wasm::types::MetricType;

use crate::host::{Refused, Stat};

/// One counter for every combination of labels that the policy can produce, so that nothing is
/// defined in a request.
pub(crate) struct Counters {
    /// By reason, component type (of requests alone) and direction.
    decided: Vec<Option<Stat>>,
    /// By reason and direction.
    dry_run: Vec<Option<Stat>>,
    /// By caller, decision and direction; empty where callers are not told apart.
    callers: Vec<Option<Stat>>,
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
        let (metric, components) = match subject {
            Subject::Request => (&REQUESTS, ComponentType::ALL),
            // Not a label there.
            Subject::Connection => (&CONNECTIONS, &[ComponentType::Application][..]),
        };
        let mut counters = Self {
            decided: Vec::new(),
            dry_run: Vec::new(),
            callers: Vec::new(),
            components: components.len(),
        };
        if subject == Subject::Request && vantage == Vantage::Egress && !policy.callers.is_empty() {
            let others = [OTHER_NAMESPACE, UNKNOWN_NAMESPACE];
            for namespace in policy.callers.iter().map(String::as_str).chain(others) {
                for decision in Action::ALL {
                    for direction in Direction::ALL {
                        let values = [
                            vantage.as_str(),
                            direction.as_str(),
                            decision.as_str(),
                            namespace,
                        ];
                        let name = CALLERS.stat_name(&values);
                        let counter = Stat::define(MetricType::Counter, &name)?;
                        counters.callers.push(Some(counter));
                    }
                }
            }
        }
        for possible in policy.possible_reasons(vantage, subject) {
            let define =
                |metric: &Metric, component: ComponentType, direction: Direction, decision| {
                    let Some(decision) = decision else {
                        return Ok(None);
                    };
                    let decision = Action::as_str(decision);
                    let rule = possible.rule;
                    let [vantage, direction, component] =
                        [vantage.as_str(), direction.as_str(), component.as_str()];
                    let name = if metric.labels.len() == REQUESTS.labels.len() {
                        metric.stat_name(&[vantage, direction, component, decision, rule])
                    } else {
                        metric.stat_name(&[vantage, direction, decision, rule])
                    };
                    Stat::define(MetricType::Counter, &name).map(Some)
                };
            for component in components {
                for direction in Direction::ALL {
                    let counter = define(metric, *component, *direction, possible.decided)?;
                    counters.decided.push(counter);
                }
            }
            for direction in Direction::ALL {
                let any = ComponentType::Application;
                let counter = define(&DRY_RUN, any, *direction, possible.dry_run)?;
                counters.dry_run.push(counter);
            }
        }
        Ok(counters)
    }

    /// Counts a decision; a connection has no component type.
    pub(crate) fn count(
        &self,
        reason: Reason,
        component: Option<ComponentType>,
        direction: Direction,
        dry_run: Option<DryRun>,
    ) -> Result<(), Refused> {
        let component = component.map_or(0, ComponentType::index);
        let direction = direction.index();
        let row = reason.slot() * self.components + component;
        increment(&self.decided, row, direction)?;
        match dry_run {
            Some(dry_run) => increment(&self.dry_run, dry_run.reason.slot(), direction),
            None => Ok(()),
        }
    }

    /// Counts the caller of a request.
    pub(crate) fn count_caller(
        &self,
        caller: Caller,
        decision: Action,
        direction: Direction,
    ) -> Result<(), Refused> {
        let decisions = Action::ALL.len();
        let named = self.callers.len() / (decisions * Direction::ALL.len());
        let slot = match caller {
            Caller::Named(index) => index,
            Caller::Other => named.saturating_sub(2),
            Caller::Unknown => named.saturating_sub(1),
        };
        let row = slot * decisions + decision.index();
        increment(&self.callers, row, direction.index())
    }
}

fn increment(counters: &[Option<Stat>], row: usize, direction: usize) -> Result<(), Refused> {
    let index = row * Direction::ALL.len() + direction;
    match counters.get(index).copied().flatten() {
        Some(counter) => counter.increment(),
        None => Ok(()),
    }
}
