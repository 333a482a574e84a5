//! The command line: the list of verbs, their dispatch and the exit codes. The options of a verb are
//! declared beside what it does, in [`crate::verbs`].

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::output;
use crate::policy::PolicyErrors;
use crate::text::visible::visible_lines;
use crate::verbs::bench::{self, BenchArgs};
use crate::verbs::build::{self, BuildArgs};
use crate::verbs::certificates::{self, CertificatesArgs};
use crate::verbs::check::{self, CheckArgs};
use crate::verbs::demo::{self, DemoArgs};
use crate::verbs::docs::{self, DocsArgs};
use crate::verbs::echo::{self, EchoArgs};
use crate::verbs::explain::{self, ExplainArgs};
use crate::verbs::learn::{self, LearnArgs};
use crate::verbs::mesh::{self, MeshArgs};
use crate::verbs::pack::{self, PackArgs};
use crate::verbs::render::{self, RenderArgs};
use crate::verbs::report::{self, ReportArgs};
use crate::verbs::schema::{self, SchemaArgs};
use crate::verbs::test::{self, TestArgs};
use crate::verbs::top::{self, TopArgs};
use crate::verbs::up::{self, UpArgs};

/// WebAssembly policy filters for Envoy: tag requests as north-south or east-west, enforce which
/// hosts may be reached, and count every decision
///
/// Results go to stdout, progress to stderr. Without a verb, runs `demo`.
///
/// Exits 0 on success, 1 with a finding, 2 if the command cannot be carried out. If the reader of
/// stdout closes it early, as `| head` does, the command ends quietly: by SIGPIPE, or with 141.
#[derive(Debug, Parser)]
#[command(name = "meridian", version)]
pub struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Demo(DemoArgs),
    Up(UpArgs),
    Mesh(MeshArgs),
    Build(BuildArgs),
    Check(CheckArgs),
    Explain(ExplainArgs),
    Learn(LearnArgs),
    Test(TestArgs),
    Schema(SchemaArgs),
    Top(TopArgs),
    Report(ReportArgs),
    Render(RenderArgs),
    Pack(PackArgs),
    Echo(EchoArgs),
    Certificates(CertificatesArgs),
    Bench(BenchArgs),
    Docs(DocsArgs),
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.run() {
        Ok(code) => code,
        Err(error) => match error.downcast_ref::<PolicyErrors>() {
            Some(errors) => {
                let errors = visible_lines(&errors.to_string());
                output::tell(&format!("the policy is refused:\n{errors}"));
                ExitCode::FAILURE
            }
            None if error.is::<output::Closed>() => ExitCode::from(output::EXIT_CODE),
            None => {
                let error = visible_lines(&format!("{error:#}"));
                output::tell(&format!("error: {error}"));
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
            Verb::Mesh(args) => mesh::run(&args),
            Verb::Build(args) => build::run(&args),
            Verb::Check(args) => check::run(&args),
            Verb::Explain(args) => explain::run(&args),
            Verb::Learn(args) => learn::run(&args),
            Verb::Test(args) => test::run(&args),
            Verb::Schema(args) => schema::run(&args),
            Verb::Top(args) => top::run(&args),
            Verb::Report(args) => report::run(&args),
            Verb::Render(args) => render::run(&args),
            Verb::Pack(args) => pack::run(&args),
            Verb::Echo(args) => echo::run(&args),
            Verb::Certificates(args) => certificates::run(&args),
            Verb::Bench(args) => bench::run(&args),
            Verb::Docs(args) => docs::run(&args, Self::command()),
        }
    }
}

impl Verb {
    fn holds_sockets(&self) -> bool {
        match self {
            Self::Demo(_)
            | Self::Up(_)
            | Self::Mesh(_)
            | Self::Top(_)
            | Self::Pack(_)
            | Self::Echo(_)
            | Self::Bench(_) => true,
            Self::Build(_)
            | Self::Check(_)
            | Self::Explain(_)
            | Self::Learn(_)
            | Self::Test(_)
            | Self::Schema(_)
            | Self::Report(_)
            | Self::Render(_)
            | Self::Certificates(_)
            | Self::Docs(_) => false,
        }
    }
}
