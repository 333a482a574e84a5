//! `meridian render filters`: the filters as files that running Envoys discover them from.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueHint};

use super::envoy::DEFAULT_MODULES;
use crate::lab::live::Live;
use crate::policy::watch::Watch;
use crate::policy::{PolicyErrors, PolicyFile, revision_text};
use crate::runtime::{self, Signals};
use crate::text::visible::visible_lines;

/// What the files are rendered with.
#[derive(Debug, Clone, Args)]
pub struct FiltersArgs {
    /// The policy, in YAML or JSON
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    policy: PathBuf,
    /// Write the files into this folder, which the Envoys watch
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out: PathBuf,
    /// The folder of the modules, as the proxies see it
    #[arg(long, value_name = "DIR", default_value = DEFAULT_MODULES)]
    modules: PathBuf,
    /// Go on, and write the files again within a second of each change of the policy, until Ctrl-C.
    /// A policy with errors leaves them as they are
    #[arg(long)]
    watch: bool,
}

/// Writes the files, and with `--watch` again after each change.
///
/// # Errors
/// If the first policy cannot be read or is wrong, or a file cannot be written.
pub fn run(args: &FiltersArgs) -> anyhow::Result<ExitCode> {
    // Before the first look, so that no change is missed.
    let watch = Watch::new(&args.policy);
    let policy = PolicyFile::load(Some(&args.policy))?;
    let live = Live::start(&policy, args.modules.clone(), args.out.clone())?;
    tell(&policy);
    if !args.watch {
        return Ok(ExitCode::SUCCESS);
    }
    runtime::block_on(follow(watch, live, &args.policy))
}

async fn follow(mut watch: Watch, mut live: Live, path: &Path) -> anyhow::Result<ExitCode> {
    let mut end = Signals::new()?;
    loop {
        let changed = tokio::select! {
            changed = watch.next() => changed,
            signal = end.next() => {
                eprintln!("{signal}: stopping");
                return Ok(ExitCode::SUCCESS);
            }
        };
        let bytes = match changed {
            Ok(bytes) => bytes,
            Err(error) => {
                eprintln!(
                    "{} cannot be read, so the policy stays as it was: {error}",
                    path.display()
                );
                continue;
            }
        };
        let renewed = PolicyFile::parse(&bytes)
            .map_err(anyhow::Error::from)
            .and_then(|policy| live.renew(&policy).map(|()| policy));
        match renewed {
            Ok(policy) => tell(&policy),
            Err(error) => refuse(&error),
        }
    }
}

fn tell(policy: &PolicyFile) {
    let rules = policy.rules();
    let revision = revision_text(policy.revision());
    eprintln!("policy {revision} with {rules} rules is written for the proxies");
}

fn refuse(error: &anyhow::Error) {
    let text = match error.downcast_ref::<PolicyErrors>() {
        Some(errors) => errors.to_string(),
        None => format!("{error:#}"),
    };
    eprintln!(
        "the policy is refused, and the one before stays in force:\n{}",
        visible_lines(&text)
    );
}
