//! The shipped modules on an interpreter: what they do and what it costs, counted. A test here fails
//! when a change makes a request or a policy dearer, on any machine and however busy it is.

mod allocations;
mod attachment;
mod budgets;
mod compiled;
mod expiry;
mod filter_state;
mod guess;
mod host;
mod image;
mod memory;
mod plugins;
mod policies;
mod refusals;
