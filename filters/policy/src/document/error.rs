//! An error in a policy document.

use std::fmt;

/// What is wrong with a policy document, where, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The place, as in `hosts.ingress.rules[2].hosts[0]`; empty for the document itself.
    pub path: String,
    /// What is wrong, quoting what was found.
    pub message: String,
    /// What to write instead.
    pub hint: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.path.as_str() {
            "" => "the policy",
            path => path,
        };
        write!(f, "{place}: {}; {}", self.message, self.hint)
    }
}

impl std::error::Error for ConfigError {}
