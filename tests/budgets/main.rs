//! What a request may cost, counted: host calls, callbacks, instructions, allocations; and what memory
//! a policy may take. A test here fails when a change makes a request or a policy dearer, on any machine
//! and however busy it is.

mod allocations;
mod crossings;
mod expiry;
mod filter_state;
mod guess;
mod host;
mod memory;
mod plugins;
mod policies;
mod refusals;
