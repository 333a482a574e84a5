//! Text for people: numbers and names in words, and text from outside made fit to be shown.

pub mod confusables;
pub mod numbers;
pub mod sha256;
pub mod shell;
pub mod visible;
pub mod wrap;
