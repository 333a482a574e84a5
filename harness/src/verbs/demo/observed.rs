//! What became of a request, beside what the policy says of it.

use meridian_policy::Verdict;

use super::scenarios::{Hop, Scenario};
use crate::lab::topology::{Arrival, Reply};

/// What a filter counted for one request, or what it should have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Counted {
    pub(super) envoy: String,
    pub(super) reporter: String,
    pub(super) direction: String,
    /// Empty for a connection that passes unread.
    pub(super) component_type: String,
    pub(super) decision: String,
    pub(super) rule: String,
}

/// A scenario, what the policy says of it, and what became of it.
pub(super) struct Observed<'s> {
    pub(super) scenario: &'s Scenario,
    pub(super) verdicts: Vec<(&'s Hop, Verdict)>,
    /// `None` for a connection that was closed.
    pub(super) reply: Option<Reply>,
    pub(super) arrival: Option<Arrival>,
    /// Each difference between what was seen and what the policy says; empty when all is well.
    pub(super) differences: Vec<String>,
}
