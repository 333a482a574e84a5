//! Another policy for a topology that runs: its file is followed, or read again when asked.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use meridian_metrics::POLICY_REVISION;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::lab::live::Live;
use crate::lab::prometheus::Samples;
use crate::lab::topology::Topology;
use crate::policy::watch::Watch;
use crate::policy::{PolicyErrors, PolicyFile, revision_text};
use crate::text::visible::visible_lines;

/// How long the proxies may take over a policy until it is said who has not taken it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much longer for each byte of policy, as for a start.
const PATIENCE_PER_BYTE: Duration = Duration::from_micros(30);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The policy that a topology is started with.
#[derive(Debug)]
pub struct Followed {
    /// Its file, or `None` for the sample policy.
    pub file: Option<PathBuf>,
    /// What was in it.
    pub policy: PolicyFile,
    /// The changes of the file since the policy was read, or `None` if it is read again at SIGUSR1 alone.
    pub watch: Option<Watch>,
}

/// Follows a policy file.
pub(super) struct Follow {
    followed: Followed,
    again: Signal,
}

impl Follow {
    /// SIGUSR1 counts from this call.
    ///
    /// # Errors
    /// If the kernel refuses to tell of SIGUSR1.
    pub(super) fn new(followed: Followed) -> anyhow::Result<Self> {
        Ok(Self {
            followed,
            again: signal(SignalKind::user_defined1()).context("cannot listen to signals")?,
        })
    }

    /// Gives the topology, whose modules are in the folder `modules`, every policy that the file holds
    /// from now on, and tells of each. Never ends by itself.
    pub(super) async fn policies(
        mut self,
        topology: &Topology,
        modules: PathBuf,
        tell: &dyn Fn(&str),
    ) -> Infallible {
        let mut live = Live::of(&self.followed.policy, modules, topology.filters());
        loop {
            let read = self.next().await;
            let start = Instant::now();
            let policy = read
                .and_then(|bytes| Ok((PolicyFile::parse(&bytes)?, patience(bytes.len()))))
                .and_then(|(policy, patience)| {
                    live.renew(&policy)?;
                    Ok((policy, patience))
                });
            match policy {
                Ok((policy, patience)) => {
                    tell(&await_everywhere(topology, &policy, start, patience).await);
                }
                Err(error) => {
                    let text = match error.downcast_ref::<PolicyErrors>() {
                        Some(errors) => errors.to_string(),
                        None => format!("{error:#}"),
                    };
                    tell(&format!(
                        "the policy is refused, and the one before stays in force:\n{}",
                        visible_lines(&text)
                    ));
                }
            }
        }
    }

    async fn next(&mut self) -> anyhow::Result<Vec<u8>> {
        let Some(file) = self.followed.file.as_deref() else {
            self.again.recv().await;
            anyhow::bail!("it is the sample policy, which has no file: start with --policy FILE");
        };
        let watched = async {
            match &mut self.followed.watch {
                Some(watch) => watch.next().await,
                None => std::future::pending().await,
            }
        };
        let read = tokio::select! {
            changed = watched => changed,
            _ = self.again.recv() => tokio::fs::read(file).await,
        };
        read.with_context(|| format!("{} cannot be read", file.display()))
    }
}

fn patience(policy_bytes: usize) -> Duration {
    PATIENCE + PATIENCE_PER_BYTE * u32::try_from(policy_bytes).unwrap_or(u32::MAX)
}

/// Waits until every filter of every proxy reports the policy, and says so, or who does not and why.
async fn await_everywhere(
    topology: &Topology,
    policy: &PolicyFile,
    start: Instant,
    patience: Duration,
) -> String {
    let revision = policy.revision();
    let shown = revision_text(revision);
    loop {
        let mut lacking = Vec::new();
        let mut proxies = 0;
        for envoy in topology.envoys() {
            proxies += 1;
            let revisions = format!("/stats/prometheus?filter={}", POLICY_REVISION.name);
            if let Err(why) = has(envoy.get(&revisions).await, revision) {
                lacking.push((envoy, why));
            }
        }
        let waited = start.elapsed();
        if lacking.is_empty() {
            let rules = policy.rules();
            return format!(
                "policy {shown} with {rules} rules is in force at {proxies} proxies after {:.1} s",
                waited.as_secs_f32()
            );
        }
        if waited > patience {
            let lacking = lacking.iter().map(|(envoy, why)| {
                let complaint = envoy.log().ok().as_deref().and_then(last_complaint);
                let complaint = complaint.map(|line| format!("\n  {line}"));
                format!(
                    "{} {why}; its log is {}{}",
                    envoy.name(),
                    envoy.log_path().display(),
                    complaint.unwrap_or_default()
                )
            });
            let lacking: Vec<String> = lacking.collect();
            return visible_lines(&format!(
                "policy {shown} is NOT in force everywhere after {} s:\n{}",
                waited.as_secs(),
                lacking.join("\n")
            ));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn has(scraped: anyhow::Result<String>, revision: u64) -> Result<(), String> {
    let scraped = scraped.map_err(|error| format!("does not answer: {error:#}"))?;
    let samples = Samples::parse(&scraped).map_err(|error| format!("answers oddly: {error:#}"))?;
    let mut reported = samples.find(POLICY_REVISION.name, &[]).peekable();
    if reported.peek().is_none() {
        return Err("has no filter that reports a policy".to_owned());
    }
    match reported.find(|sample| sample.value != revision as f64) {
        None => Ok(()),
        Some(sample) => Err(format!(
            "still has policy {}",
            revision_text(sample.value as u64)
        )),
    }
}

/// The last line in which an Envoy complains, say why it refuses an update.
fn last_complaint(log: &str) -> Option<String> {
    let complains = |line: &&str| {
        ["[warning]", "[error]", "[critical]"]
            .iter()
            .any(|level| line.contains(level))
    };
    log.lines().rfind(complains).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_has_a_policy_when_every_filter_reports_it_and_one_does() {
        let gauges = |values: &[u64]| {
            let line = |value| format!("{}{{filter=\"{value}\"}} {value}\n", POLICY_REVISION.name);
            Ok(values.iter().map(line).collect::<String>())
        };
        assert_eq!(has(gauges(&[7]), 7), Ok(()));
        let why = |scraped| has(scraped, 7).unwrap_err();
        assert_eq!(why(gauges(&[])), "has no filter that reports a policy");
        let still = format!("still has policy {}", revision_text(8));
        assert_eq!(why(gauges(&[7, 8])), still);
        assert_eq!(why(Err(anyhow::anyhow!("gone"))), "does not answer: gone");
    }

    #[test]
    fn the_last_complaint_of_a_log_is_told() {
        let log = "[1][warning][config] one\n[2][error][wasm] two\n[3][info][main] three\n";
        assert_eq!(last_complaint(log).as_deref(), Some("[2][error][wasm] two"));
        assert_eq!(last_complaint("[3][info][main] three\n"), None);
    }
}
