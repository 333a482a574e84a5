//! What Docker makes of the images and projects of this repository, on a real engine.
//!
//! An engine takes root and programs that not every machine has: where they are missing the tests say
//! so and pass, but where `CI` is set.

mod compose;
mod dockerfile;
mod engine;
mod images;
mod life;
mod rust_image;
