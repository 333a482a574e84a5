//! The policy: values in, decision out.
//!
//! Owns the policy document and its errors, the canonical form of hosts, the direction of a
//! request with its evidence, and the decision. Never touches a host, a clock, randomness or I/O,
//! so that the filters, the command line and the tests all decide with the same code.
//!
//! ```
//! use meridian_policy::{Policy, Request, Subject, Vantage};
//!
//! let policy = Policy::from_json(
//!     br#"{"hosts": {"ingress": {"default": "deny", "rules": [
//!         {"name": "shop", "hosts": ["shop.example.com"], "action": "allow"}]}}}"#,
//! )
//! .unwrap();
//! let mut request = Request::new(b"Shop.Example.com.:443");
//! request.source = "203.0.113.7".parse().ok();
//! let verdict = policy.decide(Vantage::Ingress, Subject::Request, &mut request);
//! assert_eq!(verdict.decision.as_str(), "allow");
//! assert_eq!(verdict.direction.as_str(), "north-south");
//! ```

#![forbid(unsafe_code)]
// Input of any kind reaches this crate inside a proxy worker, where a panic is an outage.
#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod decide;
mod document;
mod host;
mod image;
mod istio;
mod model;
mod quoted;
mod revision;

pub use document::fields;

pub use decide::{
    Caller, Candidate, DryRun, Evidence, GatewayError, PossibleReason, Reason, Refusal, Request,
    Standing, Unmet, Verdict,
};
pub use document::fields::MAX_RULES;
pub use document::{ConfigError, Document, StringList};
pub use host::{
    Authority, Host, HostMap, HostPattern, InsertError, InvalidHost, Name, Pattern, PatternError,
};
pub use istio::server_name;
pub use model::{
    Action, CallerConditions, ComponentType, Date, Deny, Direction, DirectionEvidence, Gateway,
    Mesh, Metrics, Mode, Policy, Precedence, Principal, PrincipalPattern, Rank, Rule, Section, Sni,
    SniMode, Specificity, Subject, TagWrite, Tags, Vantage, is_label_key, is_label_value,
    is_namespace,
};
pub use revision::revision;
