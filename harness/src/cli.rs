//! The command line: the list of verbs, their dispatch and the exit codes. The options of a verb are
//! declared beside what it does, in [`crate::verbs`].

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::output;
use crate::policy::PolicyErrors;
use crate::verbs::bench::{self, BenchArgs};
use crate::verbs::build::{self, BuildArgs};
use crate::verbs::check::{self, CheckArgs};
use crate::verbs::demo::{self, DemoArgs};
use crate::verbs::explain::{self, ExplainArgs};
use crate::verbs::learn::{self, LearnArgs};
use crate::verbs::render::{self, RenderTarget};
use crate::verbs::report::{self, ReportArgs};
use crate::verbs::schema::{self, SchemaArgs};
use crate::verbs::test::{self, TestArgs};
use crate::verbs::top::{self, TopArgs};
use crate::verbs::up::{self, UpArgs};

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
    Check(CheckArgs),
    /// Explain one request against a policy
    Explain(ExplainArgs),
    /// Propose rules for what was refused, from access logs
    Learn(LearnArgs),
    /// Test a policy by files of expectations
    Test(TestArgs),
    /// Print the JSON Schema of the policy, for editors
    Schema(SchemaArgs),
    /// Show what proxies count, live
    Top(TopArgs),
    /// Draw the traffic map and charts of access logs, as one HTML page
    Report(ReportArgs),
    /// Write files to attach the filters with
    #[command(subcommand)]
    Render(RenderTarget),
    /// Measure what the filters cost beside Envoy alone, Lua and RBAC, and say which goals are met
    Bench(BenchArgs),
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
            Verb::Demo(args) => demo::run(&args),
            Verb::Up(args) => up::run(&args),
            Verb::Build(args) => build::run(&args),
            Verb::Check(args) => check::run(&args),
            Verb::Explain(args) => explain::run(&args),
            Verb::Learn(args) => learn::run(&args),
            Verb::Test(args) => test::run(&args),
            Verb::Schema(args) => schema::run(&args),
            Verb::Top(args) => top::run(&args),
            Verb::Report(args) => report::run(&args),
            Verb::Render(target) => render::run(&target),
            Verb::Bench(args) => bench::run(&args),
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
