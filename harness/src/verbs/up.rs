//! `meridian up`: the local topology, until it is told to end.

use std::process::ExitCode;

use clap::Args;

use crate::lab::topology::{Topology, TopologyOptions};
use crate::output;
use crate::runtime::{self, Signals};
use crate::topology_args::TopologyArgs;

/// Run the local topology until Ctrl-C
///
/// When everything is ready, prints one line that says where everything listens. SIGTERM ends it
/// too.
#[derive(Debug, Clone, Args)]
pub struct UpArgs {
    /// What every topology is started with.
    #[command(flatten)]
    pub topology: TopologyArgs,
    /// Run the same topology without the filters, to compare with
    #[arg(long)]
    pub no_filters: bool,
}

/// Prepares the topology and serves it until SIGINT or SIGTERM.
///
/// # Errors
/// As [`TopologyArgs::prepare`] and [`serve`].
pub fn run(args: &UpArgs) -> anyhow::Result<ExitCode> {
    let prepared = args.topology.prepare("up", !args.no_filters)?;
    runtime::block_on(serve(&prepared.topology, args.topology.json))
}

/// Starts the topology, prints one line on stdout when all of it is ready, or with `json` one
/// object, and ends it at SIGINT or SIGTERM, which count before it is ready too.
///
/// # Errors
/// If a part does not start; if an Envoy had ended by itself.
pub async fn serve(options: &TopologyOptions, json: bool) -> anyhow::Result<ExitCode> {
    let mut end = Signals::new()?;
    eprintln!("starting the topology");
    let topology = tokio::select! {
        topology = Topology::start(options) => topology?,
        // The unfinished start is dropped, and with it what it has started so far.
        signal = end.next() => {
            eprintln!("{signal}: stopped before the topology was ready");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let description = topology.describe();
    if json {
        output::print(&format!("{}\n", serde_json::to_string(&description)?))?;
    } else {
        output::print(&format!("{description}\n"))?;
    }
    eprintln!("until Ctrl-C");
    let signal = end.next().await;
    eprintln!("{signal}: stopping");
    topology.stop().await?;
    Ok(ExitCode::SUCCESS)
}
