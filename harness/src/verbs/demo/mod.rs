//! `meridian demo`: the sample traffic through the local topology, checked against the policy.
//!
//! What each filter decided is read from the difference of two real scrapes; what the workload saw
//! from the workload. Both must be what the policy says of the same evidence.

mod compare;
mod compose;
mod docker;
mod observed;
mod play;
mod scenarios;
mod show;
mod stage;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde_json::json;

use crate::access_log::Log;
use crate::lab::compose::Networks;
use crate::lab::topology::Topology;
use crate::policy::PolicyFile;
use crate::topology_args::{Prepared, TopologyArgs};
use crate::{output, runtime, traffic};
use stage::Stage;

/// Send sample traffic through the local topology and check it against the policy (the default)
///
/// Builds the modules, starts the topology, sends each request, and prints its path, its tag and
/// the decision of every filter, then the counters scraped from every Envoy. Exits 1 if anything
/// differs from what the policy says. With --docker the topology is a compose project.
#[derive(Debug, Clone, Default, Args)]
pub struct DemoArgs {
    /// What every topology is started with.
    #[command(flatten)]
    pub topology: TopologyArgs,
    /// Use the compose project in this folder, as `render compose` writes it, with its own policy
    /// [default: examples/docker of the checkout]. It is ended again unless it ran before
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = docker::DEFAULT, conflicts_with_all = ["policy", "envoy"])]
    pub docker: Option<PathBuf>,
    /// Run as the service `traffic` of a compose project with these networks
    #[arg(long, value_name = "INSIDE,OUTSIDE,MONITORING", conflicts_with_all = ["docker", "envoy"])]
    pub compose: Option<Networks>,
    /// Where whoever reads the results reaches the project's Prometheus
    #[arg(
        long,
        value_name = "URL",
        requires = "compose",
        default_value = "http://127.0.0.1:9090"
    )]
    pub prometheus: String,
}

/// Runs the demo. Exits 0 when everything seen is what the policy says, else 1.
///
/// # Errors
/// If the topology does not start, or a part of it does not answer.
pub fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let json = args.topology.json;
    if let Some(folder) = &args.docker {
        return docker::run(folder, json);
    }
    if let Some(networks) = &args.compose {
        let policy = PolicyFile::load(args.topology.policy.as_deref())?;
        return runtime::block_on(compose::demo(networks, &policy, &args.prometheus, json));
    }
    let prepared = args.topology.prepare("demo", true)?;
    runtime::block_on(demo(&prepared, json))
}

async fn demo(prepared: &Prepared, json: bool) -> anyhow::Result<ExitCode> {
    eprintln!("starting the topology");
    let topology = Topology::start(&prepared.topology).await?;
    let policy = &prepared.policy.policy;
    let stage = Stage::topology(&topology);
    let scenarios = scenarios::all(&stage)?;
    let played = play::send_all(&stage, policy, &scenarios, json).await;
    let run = topology.run_folder().to_owned();
    let played = played.with_context(|| format!("the run is in {}", run.display()))?;
    if !json && topology.nginx.is_none() {
        output::print("nginx is not installed: the requests through it were left out\n")?;
    }
    // Envoy writes the last lines of its access logs when it ends.
    topology.stop().await?;
    let page = run.join("report.html");
    let traffic = traffic::read(&[Log::File(run)])?;
    std::fs::write(&page, traffic::page("The sample traffic", &traffic))
        .with_context(|| format!("cannot write {}", page.display()))?;
    if json {
        let mut shown = played.to_json(policy);
        shown["run"] = json!(page.parent());
        shown["report"] = json!(page);
        output::print(&format!("{shown}\n"))?;
    } else {
        let summary = show::summary(played.observed.len(), played.failed(), &page);
        output::print(&format!("{summary}\n"))?;
    }
    Ok(played.exit_code())
}
