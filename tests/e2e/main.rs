//! End to end, on real Envoy.

mod architecture;
mod attachment;
mod bad_policies;
mod certificates;
mod coalescing;
mod connections;
mod discovered;
mod echo;
mod endings;
mod expiry;
mod gateway;
mod modules;
mod mutations;
mod packed_policy;
mod policy_update;
mod protocols;
mod spans;
mod vectors;
mod wasm_tier;
