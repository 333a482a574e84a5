//! The machine of a run, for whoever compares two runs.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::cpu::Cpus;

/// What is known of the machine; what is not is empty.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The CPU's model.
    pub cpu: String,
    /// How many CPUs it has.
    pub cpus: usize,
    /// Which of them were used.
    pub used: Cpus,
    /// The kernel's release.
    pub kernel: String,
    /// The version of Envoy, as it says.
    pub envoy: String,
    /// Processes that wanted a CPU in the minute before the run, on average.
    pub load_before: String,
}

impl Machine {
    /// Looks around.
    pub fn look(envoy: &Path, used: Cpus) -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let cpus = read("/proc/cpuinfo");
        let model = cpus
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .map_or("", |rest| rest.trim_start_matches([' ', '\t', ':']));
        let version = Command::new(envoy).arg("--version").output();
        let version = version.map_or_else(
            |_| String::new(),
            |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        );
        let version = version.rsplit("version:").next().unwrap_or_default().trim();
        Self {
            cpu: model.to_owned(),
            cpus: cpus
                .lines()
                .filter(|line| line.starts_with("processor"))
                .count(),
            used,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            envoy: version.to_owned(),
            load_before: read("/proc/loadavg")
                .split(' ')
                .next()
                .unwrap_or_default()
                .to_owned(),
        }
    }

    /// For `--json`.
    pub fn to_json(&self) -> Value {
        json!({
            "cpu": self.cpu,
            "cpus": self.cpus,
            "envoyOnCpu": self.used.envoy,
            "loadOnCpu": self.used.load,
            "kernel": self.kernel,
            "envoy": self.envoy,
            "loadBefore": self.load_before,
        })
    }
}
