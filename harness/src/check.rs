//! `meridian check`: is this policy one that the filters take?

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use meridian_policy::ConfigError;
use serde_json::{Value, json};

use crate::policy_file::{PolicyErrors, PolicyFile};

/// What the verb is run with.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The policy, in YAML or JSON
    #[arg(long, value_name = "FILE")]
    pub policy: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Prints every error of the policy. Exits 0 without one, 1 with.
///
/// # Errors
/// If the file cannot be read.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let errors = match PolicyFile::load(Some(&options.policy)) {
        Ok(_) => Vec::new(),
        Err(error) => error.downcast::<PolicyErrors>()?.0,
    };
    if options.json {
        let errors: Vec<Value> = errors.iter().map(error_json).collect();
        println!("{}", json!({"errors": errors}));
    } else {
        for error in &errors {
            println!("{error}");
        }
        let name = options.policy.display();
        match errors.len() {
            0 => eprintln!("{name}: no errors"),
            1 => eprintln!("{name}: 1 error"),
            count => eprintln!("{name}: {count} errors"),
        }
    }
    Ok(if errors.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn error_json(error: &ConfigError) -> Value {
    json!({"path": error.path, "message": error.message, "hint": error.hint})
}
