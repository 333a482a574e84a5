//! The options of the verbs that run the local topology, and what must be ready before it starts.

use std::path::PathBuf;

use clap::Args;

use crate::lab::config::wasm::Filters;
use crate::lab::topology::TopologyOptions;
use crate::lab::{envoy, modules, paths};
use crate::policy::PolicyFile;

/// The options of every verb that runs the topology.
#[derive(Debug, Clone, Default, Args)]
pub struct TopologyArgs {
    /// The policy, in YAML or JSON [default: the sample policy]
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// The Envoy binary [default: $MERIDIAN_ENVOY, the release $MERIDIAN_ENVOY_VERSION, `envoy` on the PATH, or a download]
    #[arg(long, value_name = "FILE")]
    pub envoy: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What a topology starts from.
#[derive(Debug)]
pub struct Prepared {
    /// The policy that the filters get.
    pub policy: PolicyFile,
    /// The topology itself, with filters of the same policy.
    pub topology: TopologyOptions,
}

impl TopologyArgs {
    /// Loads the policy, finds or downloads Envoy, and builds the modules unless the topology runs
    /// without filters. `run` names the run folder.
    ///
    /// # Errors
    /// If any of these fails.
    pub fn prepare(&self, run: &str, with_filters: bool) -> anyhow::Result<Prepared> {
        // The policy comes first: its errors should not wait for a download.
        let policy = PolicyFile::load(self.policy.as_deref())?;
        let envoy = envoy::obtain(self.envoy.as_deref())?;
        let filters = if with_filters {
            modules::build()?;
            Some(Filters::new(paths::modules_dir()?, &policy))
        } else {
            None
        };
        let topology = TopologyOptions {
            live: false,
            run: run.to_owned(),
            envoy,
            filters,
        };
        Ok(Prepared { policy, topology })
    }
}
