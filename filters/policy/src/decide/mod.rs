//! From evidence to a verdict: where a request or connection goes, its direction, and what the rules
//! say.

mod candidates;
mod conditions;
mod decision;
mod direction;
mod evidence;
mod facts;
mod gateway;
mod reasons;
mod target;
mod verdict;

pub use candidates::{Candidate, Standing};
pub use conditions::Unmet;
pub use evidence::{Evidence, Request};
pub use gateway::GatewayError;
pub use reasons::PossibleReason;
pub use verdict::{Caller, DryRun, Reason, Refusal, Verdict};
