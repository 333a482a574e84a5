//! `meridian explain`: what a policy says of one request or connection, and why.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;

use crate::policy::query::{Misplaced, Query};
use crate::policy::{Explanation, PolicyFile};

pub mod candidate_rows;

/// Explain what a policy decides on one request or connection
///
/// Prints the decision with its evidence, then every rule whose host matches and why it won or
/// lost. Exits 0 whatever the decision is.
#[derive(Debug, Clone, Args)]
pub struct ExplainArgs {
    /// The policy, in YAML or JSON
    #[arg(long, value_name = "FILE")]
    pub policy: PathBuf,
    /// The request or connection.
    #[command(flatten)]
    pub query: Query,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Prints what the policy says of the request or connection. Exits 0 whatever it says.
///
/// # Errors
/// If an argument cannot stand beside the others, or the policy cannot be read.
pub fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let misplaced = |Misplaced { field, message }| anyhow!("--{field} {message}");
    let mut query = args.query.clone();
    query.validate().map_err(misplaced)?;
    let file = PolicyFile::load(Some(&args.policy))?;
    query.resolve_gateway(&file.policy).map_err(misplaced)?;
    let explanation = Explanation::of(&file.policy, &query);
    let rows = candidate_rows::rows(&file, query.at, query.subject(), &mut query.request());
    if args.json {
        let mut value = explanation.to_json();
        value["candidates"] = candidate_rows::to_json(&rows);
        println!("{value}");
    } else {
        print!(
            "{}{}",
            explanation.to_text(),
            candidate_rows::to_text(&rows)
        );
    }
    Ok(ExitCode::SUCCESS)
}
