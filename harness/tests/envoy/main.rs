//! What the command line does with real Envoys.

mod access_logs;
mod bench;
mod closed_output;
mod demo;
mod prometheus;
mod readme;
mod render_envoy;
mod render_istio;
mod top;
mod topology;
mod up;
