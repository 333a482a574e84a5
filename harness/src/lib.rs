//! The harness: builds the filters, runs them under real Envoys on one machine, and holds the
//! tools that work on a policy without a cluster. The command line is [`cli`]; [`verbs`] has one
//! entry a verb, and what verbs share lies beside it. The end-to-end tests use the same parts.
//!
//! Decides nothing itself: every decision is made by `meridian-policy`.

pub mod access_log;
pub mod cli;
mod https;
pub mod lab;
pub mod oci;
mod output;
pub mod policy;
mod runtime;
mod svg;
pub mod text;
pub mod topology_args;
pub mod traffic;
pub mod verbs;
