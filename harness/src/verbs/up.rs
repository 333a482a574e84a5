//! `meridian up`: the local topology, until it is told to end.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::lab::topology::{Options as TopologyOptions, Topology};
use crate::output;

/// What the verb is run with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The policy document.
    pub policy: Value,
    /// The Envoy binary.
    pub envoy: PathBuf,
    /// The folder of the modules, or `None` for Envoy without filters.
    pub modules: Option<PathBuf>,
    /// Print the addresses as one JSON object instead of a line for people.
    pub json: bool,
}

/// Starts the topology, prints one line on stdout when all of it is ready, and ends it at SIGINT
/// or SIGTERM, which count before it is ready too.
///
/// # Errors
/// If a part does not start; if an Envoy had ended by itself.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let mut end = Signals::new()?;
    let topology_options = TopologyOptions {
        run: "up".to_owned(),
        policy: options.policy,
        envoy: options.envoy,
        modules: options.modules,
    };
    eprintln!("starting the topology");
    let topology = tokio::select! {
        topology = Topology::start(&topology_options) => topology?,
        // The unfinished start is dropped, and with it what it has started so far.
        signal = end.next() => {
            eprintln!("{signal}: stopped before the topology was ready");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let description = topology.describe();
    if options.json {
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

/// The signals that end the verb.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
