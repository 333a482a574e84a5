//! What the command line does without an Envoy.

mod access_log;
mod architecture;
mod candidate_rows;
mod check;
mod circles;
mod cli;
mod command;
mod docs;
mod examples;
mod expectations;
mod explain;
mod gateways;
mod golden;
mod help;
mod learn;
mod pack;
mod render_envoy;
mod render_istio;
mod render_istio_gateways;
mod render_istio_schemas;
mod report;
mod schema;
mod warnings;
mod yaml_aliases;
