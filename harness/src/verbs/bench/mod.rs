//! `meridian bench`: what the filters cost, beside what a user would pick instead, in one run.
//!
//! One Envoy with one worker on a CPU of its own has a listener for every filter that is compared.
//! Rounds visit all of them in an order of their own, so that whatever changes on the machine
//! changes for all; a million hosts share that Envoy too, because they must not slow others down.
//! Memory and loading time are taken from Envoys of their own.

mod cells;
mod chart;
mod cpu;
mod environment;
mod footprint;
mod goals;
mod hosts;
mod load;
mod machine;
mod results;
mod rounds;
mod statistics;
mod upstream;
mod variants;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;

use crate::lab::envoy::{self, Envoy, EnvoyOptions, RunFolder};
use crate::{lab::modules, lab::paths, output};
use cells::Cell;
use cpu::Cpus;
use environment::Environment;
use goals::Noise;
use machine::Machine;
use results::Results;
use rounds::{Listeners, Measured, Plan, Series};
use upstream::Upstream;

/// After this time no further round begins: what comes before and after the rounds takes three
/// minutes at most, and a run has ten.
const LIMIT: Duration = Duration::from_secs(6 * 60);

/// Measure the cost of the filters against plain Envoy, an empty filter, Lua and RBAC
///
/// Prints tables in Markdown, and says which goals are met. Exits 1 unless all of them are.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// The Envoy binary [default: $MERIDIAN_ENVOY, the release $MERIDIAN_ENVOY_VERSION, `envoy` on the PATH, or a download]
    #[arg(long, value_name = "FILE")]
    envoy: Option<PathBuf>,
    /// Number of rounds; more of them narrow the intervals [default: 50, quick: 3]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Requests per cell and round [default: 1000, quick: 100]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(50..=1_000_000))]
    requests: Option<u32>,
    /// Seed for the order of cells and hosts
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Use fewer cells and requests: shows that everything works, measures nothing well
    #[arg(long)]
    quick: bool,
    /// Also write a bar chart of what each filter adds
    #[arg(long, value_name = "FILE.svg")]
    chart: Option<PathBuf>,
    /// Print one JSON object instead of Markdown
    #[arg(long)]
    json: bool,
}

/// Measures, and prints the tables with the verdicts; exits 1 unless every goal is met.
///
/// # Errors
/// If something is missing on this machine, or a filter does not do what it is measured for.
pub fn run(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    if cfg!(debug_assertions) && !args.quick {
        eprintln!(
            "Bench: this is a debug build, whose load generator is slow; `cargo run --release -- bench`"
        );
    }
    let binary = envoy::obtain(args.envoy.as_deref())?;
    let built = modules::build()?;
    let yardstick = modules::build_yardstick()?;
    let begin = Instant::now();
    let cpus = Cpus::choose()?;
    let machine = Machine::look(&binary, cpus);
    // Before the runtime starts, so that whatever it starts stays here as well.
    cpu::pin(std::process::id(), cpus.load)?;
    let run = RunFolder::create("bench")?;
    let modules_dir = paths::modules_dir()?;
    let (rounds, requests) = if args.quick { (3, 100) } else { (50, 1000) };
    let plan = Plan {
        rounds: args.rounds.map_or(rounds, usize::from),
        requests: args.requests.map_or(requests, |count| count as usize),
        seed: args.seed,
        limit: LIMIT,
    };
    let cells = cells::cells(args.quick);
    // One thread for load and upstream: a second would only compete with it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let (series, stolen, footprints) = runtime.block_on(async {
        let upstream = Upstream::start().await?;
        let environment = Environment {
            envoy: &binary,
            run: &run,
            modules: &modules_dir,
            yardstick: &yardstick,
            upstream: upstream.address(),
        };
        let (stolen_before, all_before) = cpu::stolen(cpus.envoy)?;
        let measured = measure(&environment, cpus, &cells, plan);
        let series = measured.await.with_context(|| {
            format!(
                "nothing is measured; the run is in {}",
                run.path().display()
            )
        })?;
        let (stolen, all) = cpu::stolen(cpus.envoy)?;
        let stolen = (stolen - stolen_before) as f64 / (all - all_before).max(1) as f64;
        let footprints = footprint::measure(&environment, args.quick).await?;
        anyhow::Ok((series, stolen, footprints))
    })?;
    let measured = Measured(series);
    let noise = Noise::of(&measured, plan.seed).context("the control was not measured")?;
    let goals = goals::goals(&measured, &noise, &footprints, &built.built, plan.seed);
    let results = Results {
        machine,
        plan,
        quick: args.quick,
        measured,
        noise,
        stolen,
        footprints,
        modules: built.built.to_vec(),
        goals,
        took: begin.elapsed(),
    };
    if let Some(path) = &args.chart {
        paths::write_atomically(path, chart::svg(&results).as_bytes())?;
        eprintln!("Bench: the chart is {}", path.display());
    }
    if args.json {
        output::print(&format!("{:#}\n", results.to_json()))?;
    } else {
        output::print(&results.to_markdown())?;
    }
    Ok(if results.all_met() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Starts the Envoy, sees that every filter does what it is for, measures, and looks again.
async fn measure(
    environment: &Environment<'_>,
    cpus: Cpus,
    cells: &[Cell],
    plan: Plan,
) -> anyhow::Result<Vec<Series>> {
    let filters = cells::filters(cells);
    eprintln!("Bench: starting Envoy with {} listeners", filters.len());
    let bootstrap = variants::bootstrap(
        &filters,
        environment.modules,
        environment.yardstick,
        environment.upstream,
    )?;
    let options = EnvoyOptions {
        log_level: envoy::LogLevel::Warning,
        ..EnvoyOptions::default()
    };
    let envoy = Envoy::start(
        environment.envoy,
        environment.run,
        "bench",
        &bootstrap,
        &options,
    )
    .await?;
    drop(bootstrap);
    cpu::pin(envoy.id(), cpus.envoy)?;
    let listeners = Listeners::of(&envoy, cells).await?;
    verify::answers(&listeners, cells).await?;
    let before = verify::counters(&envoy).await?;
    let series = rounds::measure(&envoy, &listeners, cells, plan).await?;
    let after = verify::counters(&envoy).await?;
    verify::counted(&before, &after, &series)?;
    verify::answers(&listeners, cells).await?;
    let log = envoy.log()?;
    if let Some(line) = log.lines().find(|line| line.contains("[wasm]")) {
        bail!("a filter complains: {line}");
    }
    envoy.stop().await?;
    Ok(series)
}
