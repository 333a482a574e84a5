//! Policies as people write and ask about them: files, and the requests of the command line.

mod explanation;
mod file;
mod image;
pub mod query;
pub mod series;
mod slice;
pub mod watch;
pub mod written;
pub mod yaml;

pub use explanation::Explanation;
pub use file::{PolicyErrors, PolicyFile, SAMPLE, SAMPLE_EXPECTATIONS, revision_text};
