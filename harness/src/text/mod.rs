//! Text from outside, made fit to be shown.

pub mod visible;
