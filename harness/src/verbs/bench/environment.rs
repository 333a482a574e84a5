//! What every Envoy of a run needs.

use std::net::SocketAddr;
use std::path::Path;

use crate::lab::envoy::RunFolder;
use crate::lab::modules::Yardstick;

/// The binary, the folders and the upstream of a run.
#[derive(Debug)]
pub struct Environment<'e> {
    /// The Envoy binary.
    pub envoy: &'e Path,
    /// Where the files of its Envoys go.
    pub run: &'e RunFolder,
    /// The folder of the modules.
    pub modules: &'e Path,
    /// What the filters are measured against.
    pub yardstick: &'e Yardstick,
    /// Where the upstream listens.
    pub upstream: SocketAddr,
}
