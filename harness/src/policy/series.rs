//! How many series the metrics of a policy can have: all of them are known before the first request.

use meridian_metrics::{
    CALLERS, CONNECTIONS, DRY_RUN, DURATION, Kind, METRICS, Metric, POLICY_REVISION, POLICY_RULES,
    REQUESTS, RESPONSE_CODE_CLASSES, RESPONSES,
};
use meridian_policy::{Action, ComponentType, Direction, Policy, PossibleReason, Subject, Vantage};

/// The most series of `metric` that one proxy has at a vantage point, as Prometheus counts them: a
/// histogram has one for each bucket, one for the rest, a sum and a count.
pub fn of(policy: &Policy, vantage: Vantage, metric: &Metric) -> usize {
    let directions = Direction::ALL.len();
    // A gateway has the rules that name it and those that name none; of the gateways without a name
    // none has more than one that has.
    let gateways = policy.mesh.gateways(vantage).iter();
    let gateways: Vec<&str> = gateways
        .filter_map(|gateway| gateway.name.as_deref())
        .collect();
    let count = |subject, what: fn(&PossibleReason<'_>) -> Option<Action>| {
        let at = |gateway: Option<&&str>| {
            let is_here = |reason: &PossibleReason<'_>| {
                let names = reason.gateways;
                names.is_empty() || names.iter().any(|name| gateway == Some(&&**name))
            };
            let reasons = policy.possible_reasons(vantage, subject);
            reasons
                .filter(|reason| what(reason).is_some() && is_here(reason))
                .count()
        };
        let most = gateways.iter().map(|gateway| at(Some(gateway))).max();
        most.unwrap_or_else(|| at(None))
    };
    let series = match metric.name {
        name if name == REQUESTS.name => {
            count(Subject::Request, |reason| reason.decided) * directions * ComponentType::ALL.len()
        }
        name if name == CONNECTIONS.name && vantage.is_gateway() => {
            count(Subject::Connection, |reason| reason.decided) * directions
        }
        // What connections add is among what requests have.
        name if name == DRY_RUN.name => {
            count(Subject::Request, |reason| reason.dry_run) * directions
        }
        name if name == CALLERS.name && vantage == Vantage::Egress => match policy.callers.len() {
            0 => 0,
            named => (named + 2) * directions * Action::ALL.len(),
        },
        name if name == RESPONSES.name && policy.metrics.responses => {
            directions * RESPONSE_CODE_CLASSES.len()
        }
        name if name == DURATION.name && policy.metrics.durations => directions,
        name if name == POLICY_REVISION.name || name == POLICY_RULES.name => 1,
        _ => 0,
    };
    match metric.kind {
        Kind::Histogram { buckets } => series * (buckets.len() + 3),
        Kind::Counter | Kind::Gauge => series,
    }
}

/// The most series of all metrics that one proxy has at a vantage point.
pub fn bound(policy: &Policy, vantage: Vantage) -> usize {
    METRICS
        .iter()
        .map(|metric| of(policy, vantage, metric))
        .sum()
}
