//! `meridian test`: does a policy do what its owners expect of it?

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};

use crate::policy::PolicyFile;

mod case_result;
mod format;
mod junit;

use case_result::CaseResult;
pub use format::{Case, Difference, Expect, ExpectDryRun, read};

/// Test a policy against files of expectations
///
/// Prints a diff for each expectation that is not met, and exits 1 if there is one.
#[derive(Debug, Clone, Args)]
pub struct TestArgs {
    /// The policy, in YAML or JSON
    #[arg(long, value_name = "FILE")]
    pub policy: PathBuf,
    /// Files of expectations, in YAML
    #[arg(value_name = "EXPECTATIONS", required = true)]
    pub files: Vec<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Also write a report as JUnit XML
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
}

/// Decides every request and prints what is not as expected. Exits 0 when all is, 1 when
/// something is not.
///
/// # Errors
/// If the policy or a file of expectations cannot be read or is wrong, or the report cannot be
/// written.
pub fn run(args: &TestArgs) -> anyhow::Result<ExitCode> {
    let policy = PolicyFile::load(Some(&args.policy))?;
    let mut outcomes = Vec::new();
    let mut errors = Vec::new();
    for path in &args.files {
        match load(path, &policy)? {
            Ok(cases) => {
                let cases = cases.iter().enumerate();
                outcomes.extend(
                    cases.map(|(index, case)| {
                        CaseResult::of(&policy, &args.policy, path, index, case)
                    }),
                );
            }
            Err(of_file) => {
                let name = path.display();
                errors.extend(of_file.into_iter().map(|error| format!("{name}: {error}")));
            }
        }
    }
    if !errors.is_empty() {
        anyhow::bail!("the expectations cannot be read\n{}", errors.join("\n"));
    }
    if let Some(path) = &args.junit {
        std::fs::write(path, junit::report(&outcomes)?)
            .with_context(|| format!("cannot write the report {}", path.display()))?;
    }
    let failed = outcomes.iter().filter(|outcome| !outcome.is_met()).count();
    let passed = outcomes.len() - failed;
    if args.json {
        let cases: Vec<Value> = outcomes.iter().map(CaseResult::to_json).collect();
        println!(
            "{}",
            json!({"passed": passed, "failed": failed, "cases": cases})
        );
    } else {
        for outcome in outcomes.iter().filter(|outcome| !outcome.is_met()) {
            println!("{}\n", outcome.to_text());
        }
        println!("{passed} passed, {failed} failed");
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Reads a file of expectations of a policy; the inner error is what is wrong with its text.
fn load(path: &Path, policy: &PolicyFile) -> anyhow::Result<Result<Vec<Case>, Vec<String>>> {
    let bytes = std::fs::read(path)
        .with_context(|| format!("cannot read the expectations {}", path.display()))?;
    Ok(match std::str::from_utf8(&bytes) {
        Ok(text) => read(text, &policy.policy),
        Err(_) => Err(vec!["is not UTF-8; save the file in UTF-8".to_owned()]),
    })
}
