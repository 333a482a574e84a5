//! `meridian check`: is this policy one that the filters take?

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use meridian_policy::{ConfigError, Vantage};
use serde_json::{Value, json};

use crate::policy::series;
use crate::policy::{PolicyErrors, PolicyFile, revision_text};
use crate::text::numbers::counted;

pub mod warnings;

/// Check a policy for errors and warnings
///
/// Prints every error with its place and a hint. If there are none, prints warnings: rules that can
/// never match, duplicates, an allow that a deny overrides, rules wider than their section, names
/// that look alike, rules that expire. Also prints the policy's revision and the maximum number of
/// series per proxy.
///
/// Exits 1 on errors, with --strict also on warnings.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// The policy, in YAML or JSON
    #[arg(long, value_name = "FILE")]
    pub policy: PathBuf,
    /// Exit 1 on warnings, too
    #[arg(long)]
    pub strict: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Prints every error of the policy, then every warning. Exits 1 with an error, or in strict mode
/// with a warning, and 0 otherwise. A policy with errors is not looked at for warnings.
///
/// # Errors
/// If the file cannot be read.
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let (errors, warnings, facts) = match PolicyFile::load(Some(&args.policy)) {
        Ok(file) => (
            Vec::new(),
            warnings::of(&file),
            Some(PolicyFacts::of(&file)),
        ),
        Err(error) => (error.downcast::<PolicyErrors>()?.0, Vec::new(), None),
    };
    if args.json {
        let list = |errors: &[ConfigError]| -> Value { errors.iter().map(error_json).collect() };
        println!(
            "{}",
            json!({
                "errors": list(&errors),
                "warnings": list(&warnings),
                "revision": facts.as_ref().map(|facts| &facts.revision),
                "series": facts.as_ref().map(PolicyFacts::series_json),
            })
        );
    } else {
        for error in &errors {
            println!("{error}");
        }
        for warning in &warnings {
            println!("warning: {warning}");
        }
        let name = args.policy.display();
        let errors = match errors.len() as u64 {
            0 => "no errors".to_owned(),
            count => counted(count, "error"),
        };
        match warnings.len() as u64 {
            0 => eprintln!("{name}: {errors}"),
            count => eprintln!("{name}: {errors}, {}", counted(count, "warning")),
        }
        if let Some(facts) = &facts {
            eprintln!("{}", facts.to_text());
        }
    }
    let is_fine = errors.is_empty() && (warnings.is_empty() || !args.strict);
    Ok(if is_fine {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What a policy is known by once it is loaded.
struct PolicyFacts {
    revision: String,
    series: Vec<(Vantage, usize)>,
}

impl PolicyFacts {
    fn of(file: &PolicyFile) -> Self {
        let bound = |vantage: &Vantage| (*vantage, series::bound(&file.policy, *vantage));
        Self {
            revision: revision_text(file.revision()),
            series: Vantage::ALL.iter().map(bound).collect(),
        }
    }

    fn series_json(&self) -> Value {
        let series = self.series.iter();
        let series = series.map(|(vantage, bound)| (vantage.as_str().to_owned(), json!(bound)));
        Value::Object(series.collect())
    }

    fn to_text(&self) -> String {
        let series: Vec<String> = self
            .series
            .iter()
            .map(|(vantage, bound)| format!("{vantage} {bound}"))
            .collect();
        format!(
            "revision {}; series per proxy, at most: {}",
            self.revision,
            series.join(", ")
        )
    }
}

fn error_json(error: &ConfigError) -> Value {
    json!({"path": error.path, "message": error.message, "hint": error.hint})
}
