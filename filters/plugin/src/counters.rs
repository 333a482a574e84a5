//! The counters of a vantage point, defined when the policy is loaded.

use meridian_metrics::{
    CALLERS, CONNECTIONS, DRY_RUN, Metric, OTHER_NAMESPACE, REQUESTS, UNKNOWN_NAMESPACE,
};
use meridian_policy::{
    Action, Caller, ComponentType, Direction, Policy, Subject, Vantage, Verdict,
};

use crate::host::{PluginHost, Refused, Stat, StreamHost};

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
    pub(crate) fn define<H: PluginHost>(
        host: H,
        policy: &Policy,
        vantage: Vantage,
        subject: Subject,
    ) -> Result<Self, Refused> {
        let of_requests = ComponentType::ALL.iter().copied().map(Some);
        // A connection has none, and its metric not that label.
        let components: Vec<Option<ComponentType>> = match subject {
            Subject::Request => of_requests.collect(),
            Subject::Connection => vec![None],
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
                        let counter = define(host, &CALLERS, &values)?;
                        counters.callers.push(Some(counter));
                    }
                }
            }
        }
        for possible in policy.possible_reasons(vantage, subject) {
            let of_decision = |component: Option<ComponentType>, direction: Direction| {
                let Some(decision) = possible.decided else {
                    return Ok(None);
                };
                let [vantage, direction, decision, rule] = [
                    vantage.as_str(),
                    direction.as_str(),
                    decision.as_str(),
                    possible.rule,
                ];
                match component {
                    Some(component) => {
                        let component = component.as_str();
                        let values = [vantage, direction, component, decision, rule];
                        define(host, &REQUESTS, &values)
                    }
                    None => define(host, &CONNECTIONS, &[vantage, direction, decision, rule]),
                }
                .map(Some)
            };
            for component in &components {
                for direction in Direction::ALL {
                    let counter = of_decision(*component, *direction)?;
                    counters.decided.push(counter);
                }
            }
            for direction in Direction::ALL {
                let counter = match possible.dry_run {
                    Some(decision) => {
                        let values = [
                            vantage.as_str(),
                            direction.as_str(),
                            decision.as_str(),
                            possible.rule,
                        ];
                        Some(define(host, &DRY_RUN, &values)?)
                    }
                    None => None,
                };
                counters.dry_run.push(counter);
            }
        }
        Ok(counters)
    }

    /// Counts what was decided, and by whom it was asked for. A counter that the host refuses keeps no
    /// other from counting.
    pub(crate) fn count<H: StreamHost>(&self, host: H, verdict: &Verdict) -> Result<(), Refused> {
        let direction = verdict.direction;
        let component = verdict.component.map_or(0, ComponentType::index);
        let row = verdict.reason.slot() * self.components + component;
        let counted = increment(host, &self.decided, row, direction);
        let counted = counted.and(match verdict.dry_run {
            Some(dry_run) => increment(host, &self.dry_run, dry_run.reason.slot(), direction),
            None => Ok(()),
        });
        counted.and(match verdict.caller {
            Some(caller) => self.count_caller(host, caller, verdict.decision, direction),
            None => Ok(()),
        })
    }

    #[inline(never)]
    fn count_caller<H: StreamHost>(
        &self,
        host: H,
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
        increment(host, &self.callers, row, direction)
    }
}

fn define<H: PluginHost>(host: H, metric: &Metric, values: &[&str]) -> Result<Stat, Refused> {
    host.define(metric.kind, &metric.stat_name(values))
}

fn increment<H: StreamHost>(
    host: H,
    counters: &[Option<Stat>],
    row: usize,
    direction: Direction,
) -> Result<(), Refused> {
    let index = row * Direction::ALL.len() + direction.index();
    match counters.get(index).copied().flatten() {
        Some(counter) => host.increment(counter),
        None => Ok(()),
    }
}
