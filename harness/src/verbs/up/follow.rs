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
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The policy that a topology is started with.
#[derive(Debug, Clone)]
pub struct Followed {
    /// Its file, or `None` for the sample policy.
    pub file: Option<PathBuf>,
    /// What is in it.
    pub policy: PolicyFile,
    /// Whether changes of the file are followed; else it is read again at SIGUSR1 alone.
    pub is_watched: bool,
}

/// Follows a policy file.
pub(super) struct Follow {
    file: Option<PathBuf>,
    /// `None` if it is read again at SIGUSR1 alone.
    watch: Option<Watch>,
    again: Signal,
}

impl Follow {
    /// From now on; a change counts from this call.
    ///
    /// # Errors
    /// If the kernel refuses to tell of SIGUSR1.
    pub(super) fn new(followed: &Followed) -> anyhow::Result<Self> {
        let file = followed.file.clone();
        let watched = file.as_deref().filter(|_| followed.is_watched);
        Ok(Self {
            watch: watched.map(Watch::new),
            file,
            again: signal(SignalKind::user_defined1()).context("cannot listen to signals")?,
        })
    }

    /// Gives the topology every policy that the file holds from now on, and tells of each. Never ends
    /// by itself.
    pub(super) async fn policies(
        mut self,
        topology: &Topology,
        mut live: Live,
        tell: &dyn Fn(&str),
    ) -> Infallible {
        loop {
            let read = self.next().await;
            let start = Instant::now();
            let policy = read
                .and_then(|bytes| Ok(PolicyFile::parse(&bytes)?))
                .and_then(|policy| live.renew(&policy).map(|()| policy));
            match policy {
                Ok(policy) => tell(&await_everywhere(topology, &policy, start).await),
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
        let Some(file) = self.file.as_deref() else {
            self.again.recv().await;
            anyhow::bail!("it is the sample policy, which has no file: start with --policy FILE");
        };
        let watched = async {
            match &mut self.watch {
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

/// Waits until every filter of every proxy reports the policy, and says so, or who does not.
async fn await_everywhere(topology: &Topology, policy: &PolicyFile, start: Instant) -> String {
    let revision = policy.revision();
    let shown = revision_text(revision);
    loop {
        let mut lacking = Vec::new();
        let mut proxies = 0;
        for envoy in topology.envoys() {
            proxies += 1;
            if let Err(why) = has(envoy.scrape().await, revision) {
                lacking.push(format!(
                    "{} {why}; its log is {}",
                    envoy.name(),
                    envoy.log_path().display()
                ));
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
        if waited > PATIENCE {
            return format!(
                "policy {shown} is NOT in force everywhere after {} s:\n{}",
                waited.as_secs(),
                lacking.join("\n")
            );
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn has(scraped: anyhow::Result<String>, revision: u64) -> Result<(), String> {
    let scraped = scraped.map_err(|error| format!("does not answer: {error:#}"))?;
    let samples = Samples::parse(&scraped).map_err(|error| format!("answers oddly: {error:#}"))?;
    let other = samples
        .find(POLICY_REVISION.name, &[])
        .find(|sample| sample.value != revision as f64);
    match other {
        None => Ok(()),
        Some(sample) => Err(format!(
            "still has policy {}",
            revision_text(sample.value as u64)
        )),
    }
}
