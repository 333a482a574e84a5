//! What a request may cost, counted: host calls, callbacks, instructions, allocations. A test here
//! fails when a change makes a request dearer, on any machine and however busy it is.

mod allocations;
mod crossings;
mod expiry;
mod filter_state;
mod host;
mod policies;
mod refusals;
