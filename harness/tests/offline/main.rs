//! What the command line does without an Envoy.

mod access_log;
mod candidates;
mod cli;
mod docs;
mod examples;
mod expectations;
mod golden;
mod help;
mod learn;
mod report;
mod schema;
mod warnings;
mod yaml_aliases;
