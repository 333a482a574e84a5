//! From evidence to a verdict: the direction of a request or connection, and what the rules say.

mod candidates;
mod connection;
pub(crate) mod decision;
pub(crate) mod direction;
mod evidence;
mod outcomes;

pub use candidates::{Candidate, Outcome};
pub use connection::{ConnectionVerdict, server_name};
pub use decision::{Caller, DryRun, Reason, Refusal, Verdict};
pub use evidence::{Evidence, Request};
pub use outcomes::PossibleOutcome;
