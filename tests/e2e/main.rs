//! End to end, on real Envoy.

mod architecture;
#[path = "../vectors/cases.rs"]
mod cases;
mod certificates;
mod echo;
mod modules;
mod vectors;
mod wasm_tier;
