//! A run's result: as a Markdown page and as JSON.

use std::fmt::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};

use super::cells::{BASELINE, CONTROL, LEFT_OUT, TrafficKind};
use super::footprint::Footprint;
use super::goals::{Goal, GoalVerdict, Noise, width};
use super::machine::Machine;
use super::rounds::{Measured, Plan, Series};
use super::statistics::{Estimate, Spread};
use crate::lab::modules::Module;

/// Two listeners without a filter may differ by this share, or the machine is too noisy.
const NOISY_DIFFERENCE: f64 = 0.03;
/// Envoy or the load may wait for their CPUs this share of the time that they have them.
const NOISY_WAITING: f64 = 0.05;
/// The hypervisor may keep this share of Envoy's CPU.
const NOISY_STOLEN: f64 = 0.02;

/// Everything of a run.
#[derive(Debug)]
pub struct Results {
    /// Where it ran.
    pub machine: Machine,
    /// How.
    pub plan: Plan,
    /// If it was a `--quick` one.
    pub quick: bool,
    /// Every cell.
    pub measured: Measured,
    /// The difference of equals.
    pub noise: Noise,
    /// The share of its CPU that the hypervisor kept from Envoy.
    pub stolen: f64,
    /// Memory and loading time.
    pub footprints: Vec<Footprint>,
    /// The modules that were measured.
    pub modules: Vec<Module>,
    /// The verdicts.
    pub goals: Vec<Goal>,
    /// How long all of it took.
    pub took: Duration,
}

impl Results {
    /// True if every goal with a target is met.
    pub fn all_met(&self) -> bool {
        self.goals
            .iter()
            .all(|goal| matches!(goal.verdict(), GoalVerdict::Met | GoalVerdict::Reported))
    }

    /// Why the machine was too noisy to tell small differences; empty if it was not.
    pub fn disturbances(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        let apart = width(self.noise.direct);
        if apart > NOISY_DIFFERENCE {
            reasons.push(format!(
                "two listeners without a filter may differ by {:.1} %",
                apart * 100.0
            ));
        }
        let waited = self.waited();
        if waited > NOISY_WAITING {
            reasons.push(format!(
                "other processes held Envoy or its load up for {:.0} % of the time that they ran",
                waited * 100.0
            ));
        }
        if self.stolen > NOISY_STOLEN {
            reasons.push(format!(
                "the hypervisor kept {:.1} % of Envoy's CPU",
                self.stolen * 100.0
            ));
        }
        reasons
    }

    /// How long Envoy or the load waited for a CPU, as a share of what it used: the mean, since a few visits
    /// that met another process are what matters.
    fn waited(&self) -> f64 {
        let series = self.measured.0.iter();
        let all = series.flat_map(|series| series.values(|sample| sample.waited));
        let (sum, count) = all.fold((0.0, 0.0), |(sum, count), waited| {
            (sum + waited, count + 1.0)
        });
        sum / count
    }

    /// The median share of the time in which Envoy's worker was busy.
    fn busy(&self) -> f64 {
        self.measured.over_all(|sample| sample.busy).median
    }

    /// One JSON object.
    pub fn to_json(&self) -> Value {
        let cells = self.measured.0.iter().map(|series| self.cell(series));
        let footprint = |footprint: &Footprint| {
            json!({
                "filter": footprint.filter.to_string(),
                "megabytesAWorker": footprint.megabytes,
                "startMillisecondsAWorker": footprint.milliseconds,
            })
        };
        let module = |module: &Module| json!({"name": module.name, "bytes": module.bytes, "sha256": module.sha256});
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "machine": self.machine.to_json(),
            "quick": self.quick,
            "rounds": self.measured.0.iter().map(|series| series.samples.len()).min(),
            "calmRounds": self.measured.0.first().map(|series| &series.calm),
            "requests": self.plan.requests,
            "seed": self.plan.seed,
            "seconds": self.took.as_secs(),
            "goals": self.goals.iter().map(Goal::to_json).collect::<Value>(),
            "noise": {
                "direct": estimate(self.noise.direct),
                "megabyte": estimate(self.noise.megabyte),
                "waited": self.waited(),
                "stolen": self.stolen,
                "workerBusy": self.busy(),
                "tooNoisyBecause": self.disturbances(),
            },
            "cells": cells.collect::<Value>(),
            "footprints": self.footprints.iter().map(footprint).collect::<Value>(),
            "modules": self.modules.iter().map(module).collect::<Value>(),
            "leftOut": LEFT_OUT,
        })
    }

    fn cell(&self, series: &Series) -> Value {
        let cell = series.cell;
        let whole = series.values(|sample| sample.cpu);
        let added = self.measured.added(cell.filter, cell.traffic);
        json!({
            "filter": cell.filter.to_string(),
            "traffic": cell.traffic.to_string(),
            "cpuMicroseconds": spread(&whole),
            "addedMicroseconds": added.as_deref().map(spread),
            "workerMicroseconds": spread(&series.values(|sample| sample.worker)),
            "p50Microseconds": spread(&series.values(|sample| sample.p50)),
            "p90Microseconds": spread(&series.values(|sample| sample.p90)),
            "p99Microseconds": spread(&series.values(|sample| sample.p99)),
            "sent": series.sent,
            "repeatedVisits": series.repeated,
            "rounds": {
                "cpuMicroseconds": series.every(|sample| sample.cpu),
                "waited": series.every(|sample| sample.waited),
                "busy": series.every(|sample| sample.busy),
            },
        })
    }

    /// A Markdown page.
    pub fn to_markdown(&self) -> String {
        let mut page = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_markdown(&mut page);
        page
    }

    fn write_markdown(&self, page: &mut String) -> fmt::Result {
        let rounds = self.measured.0.iter().map(|series| series.samples.len());
        let calm = self.measured.0.iter().map(|series| series.calm.len());
        writeln!(
            page,
            "{}, {} CPUs, Linux {}, Envoy {}; meridian {}; {} rounds of {} requests a cell, of which the calmer {} count, {} s.\n",
            self.machine.cpu,
            self.machine.cpus,
            self.machine.kernel,
            self.machine.envoy,
            env!("CARGO_PKG_VERSION"),
            rounds.min().unwrap_or(0),
            self.plan.requests,
            calm.min().unwrap_or(0),
            self.took.as_secs(),
        )?;
        self.write_goals(page)?;
        self.write_cells(page)?;
        self.write_footprints(page)?;
        self.write_noise(page)?;
        writeln!(page, "\nNot measured: {LEFT_OUT}")
    }

    fn write_goals(&self, page: &mut String) -> fmt::Result {
        writeln!(page, "| goal | at most | measured | 95 % interval | met |")?;
        writeln!(page, "|---|--:|--:|--:|---|")?;
        for goal in &self.goals {
            let unit = if goal.unit.is_empty() {
                String::new()
            } else {
                format!(" {}", goal.unit)
            };
            let number = |value: f64| {
                let digits = if value.abs() < 10.0 { 2 } else { 1 };
                format!("{value:.digits$}{unit}")
            };
            let (measured, interval) = match goal.measured {
                None => ("not measured".to_owned(), String::new()),
                Some(is) if is.low == is.high => (number(is.value), String::new()),
                Some(is) => (
                    number(is.value),
                    format!("{} to {}", number(is.low), number(is.high)),
                ),
            };
            writeln!(
                page,
                "| {} | {} | {measured} | {interval} | {} |",
                goal.name,
                goal.target.map_or_else(|| "–".to_owned(), number),
                match goal.verdict() {
                    GoalVerdict::Met => "yes",
                    GoalVerdict::Missed => "**no**",
                    GoalVerdict::Unknown => "cannot tell",
                    GoalVerdict::Reported => "reported",
                },
            )?;
        }
        writeln!(page)
    }

    fn write_cells(&self, page: &mut String) -> fmt::Result {
        writeln!(
            page,
            "| filter | traffic | adds, µs CPU | its middle half | whole, µs CPU | p50, µs | p99, µs |"
        )?;
        writeln!(page, "|---|---|--:|--:|--:|--:|--:|")?;
        for traffic in [
            TrafficKind::Direct,
            TrafficKind::Refused,
            TrafficKind::Http2,
            TrafficKind::Upstream,
            TrafficKind::Megabyte,
        ] {
            let of_traffic = |series: &&Series| series.cell.traffic == traffic;
            for series in self.measured.0.iter().filter(of_traffic) {
                let filter = series.cell.filter;
                let middle = |values: Vec<f64>| Spread::of(&values).median;
                let (adds, spread) = match self.measured.added(filter, traffic) {
                    Some(added) if filter != BASELINE => {
                        let added = Spread::of(&added);
                        (
                            format!("{:.1}", added.median),
                            format!("{:.1} to {:.1}", added.q1, added.q3),
                        )
                    }
                    _ => (String::new(), String::new()),
                };
                writeln!(
                    page,
                    "| {filter} | {traffic} | {adds} | {spread} | {:.1} | {:.0} | {:.0} |",
                    middle(series.values(|sample| sample.cpu)),
                    middle(series.values(|sample| sample.p50)),
                    middle(series.values(|sample| sample.p99)),
                )?;
            }
        }
        writeln!(
            page,
            "\nCPU is the time of all threads of the Envoy process, of one request. What a filter adds \
             is over `{BASELINE}` in the same round, for a refusal over an allowed request. The number \
             of a filter is that of its hosts. `sdk+` is a ladder: the SDK's filter, stripped, that takes \
             this step and those before it. Latency is with one request at a time. 1 MB goes to the \
             upstream and back.\n"
        )
    }

    fn write_footprints(&self, page: &mut String) -> fmt::Result {
        writeln!(
            page,
            "| filter | memory of one more worker, MB | CPU time to start it, ms |"
        )?;
        writeln!(page, "|---|--:|--:|")?;
        for footprint in &self.footprints {
            writeln!(
                page,
                "| {} | {:.1} | {:.0} |",
                footprint.filter,
                footprint.memory().median,
                footprint.loading().median,
            )?;
        }
        writeln!(page)
    }

    fn write_noise(&self, page: &mut String) -> fmt::Result {
        let noise = self.noise.direct;
        writeln!(
            page,
            "Noise: `{CONTROL}` took {:.3} ({:.3} to {:.3}) of what `{BASELINE}` took. Envoy's worker \
             was busy {:.0} % of the time; other processes held it or the load up for {:.1} %, after \
             {} of {} visits were made again for that.",
            noise.value,
            noise.low,
            noise.high,
            self.busy() * 100.0,
            self.waited() * 100.0,
            self.measured
                .0
                .iter()
                .map(|series| series.repeated)
                .sum::<usize>(),
            self.measured
                .0
                .iter()
                .map(|series| series.samples.len())
                .sum::<usize>(),
        )?;
        let disturbances = self.disturbances();
        if !disturbances.is_empty() {
            writeln!(
                page,
                "**The machine was too noisy for small differences**: {}. Run it again on a quiet one.",
                disturbances.join("; ")
            )?;
        }
        Ok(())
    }
}

fn spread(values: &[f64]) -> Value {
    let spread = Spread::of(values);
    json!({"median": spread.median, "q1": spread.q1, "q3": spread.q3})
}

fn estimate(estimate: Estimate) -> Value {
    json!({"ratio": estimate.value, "low": estimate.low, "high": estimate.high})
}
