//! The goals, each a target and what was measured, with a verdict that dares to say that it cannot
//! tell.

use serde_json::{Value, json};

use super::cells::{BASELINE, CONTROL, INGRESS, LUA, TrafficKind, ingress};
use super::footprint::Footprint;
use super::rounds::Measured;
use super::statistics::{Estimate, median, range, ratio};
use super::variants::Filter;
use crate::lab::modules::Module;

/// Whether a goal is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GoalVerdict {
    /// The whole interval is at or below the target.
    Met,
    /// The whole interval is above it.
    Missed,
    /// The target is inside the interval, or nothing was measured.
    Unknown,
    /// There is no target.
    Reported,
}

/// A goal.
#[derive(Debug, Clone)]
pub struct Goal {
    /// What is measured.
    pub name: String,
    /// The unit, or nothing for a ratio.
    pub unit: &'static str,
    /// At most this, or `None` where the number is only reported.
    pub target: Option<f64>,
    /// What was measured, or `None` where it was left out.
    pub measured: Option<Estimate>,
}

impl Goal {
    /// Whether it is met.
    pub fn verdict(&self) -> GoalVerdict {
        match (self.target, self.measured) {
            (None, _) => GoalVerdict::Reported,
            (Some(target), Some(measured)) if measured.high <= target => GoalVerdict::Met,
            (Some(target), Some(measured)) if measured.low > target => GoalVerdict::Missed,
            (Some(_), _) => GoalVerdict::Unknown,
        }
    }

    /// `{name, unit, target, measured, low, high, met}`; `met` is true, false, "unknown", or null
    /// where there is no target.
    pub fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "unit": self.unit,
            "target": self.target,
            "measured": self.measured.map(|is| is.value),
            "low": self.measured.map(|is| is.low),
            "high": self.measured.map(|is| is.high),
            "met": match self.verdict() {
                GoalVerdict::Met => json!(true),
                GoalVerdict::Missed => json!(false),
                GoalVerdict::Unknown => json!("unknown"),
                GoalVerdict::Reported => Value::Null,
            },
        })
    }
}

/// How far two listeners without a filter are from each other, as a ratio of their whole costs.
#[derive(Debug, Clone, Copy)]
pub struct Noise {
    /// Requests that Envoy answers itself.
    pub direct: Estimate,
    /// 1 MB there and back.
    pub megabyte: Estimate,
}

impl Noise {
    /// Of what was measured; every run has those cells.
    pub fn of(measured: &Measured, seed: u64) -> Option<Self> {
        let of = |traffic| {
            let again = measured.whole(CONTROL, traffic)?;
            Some(ratio(&again, &measured.whole(BASELINE, traffic)?, seed))
        };
        Some(Self {
            direct: of(TrafficKind::Direct)?,
            megabyte: of(TrafficKind::Megabyte)?,
        })
    }
}

/// How far the end of an interval that is farther from 1 is away from it.
pub fn width(ratio: Estimate) -> f64 {
    (ratio.high - 1.0).abs().max((1.0 - ratio.low).abs())
}

/// All goals, in the order in which they were set.
pub fn goals(
    measured: &Measured,
    noise: &Noise,
    footprints: &[Footprint],
    modules: &[Module],
    seed: u64,
) -> Vec<Goal> {
    let added = |filter, target, name: &str, to: Filter| Goal {
        name: name.to_owned(),
        unit: "",
        target,
        measured: measured
            .added(filter, TrafficKind::Direct)
            .zip(measured.added(to, TrafficKind::Direct))
            .map(|(ours, theirs)| ratio(&ours, &theirs, seed)),
    };
    let whole =
        |name: &str, noise, above: (Filter, TrafficKind), below: (Filter, TrafficKind)| Goal {
            name: name.to_owned(),
            unit: "",
            target: Some(1.0 + width(noise)),
            measured: measured
                .whole(above.0, above.1)
                .zip(measured.whole(below.0, below.1))
                .map(|(above, below)| ratio(&above, &below, seed)),
        };
    let mut goals = vec![
        added(
            INGRESS,
            Some(1.5),
            "ingress, 1,000 rules: added CPU / that of the Lua script",
            LUA,
        ),
        added(
            INGRESS,
            Some(0.35),
            "ingress, 1,000 rules: added CPU / that of RBAC with 1,000 hosts and header_mutation",
            Filter::Rbac { hosts: 1000 },
        ),
        added(
            INGRESS,
            None,
            "ingress, 1,000 rules: added CPU / that of RBAC with 10 hosts and header_mutation",
            Filter::Rbac { hosts: 10 },
        ),
        added(
            ingress(1_000_000),
            Some(1.05),
            "ingress, 1,000,000 hosts in 1,000 rules: added CPU / its own with 10 rules of one host",
            ingress(10),
        ),
        whole(
            "ingress, 1,000 rules: whole CPU of a refusal / of an allowed request; target: 1 and noise",
            noise.direct,
            (INGRESS, TrafficKind::Refused),
            (INGRESS, TrafficKind::Direct),
        ),
        whole(
            "ingress, 1,000 rules: whole CPU of 1 MB each way / without a filter; target: 1 and noise",
            noise.megabyte,
            (INGRESS, TrafficKind::Megabyte),
            (BASELINE, TrafficKind::Megabyte),
        ),
    ];
    goals.extend(modules.iter().map(|module| Goal {
        name: format!("{} module: size", module.name),
        unit: "kB",
        target: Some(150.0),
        measured: Some(exactly(module.bytes as f64 / 1000.0)),
    }));
    goals.extend(start_goals(footprints));
    goals
}

/// Of memory and loading time.
fn start_goals(footprints: &[Footprint]) -> Vec<Goal> {
    let find = |filter| {
        footprints
            .iter()
            .find(|footprint| footprint.filter == filter)
    };
    let beyond_empty = find(INGRESS)
        .zip(find(Filter::SdkEmpty))
        .map(|(ours, empty)| {
            let (value, base) = (median(&ours.megabytes), median(&empty.megabytes));
            // The farthest that any two pairs of Envoys are apart.
            let (ours, empty) = (range(&ours.megabytes), range(&empty.megabytes));
            Estimate {
                value: value - base,
                low: ours.low - empty.high,
                high: ours.high - empty.low,
            }
        });
    let goal = |name: &str, unit, target, measured| Goal {
        name: name.to_owned(),
        unit,
        target: Some(target),
        measured,
    };
    let memory = |filter| find(filter).map(|is| range(&is.megabytes));
    vec![
        goal(
            "ingress, 1,000 rules: memory of one more worker, beyond the SDK's empty filter",
            "MB",
            1.5,
            beyond_empty,
        ),
        goal(
            "ingress, 100,000 hosts in 1,000 rules: memory of one more worker",
            "MB",
            8.0,
            memory(ingress(100_000)),
        ),
        goal(
            "ingress, 1,000,000 hosts in 1,000 rules: memory of one more worker",
            "MB",
            64.0,
            memory(ingress(1_000_000)),
        ),
        goal(
            "ingress, 100,000 hosts in 1,000 rules: CPU time to start one more worker and its VM",
            "ms",
            150.0,
            find(ingress(100_000)).map(|is| range(&is.milliseconds)),
        ),
    ]
}

fn exactly(value: f64) -> Estimate {
    Estimate {
        value,
        low: value,
        high: value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goal(target: Option<f64>, low: f64, high: f64) -> Goal {
        Goal {
            name: "g".to_owned(),
            unit: "",
            target,
            measured: Some(Estimate {
                value: (low + high) / 2.0,
                low,
                high,
            }),
        }
    }

    #[test]
    fn a_goal_is_met_or_missed_only_by_its_whole_interval() {
        assert_eq!(goal(Some(1.5), 1.4, 1.5).verdict(), GoalVerdict::Met);
        assert_eq!(goal(Some(1.5), 1.51, 1.6).verdict(), GoalVerdict::Missed);
        assert_eq!(goal(Some(1.5), 1.4, 1.6).verdict(), GoalVerdict::Unknown);
        assert_eq!(goal(None, 1.4, 1.6).verdict(), GoalVerdict::Reported);
        let unmeasured = Goal {
            measured: None,
            ..goal(Some(1.0), 0.0, 0.0)
        };
        assert_eq!(unmeasured.verdict(), GoalVerdict::Unknown);
        let nothing = goal(Some(1.0), f64::NAN, f64::NAN);
        assert_eq!(nothing.verdict(), GoalVerdict::Unknown);
    }

    #[test]
    fn json_says_met_in_one_word() {
        assert_eq!(goal(Some(1.5), 1.0, 1.2).to_json()["met"], true);
        assert_eq!(goal(Some(1.0), 1.1, 1.2).to_json()["met"], false);
        assert_eq!(goal(Some(1.1), 1.0, 1.2).to_json()["met"], "unknown");
        assert_eq!(goal(None, 1.0, 1.2).to_json()["met"], Value::Null);
    }

    #[test]
    fn memory_beyond_another_s_is_as_uncertain_as_both() {
        let footprint = |filter, megabytes: [f64; 3]| Footprint {
            filter,
            megabytes: megabytes.to_vec(),
            milliseconds: vec![1.0],
        };
        let goals = start_goals(&[
            footprint(Filter::SdkEmpty, [1.0, 1.2, 1.1]),
            footprint(INGRESS, [1.9, 2.1, 2.0]),
        ]);
        let beyond = goals[0].measured.unwrap();
        assert!((beyond.value - 0.9).abs() < 1e-9);
        assert!((beyond.low - 0.7).abs() < 1e-9 && (beyond.high - 1.1).abs() < 1e-9);
        assert_eq!(goals[0].verdict(), GoalVerdict::Met);
        assert_eq!(goals[1].verdict(), GoalVerdict::Unknown);
    }
}
