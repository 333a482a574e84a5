//! `meridian up`: the local topology, until it is told to end.

mod follow;

use std::process::ExitCode;

use clap::Args;

use crate::lab::topology::{Topology, TopologyOptions};
use crate::output;
use crate::policy::watch::Watch;
use crate::runtime::{self, Signals};
use crate::topology_args::TopologyArgs;
use follow::Follow;

pub use follow::Followed;

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
    /// Give the filters each change of the --policy file within a second, or tell its errors and leave
    /// the policy as it is. SIGUSR1 has the file read once more, with and without --watch
    #[arg(long, requires = "policy", conflicts_with = "no_filters")]
    pub watch: bool,
}

/// Prepares the topology and serves it until SIGINT or SIGTERM.
///
/// # Errors
/// As [`TopologyArgs::prepare`] and [`serve`].
pub fn run(args: &UpArgs) -> anyhow::Result<ExitCode> {
    // Before the policy is read: the modules may take minutes, and no change meanwhile is missed.
    let watched = args.topology.policy.as_deref().filter(|_| args.watch);
    let watch = watched.map(Watch::new);
    let mut prepared = args.topology.prepare("up", !args.no_filters)?;
    prepared.topology.live = true;
    let followed = Followed {
        file: args.topology.policy.clone(),
        policy: prepared.policy,
        watch,
    };
    runtime::block_on(serve(&prepared.topology, args.topology.json, followed))
}

/// Starts the topology, prints one line on stdout when all of it is ready, or with `json` one
/// object, and ends it at SIGINT or SIGTERM, which count before it is ready too.
///
/// # Errors
/// If a part does not start; if an Envoy had ended by itself.
pub async fn serve(
    options: &TopologyOptions,
    json: bool,
    followed: Followed,
) -> anyhow::Result<ExitCode> {
    let mut end = Signals::new()?;
    let follow = Follow::new(followed)?;
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
    let tell = |text: &str| eprintln!("{text}");
    let policies = async {
        match &options.filters {
            Some(filters) => {
                let modules = filters.modules().to_owned();
                follow.policies(&topology, modules, &tell).await
            }
            None => std::future::pending().await,
        }
    };
    let signal = tokio::select! {
        signal = end.next() => signal,
        never = policies => match never {},
    };
    eprintln!("{signal}: stopping");
    topology.stop().await?;
    Ok(ExitCode::SUCCESS)
}
