//! The command line as it is typed. One file a verb holds what each does.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use crate::lab::{envoy, modules, paths};
use crate::output;
use crate::policy::{PolicyErrors, PolicyFile};
use crate::verbs::{
    bench, build, check, demo, explain, learn, render, report, schema, test, top, up,
};

/// WebAssembly policy filters for Envoy: tag requests north-south or east-west, enforce which
/// hosts may be reached, count.
///
/// Results go to stdout, progress to stderr. Exits 0 when all is fine, 1 with a finding, 2 when a
/// command cannot be carried out as it was given. A reader that goes early, as in `| head`, ends it
/// quietly: by SIGPIPE, or 141.
#[derive(Debug, Parser)]
#[command(name = "meridian", version)]
pub struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Build, start the local topology, send the sample traffic and show what became of it (the default)
    Demo(DemoArgs),
    /// Run the local topology until Ctrl-C
    Up(UpArgs),
    /// Build the three modules
    Build(BuildArgs),
    /// Check a policy: every error and every warning, each with its place
    Check(check::Options),
    /// Explain one request against a policy
    Explain(explain::Options),
    /// Propose rules for what was refused, from access logs
    Learn(learn::Options),
    /// Test a policy by files of expectations
    Test(test::Options),
    /// Print the JSON Schema of the policy, for editors
    Schema(schema::Options),
    /// Show what proxies count, live
    Top(top::Options),
    /// Draw the traffic map and charts of access logs, as one HTML page
    Report(report::Options),
    /// Write files to attach the filters with
    #[command(subcommand)]
    Render(render::Verb),
    /// Measure what the filters cost beside Envoy alone, Lua and RBAC, and say which goals are met
    Bench(bench::Options),
}

/// What the verbs that run the topology share.
#[derive(Debug, Default, Args)]
struct TopologyArgs {
    /// The policy, in YAML or JSON; without it the sample policy
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The Envoy binary; without it $MERIDIAN_ENVOY, the PATH, or Envoy by itself
    #[arg(long, value_name = "FILE")]
    envoy: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Default, Args)]
struct DemoArgs {
    #[command(flatten)]
    topology: TopologyArgs,
}

#[derive(Debug, Args)]
struct UpArgs {
    #[command(flatten)]
    topology: TopologyArgs,
    /// Leave the filters out: the same topology, to compare with
    #[arg(long)]
    no_filters: bool,
}

#[derive(Debug, Args)]
struct BuildArgs {
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.run() {
        Ok(code) => code,
        Err(error) => match error.downcast_ref::<PolicyErrors>() {
            Some(errors) => {
                eprintln!("the policy is refused:\n{errors}");
                ExitCode::FAILURE
            }
            None if error.is::<output::Closed>() => ExitCode::from(output::EXIT_CODE),
            None => {
                eprintln!("error: {error:#}");
                ExitCode::from(2)
            }
        },
    }
}

impl Cli {
    fn run(self) -> anyhow::Result<ExitCode> {
        let verb = self.verb.unwrap_or_else(|| Verb::Demo(DemoArgs::default()));
        if !verb.holds_sockets() {
            output::end_with_the_reader();
        }
        match verb {
            Verb::Build(args) => build::run(args.json).map(|()| ExitCode::SUCCESS),
            Verb::Check(options) => check::run(&options),
            Verb::Explain(options) => explain::run(&options),
            Verb::Learn(options) => learn::run(&options),
            Verb::Test(options) => test::run(&options),
            Verb::Schema(options) => schema::run(&options),
            Verb::Top(options) => block_on(top::run(options)),
            Verb::Report(options) => report::run(&options),
            Verb::Render(verb) => render::run(&verb),
            Verb::Bench(options) => bench::run(&options),
            Verb::Demo(args) => {
                let setup = Setup::of(&args.topology, true)?;
                block_on(demo::run(demo::Options {
                    policy: setup.policy,
                    envoy: setup.envoy,
                    modules: paths::modules_dir()?,
                    json: args.topology.json,
                }))
            }
            Verb::Up(args) => {
                let setup = Setup::of(&args.topology, !args.no_filters)?;
                let modules = if args.no_filters {
                    None
                } else {
                    Some(paths::modules_dir()?)
                };
                block_on(up::run(up::Options {
                    policy: setup.policy.json,
                    envoy: setup.envoy,
                    modules,
                    json: args.topology.json,
                }))
            }
        }
    }
}

impl Verb {
    fn holds_sockets(&self) -> bool {
        match self {
            Self::Demo(_) | Self::Up(_) | Self::Top(_) | Self::Bench(_) => true,
            Self::Build(_)
            | Self::Check(_)
            | Self::Explain(_)
            | Self::Learn(_)
            | Self::Test(_)
            | Self::Schema(_)
            | Self::Report(_)
            | Self::Render(_) => false,
        }
    }
}

/// What has to be there before a topology starts. The policy comes first: its errors should not
/// wait for a download.
struct Setup {
    policy: PolicyFile,
    envoy: PathBuf,
}

impl Setup {
    fn of(args: &TopologyArgs, with_modules: bool) -> anyhow::Result<Self> {
        let policy = PolicyFile::load(args.policy.as_deref())?;
        let envoy = envoy::obtain(args.envoy.as_deref())?;
        if with_modules {
            modules::build()?;
        }
        Ok(Self { policy, envoy })
    }
}

fn block_on(run: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Runtime::new()
        .context("cannot start the async runtime")?
        .block_on(run)
}
