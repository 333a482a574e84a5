//! What a filter costs before any request: memory and loading time of one more worker.
//!
//! Envoys of one listener, with one worker and with several more: what they differ by, shared out, is
//! a worker's own, with its own VM. What all workers share falls out.

use std::fs;

use anyhow::Context;

use super::cells::{INGRESS, ingress};
use super::cpu;
use super::environment::Environment;
use super::statistics::Spread;
use super::variants::{Filter, bootstrap};
use crate::lab::envoy::{Envoy, EnvoyOptions, LogLevel};

/// What one more worker takes.
#[derive(Debug)]
pub struct Footprint {
    /// The filter that it runs.
    pub filter: Filter,
    /// Resident memory, MB (of a million bytes), once for each pair of Envoys.
    pub megabytes: Vec<f64>,
    /// CPU time until Envoy is live, ms, likewise: the start of a worker and of its VM, and
    /// `on_configure`, which compiles the policy.
    pub milliseconds: Vec<f64>,
}

impl Footprint {
    /// The spread over the pairs of Envoys.
    pub fn memory(&self) -> Spread {
        Spread::of(&self.megabytes)
    }

    /// Likewise.
    pub fn loading(&self) -> Spread {
        Spread::of(&self.milliseconds)
    }
}

/// Measures the filters that the goals name.
///
/// # Errors
/// If an Envoy does not start.
pub async fn measure(environment: &Environment<'_>, quick: bool) -> anyhow::Result<Vec<Footprint>> {
    // The pairs of Envoys, and how many workers more the larger one has: memory comes and goes in
    // pages and spans, so that small filters need many.
    let filters: &[(Filter, u32, u32)] = if quick {
        &[(Filter::SdkEmpty, 1, 2), (INGRESS, 1, 2)]
    } else {
        &[
            (Filter::SdkEmpty, 5, 6),
            (INGRESS, 5, 6),
            (ingress(100_000), 3, 4),
            (ingress(1_000_000), 1, 2),
        ]
    };
    let mut footprints = Vec::new();
    for (filter, pairs, further) in filters {
        eprintln!("Bench: memory and loading time of {filter}");
        let mut footprint = Footprint {
            filter: *filter,
            megabytes: Vec::new(),
            milliseconds: Vec::new(),
        };
        for _ in 0..*pairs {
            let one = start(environment, *filter, 1).await?;
            let more = start(environment, *filter, 1 + further).await?;
            let per_worker = |more: u64, one: u64, unit: f64| {
                (more as f64 - one as f64) / f64::from(*further) / unit
            };
            footprint
                .megabytes
                .push(per_worker(more.bytes, one.bytes, 1e6));
            footprint
                .milliseconds
                .push(per_worker(more.nanoseconds, one.nanoseconds, 1e6));
        }
        footprints.push(footprint);
    }
    Ok(footprints)
}

struct Started {
    bytes: u64,
    nanoseconds: u64,
}

/// Starts an Envoy, looks at it and ends it.
async fn start(
    environment: &Environment<'_>,
    filter: Filter,
    workers: u32,
) -> anyhow::Result<Started> {
    let bootstrap = bootstrap(
        &[filter],
        environment.modules,
        environment.yardstick,
        environment.upstream,
    )?;
    let options = EnvoyOptions {
        concurrency: workers,
        log_level: LogLevel::Warning,
        ..EnvoyOptions::default()
    };
    let name = format!("{filter}-with-{workers}");
    let envoy = Envoy::start(
        environment.envoy,
        environment.run,
        &name,
        &bootstrap,
        &options,
    )
    .await?;
    let nanoseconds = cpu::settled(envoy.id()).await?.cpu;
    let bytes = resident(envoy.id())?;
    envoy.stop().await?;
    Ok(Started { bytes, nanoseconds })
}

/// The resident memory of a process, in bytes; exact, unlike `/proc/PID/status`.
fn resident(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    parse_resident(&text).with_context(|| format!("{path} has no Rss"))
}

fn parse_resident(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_kb_and_means_1024_bytes() {
        let text = "55d0-7ffd ---p 00000000 00:00 0  [rollup]\nRss:    1024 kB\nPss:  1 kB\n";
        assert_eq!(parse_resident(text), Some(1 << 20));
        assert!(resident(std::process::id()).unwrap() > 100_000);
    }
}
