//! What the command line does with real Envoys.

mod bench;
mod closed_output;
mod cold_burst;
mod demo;
mod large_policy;
mod live;
mod live_memory;
mod logged_decisions;
mod prometheus;
mod readme;
mod render_envoy;
mod render_istio;
mod top;
mod topology;
mod up;
mod up_life;
