//! The harness: builds the filters, runs them under real Envoys on one machine, and holds the
//! tools that work on a policy without a cluster. The command line is [`cli`], with one file a verb;
//! the end-to-end tests use the same parts.
//!
//! Decides nothing itself: every decision is made by `meridian-policy`.

pub mod access_log;
pub mod asked;
pub mod bench;
pub mod build;
pub mod candidates;
pub mod check;
pub mod cli;
pub mod config;
pub mod demo;
pub mod envoy;
pub mod expectations;
pub mod explain;
pub mod learn;
pub mod modules;
mod output;
pub mod paths;
pub mod policy_file;
pub mod process;
pub mod prometheus;
pub mod render;
pub mod report;
pub mod schema;
pub mod series;
pub mod top;
pub mod topology;
pub mod up;
pub mod visible;
pub mod warnings;
mod yaml;
