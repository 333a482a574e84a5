//! The measurement: rounds that visit every cell in an order of their own.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::cells::{Cell, TrafficKind, filters};
use super::cpu;
use super::hosts::HostOrder;
use super::load::Connections;
use super::statistics::Spread;
use super::variants::Filter;
use crate::lab::envoy::Envoy;

/// Requests at a time while CPU time is measured: the worker always has the next one waiting.
const STREAMS: usize = 8;

/// Rounds before the first that counts: V8 compiles what is called often anew, in the background.
const WARM_UP_ROUNDS: usize = 2;

/// A visit in which Envoy or the load waited for their CPUs for more than this share of what they used
/// is made again, at most this often, and the least disturbed one counts: which one that is does not
/// depend on what it measured. A load that is held up makes Envoy dearer too, which then wakes up for
/// each request.
const DISTURBED: f64 = 0.05;
const REPEATS: usize = 2;

/// How rounds are made.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Rounds that count.
    pub rounds: usize,
    /// Requests of a cell in a round; of 1 MB a fiftieth.
    pub requests: usize,
    /// Decides the orders and the hosts.
    pub seed: u64,
    /// After this time no further round begins.
    pub limit: Duration,
}

/// One visit of a cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// CPU time of the Envoy process, µs a request.
    pub cpu: f64,
    /// Of that, its worker's.
    pub worker: f64,
    /// The share of the time from the first request to the last answer in which the worker ran.
    pub busy: f64,
    /// How long threads were ready but something else had the CPU, as a share of the time that they
    /// had it: Envoy's or the load's, whichever is more.
    pub waited: f64,
    /// Latency with one request at a time, µs.
    pub p50: f64,
    /// Likewise.
    pub p90: f64,
    /// Likewise.
    pub p99: f64,
}

/// All visits of a cell.
#[derive(Debug)]
pub struct Series {
    /// The cell.
    pub cell: Cell,
    /// One a round, in their order.
    pub samples: Vec<Sample>,
    /// Which rounds count: the calmer half.
    pub calm: Vec<usize>,
    /// Every request that was sent, warm-up included.
    pub sent: u64,
    /// Visits that were made again because another process had disturbed them.
    pub repeated: usize,
    asked: HostOrder,
}

impl Series {
    fn new(cell: Cell, seed: u64) -> Self {
        let asked = match cell.traffic {
            TrafficKind::Refused => HostOrder::unknown(seed),
            _ => HostOrder::known(cell.filter.hosts(), seed),
        };
        Self {
            cell,
            samples: Vec::new(),
            calm: Vec::new(),
            sent: 0,
            repeated: 0,
            asked,
        }
    }

    /// One number of every round that counts.
    pub fn values(&self, of: impl Fn(&Sample) -> f64) -> Vec<f64> {
        let calm = self.calm.iter();
        calm.map(|round| of(&self.samples[*round])).collect()
    }

    /// One number of every round.
    pub fn every(&self, of: impl Fn(&Sample) -> f64) -> Vec<f64> {
        self.samples.iter().map(of).collect()
    }
}

/// Where each filter's listener is.
#[derive(Debug)]
pub struct Listeners(Vec<(Filter, SocketAddr)>);

impl Listeners {
    /// Asks Envoy.
    ///
    /// # Errors
    /// If a listener is missing.
    pub async fn of(envoy: &Envoy, cells: &[Cell]) -> anyhow::Result<Self> {
        let mut listeners = Vec::new();
        for filter in filters(cells) {
            let address = envoy.listener_address(&filter.to_string()).await?;
            listeners.push((filter, address));
        }
        Ok(Self(listeners))
    }

    /// The address of a filter's listener.
    ///
    /// # Errors
    /// If it is not among the cells.
    pub fn address(&self, filter: Filter) -> anyhow::Result<SocketAddr> {
        let found = self.0.iter().find(|(is, _)| *is == filter);
        let (_, address) = found.with_context(|| format!("{filter} has no listener"))?;
        Ok(*address)
    }
}

/// Measures `cells`. All have the same number of samples.
///
/// # Errors
/// If an answer is not as it must be, or Envoy ends.
pub async fn measure(
    envoy: &Envoy,
    listeners: &Listeners,
    cells: &[Cell],
    plan: Plan,
) -> anyhow::Result<Vec<Series>> {
    let begin = Instant::now();
    let mut series: Vec<Series> = cells
        .iter()
        .map(|cell| Series::new(*cell, plan.seed))
        .collect();
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let mut order: Vec<usize> = (0..series.len()).collect();
    for round in 0..WARM_UP_ROUNDS + plan.rounds {
        if begin.elapsed() > plan.limit {
            eprintln!(
                "Bench: stopped after {} of {} rounds, for time",
                round.saturating_sub(WARM_UP_ROUNDS),
                plan.rounds
            );
            break;
        }
        random.shuffle(&mut order);
        for &index in &order {
            let series = &mut series[index];
            let counts = round >= WARM_UP_ROUNDS;
            let mut sample = visit(envoy.id(), listeners, series, plan.requests).await?;
            let mut repeats = 0;
            while counts && sample.waited > DISTURBED && repeats < REPEATS {
                let again = visit(envoy.id(), listeners, series, plan.requests).await?;
                if again.waited < sample.waited {
                    sample = again;
                }
                repeats += 1;
            }
            if counts {
                series.samples.push(sample);
                series.repeated += repeats;
            }
        }
        match (round + 1).checked_sub(WARM_UP_ROUNDS) {
            None | Some(0) => eprintln!("Bench: warming up"),
            Some(done) => eprintln!(
                "Bench: round {done} of {}, {} s",
                plan.rounds,
                begin.elapsed().as_secs()
            ),
        }
    }
    if series.iter().any(|series| series.samples.is_empty()) {
        bail!("there was no time for a single round: ask for fewer --requests");
    }
    let calm = calmer_half(&series);
    for series in &mut series {
        series.calm.clone_from(&calm);
    }
    Ok(series)
}

/// The rounds in which requests were cheapest over all cells, each cell beside its own median, in their
/// order. On a shared machine whole rounds are dearer, up to twice; of all cells together no single
/// filter decides which rounds those are.
fn calmer_half(series: &[Series]) -> Vec<usize> {
    let rounds = series.iter().map(|series| series.samples.len());
    let rounds = rounds.min().unwrap_or(0);
    let mut cost = vec![0.0; rounds];
    for series in series {
        let values = series.every(|sample| sample.cpu);
        let middle = super::statistics::median(&values);
        for (cost, value) in cost.iter_mut().zip(values) {
            *cost += value / middle;
        }
    }
    let mut calm: Vec<usize> = (0..rounds).collect();
    calm.sort_by(|a, b| cost[*a].total_cmp(&cost[*b]));
    calm.truncate(rounds.div_ceil(2));
    calm.sort_unstable();
    calm
}

/// Measures one cell once.
async fn visit(
    envoy: u32,
    listeners: &Listeners,
    series: &mut Series,
    requests: usize,
) -> anyhow::Result<Sample> {
    let cell = series.cell;
    attempt(envoy, listeners, series, requests)
        .await
        .with_context(|| cell.to_string())
}

async fn attempt(
    envoy: u32,
    listeners: &Listeners,
    series: &mut Series,
    requests: usize,
) -> anyhow::Result<Sample> {
    let Cell { filter, traffic } = series.cell;
    let address = listeners.address(filter)?;
    let ask = series.cell.ask();
    let requests = traffic.share(requests);
    let mut send = async |connections: &mut Connections, count: usize| {
        series.sent += count as u64;
        let authorities = series.asked.take(count);
        connections.send(&ask, &authorities).await
    };

    // New connections each time, so that no cell keeps lucky ones; their opening does not count.
    let mut connections = Connections::open(address, ask.http2, STREAMS).await?;
    send(&mut connections, (requests / 10).max(2 * STREAMS)).await?;
    let load = std::process::id();
    let before = cpu::settled(envoy).await?;
    let load_before = cpu::spent(load)?;
    let batch = send(&mut connections, requests).await?;
    let load_spent = cpu::spent(load)?.since(load_before);
    let spent = cpu::settled(envoy).await?.since(before);
    drop(connections);

    let mut single = Connections::open(address, ask.http2, 1).await?;
    send(&mut single, 2).await?;
    let mut latencies = send(&mut single, (requests / 5).max(4)).await?.latencies;
    drop(single);
    cpu::settled(envoy).await?;
    latencies.sort_unstable_by(f64::total_cmp);
    let latency = |at| super::statistics::quantile(&latencies, at) / 1000.0;
    let cpu = spent.cpu as f64;
    Ok(Sample {
        cpu: cpu / 1000.0 / requests as f64,
        worker: spent.workers as f64 / 1000.0 / requests as f64,
        busy: spent.workers as f64 / batch.wall.as_nanos() as f64,
        waited: spent.waited_share().max(load_spent.waited_share()),
        p50: latency(0.5),
        p90: latency(0.9),
        p99: latency(0.99),
    })
}

/// All visits of all cells, to look numbers up in.
#[derive(Debug)]
pub struct Measured(pub Vec<Series>);

impl Measured {
    /// The visits of a cell, or `None` where it was not measured.
    pub fn find(&self, filter: Filter, traffic: TrafficKind) -> Option<&Series> {
        let cell = Cell { filter, traffic };
        self.0.iter().find(|series| series.cell == cell)
    }

    /// CPU time a request in every round that counts, µs.
    pub fn whole(&self, filter: Filter, traffic: TrafficKind) -> Option<Vec<f64>> {
        Some(self.find(filter, traffic)?.values(|sample| sample.cpu))
    }

    /// What a filter adds in every round that counts to a request through none, µs.
    pub fn added(&self, filter: Filter, traffic: TrafficKind) -> Option<Vec<f64>> {
        let whole = self.whole(filter, traffic)?;
        let without = self.whole(super::cells::BASELINE, traffic.baseline())?;
        Some(
            whole
                .iter()
                .zip(without)
                .map(|(with, without)| with - without)
                .collect(),
        )
    }

    /// The spread of one number over all rounds that count, and cells.
    pub fn over_all(&self, of: impl Fn(&Sample) -> f64) -> Spread {
        let values: Vec<f64> = self
            .0
            .iter()
            .flat_map(|series| series.values(&of))
            .collect();
        Spread::of(&values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::bench::cells::{BASELINE, INGRESS};

    #[test]
    fn the_rounds_that_are_calm_for_all_count() {
        let of = |filter, costs: &[f64]| {
            let traffic = TrafficKind::Direct;
            let mut series = Series::new(Cell { filter, traffic }, 1);
            let sample = |cpu: &f64| Sample {
                cpu: *cpu,
                worker: *cpu,
                busy: 1.0,
                waited: 0.0,
                p50: 1.0,
                p90: 1.0,
                p99: 1.0,
            };
            series.samples = costs.iter().map(sample).collect();
            series
        };
        // A cell that is dear does not outweigh the other.
        let series = [
            of(BASELINE, &[10.0, 20.0, 11.0, 10.0, 19.0]),
            of(INGRESS, &[1010.0, 2000.0, 1000.0, 1900.0, 1020.0]),
        ];
        assert_eq!(calmer_half(&series), [0, 2, 4]);
        assert_eq!(calmer_half(&series[..1]), [0, 2, 3]);
        assert_eq!(calmer_half(&[of(BASELINE, &[1.0])]), [0]);
    }
}
