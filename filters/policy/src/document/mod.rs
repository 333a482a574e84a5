//! From text to a tree, and from a tree to values with every error's place.

mod error;
pub mod fields;
pub(crate) mod reader;
mod tree;

pub use error::ConfigError;
pub use tree::{Document, StringList};
