//! What came of one expectation, and how it is told.

use std::path::Path;

use serde_json::{Value, json};

use super::format::{Case, Difference};
use crate::policy::{Explanation, PolicyFile};
use crate::text::visible::{visible, visible_lines};

/// What came of one expectation.
#[derive(Debug, Clone)]
pub(super) struct CaseResult {
    pub(super) file: String,
    index: usize,
    pub(super) name: String,
    pub(super) differences: Vec<Difference>,
    /// The object of `meridian explain --json`.
    explanation: Value,
    /// The command line that explains the same request.
    command: String,
}

impl CaseResult {
    /// Decides the request of a case, which stands at `index` in the file at `path`.
    pub(super) fn of(
        policy: &PolicyFile,
        policy_path: &Path,
        path: &Path,
        index: usize,
        case: &Case,
    ) -> Self {
        let explanation = Explanation::of(&policy.policy, &case.request).to_json();
        Self {
            file: path.display().to_string(),
            index,
            name: case.name.clone(),
            differences: case.expect.differences(&explanation),
            explanation,
            command: case.request.command(policy_path),
        }
    }

    pub(super) fn is_met(&self) -> bool {
        self.differences.is_empty()
    }

    pub(super) fn to_json(&self) -> Value {
        let differences: Vec<Value> = self
            .differences
            .iter()
            .map(|difference| {
                json!({
                    "field": difference.field,
                    "expected": difference.expected,
                    "actual": difference.actual,
                })
            })
            .collect();
        json!({
            "file": self.file,
            "name": self.name,
            "outcome": if self.is_met() { "passed" } else { "failed" },
            "differences": differences,
            "explanation": self.explanation,
        })
    }

    /// The differences, `-` what was expected and `+` what is.
    pub(super) fn diff(&self) -> String {
        let mut lines = Vec::new();
        for Difference {
            field,
            expected,
            actual,
        } in &self.differences
        {
            lines.push(format!("  - {field}: {}", plain(expected)));
            lines.push(format!("  + {field}: {}", plain(actual)));
        }
        let reason = self.explanation["reason"].as_str().unwrap_or_default();
        lines.push(format!("  because {reason}"));
        lines.push(format!("  $ {}", self.command));
        lines.join("\n")
    }

    pub(super) fn to_text(&self) -> String {
        format!(
            "FAIL {} ({}[{}])\n{}",
            visible(&self.name),
            visible(&self.file),
            self.index,
            visible_lines(&self.diff())
        )
    }
}

/// A value as YAML has it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}
