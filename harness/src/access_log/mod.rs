//! Access logs: what proxies wrote of the requests and connections that passed them.
//!
//! Owns the form of an [`Entry`] and the [`reader`](read) of files, of standard input, and of
//! either in gzip. Judges nothing: what was decided is what the entry says.
//!
//! Whatever a client sends can stand in an entry, so its texts are not to be printed as they are.

mod entry;
mod fields;
mod lines;
mod source;

pub use entry::{Entry, LoggedCaller, RuleDecision};
pub use lines::{Malformed, Problem, Summary, read_lines};
pub use source::{Log, expand, read};
