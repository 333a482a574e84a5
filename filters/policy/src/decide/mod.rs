//! From evidence to a verdict: where a request or connection goes, its direction, and what the rules
//! say.

mod candidates;
mod decision;
mod direction;
mod evidence;
pub(crate) mod facts;
pub(crate) mod istio;
mod reasons;
mod target;
mod verdict;

pub use candidates::{Candidate, Standing};
pub use evidence::{Evidence, Request};
pub use istio::server_name;
pub use reasons::PossibleReason;
pub use verdict::{Caller, DryRun, Reason, Refusal, Verdict};
