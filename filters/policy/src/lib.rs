//! The policy: values in, decision out.
//!
//! Owns the policy document and its errors, the canonical form of hosts, the direction of a
//! request with its evidence, and the decision. Never touches a host, a clock, randomness or I/O,
//! so that the filters, the command line and the tests all decide with the same code.
//!
//! ```
//! use meridian_policy::{Policy, Request, Vantage};
//!
//! let policy = Policy::from_json(
//!     br#"{"hosts": {"ingress": {"default": "deny", "rules": [
//!         {"name": "shop", "hosts": ["shop.example.com"], "action": "allow"}]}}}"#,
//! )
//! .unwrap();
//! let mut request = Request::new(b"Shop.Example.com.:443");
//! request.source = "203.0.113.7".parse().ok();
//! let verdict = policy.decide(Vantage::Ingress, &mut request);
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

mod address_text;
mod candidates;
mod component;
mod conditions;
mod connection;
mod date;
mod decision;
mod direction;
mod document;
mod error;
pub mod fields;
mod host;
mod host_map;
mod mesh;
mod outcomes;
mod pattern;
mod policy;
mod principal;
mod quoted;
mod reader;
mod request;
mod revision;
mod section;
mod tags;
mod vocabulary;

pub use candidates::{Candidate, Outcome};
pub use conditions::{From, Unmet};
pub use connection::{ConnectionVerdict, server_name};
pub use date::Date;
pub use decision::{Caller, DryRun, Reason, Refusal, Verdict};
pub use document::{Document, StringList};
pub use error::ConfigError;
pub use host::{Authority, Host, InvalidHost, Name};
pub use host_map::{HostMap, InsertError};
pub use mesh::{Gateway, Mesh};
pub use outcomes::PossibleOutcome;
pub use pattern::{HostPattern, Pattern, PatternError};
pub use policy::{Deny, Metrics, Policy, Sni};
pub use principal::{Principal, PrincipalPattern};
pub use request::{Evidence, Request};
pub use revision::revision;
pub use section::{MAX_RULES, Rule, Section};
pub use tags::{TagWrite, Tags};
pub use vocabulary::{Action, ComponentType, Direction, DirectionEvidence, Mode, SniMode, Vantage};
