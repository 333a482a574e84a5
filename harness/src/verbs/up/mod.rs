//! `meridian up`: the local topology, until it is told to end.

mod follow;

use std::process::ExitCode;

use clap::Args;

use crate::lab::topology::roles::OUTSIDE_CLIENT;
use crate::lab::topology::{OnEnd, Topology, TopologyOptions};
use crate::output::{self, tell};
use crate::policy::watch::Watch;
use crate::runtime::{self, Signals};
use crate::text::visible::visible_lines;
use crate::topology_args::TopologyArgs;
use follow::Follow;

pub use follow::Followed;

/// Run the local topology until Ctrl-C
///
/// When everything is ready, prints one line that says where everything listens. SIGTERM and SIGHUP, as
/// from a terminal that is closed, end it too; under `nohup` it outlives the terminal.
///
/// An Envoy or NGINX that dies is told at once on stderr. All else goes on without it, and the exit
/// code is 2 in the end, unless `--restart` has brought it back.
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
    /// Start an Envoy or NGINX that dies again, on the same ports: after half a second, and each time
    /// that it does not last after twice as long, up to 30 s
    #[arg(long)]
    pub restart: bool,
}

/// Prepares the topology and serves it until SIGINT, SIGTERM or SIGHUP.
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
    let on_end = match args.restart {
        true => OnEnd::Restart,
        false => OnEnd::Leave,
    };
    runtime::block_on(serve(
        &prepared.topology,
        args.topology.json,
        followed,
        on_end,
    ))
}

/// Starts the topology, prints one line on stdout when all of it is ready, or with `json` one
/// object, and ends it at SIGINT, SIGTERM or SIGHUP, which count before it is ready too.
///
/// # Errors
/// If a part does not start; if an Envoy or NGINX had ended by itself and does not run again.
pub async fn serve(
    options: &TopologyOptions,
    json: bool,
    followed: Followed,
    on_end: OnEnd,
) -> anyhow::Result<ExitCode> {
    let mut end = Signals::new()?;
    let follow = Follow::new(followed)?;
    tell("starting the topology");
    let topology = tokio::select! {
        topology = Topology::start(options) => topology?,
        // The unfinished start is dropped, and with it what it has started so far.
        signal = end.next() => {
            tell(&format!("{signal}: stopped before the topology was ready"));
            return Ok(ExitCode::SUCCESS);
        }
    };
    let policies = async {
        match &options.filters {
            Some(filters) => {
                let modules = filters.modules().to_owned();
                follow.policies(&topology, modules, &tell).await
            }
            None => std::future::pending().await,
        }
    };
    let told = |text: &str| tell(&visible_lines(text));
    let served = async {
        introduce(&topology, json)?;
        tokio::select! {
            signal = end.next() => Ok(signal),
            never = policies => match never {},
            never = topology.watch_over(on_end, &told) => match never? {},
        }
    };
    let served: anyhow::Result<&str> = served.await;
    if let Ok(signal) = &served {
        tell(&format!("{signal}: stopping"));
    }
    // Whatever it was: what the Envoys have still to write is written first.
    topology.stop().await?;
    served?;
    Ok(ExitCode::SUCCESS)
}

/// Prints where everything listens.
fn introduce(topology: &Topology, json: bool) -> anyhow::Result<()> {
    let description = topology.describe();
    if json {
        output::print(&format!("{}\n", serde_json::to_string(&description)?))?;
    } else {
        output::print(&format!("{description}\n"))?;
    }
    let admins = topology.envoys().map(|envoy| envoy.admin().to_string());
    tell(&format!(
        "try it:   curl --interface {OUTSIDE_CLIENT} -H 'Host: shop.example.com' http://{}/\n\
         metrics:  http://{}/stats/prometheus, and so of each proxy\n\
         live:     meridian top {}\n\
         until Ctrl-C",
        description.ingress.http,
        description.ingress.admin,
        Vec::from_iter(admins).join(" ")
    ));
    Ok(())
}
