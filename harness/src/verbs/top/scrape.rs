//! Scrapes all proxies at once.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::counts::Proxy;
use super::target::ScrapeTarget;
use crate::lab::prometheus::Samples;

/// One answer and when it came.
pub(super) type Answer = (Instant, anyhow::Result<Samples>);

/// Asks every target at once; the answers are in their order.
pub(super) async fn scrape(targets: &[ScrapeTarget], interval: Duration) -> Vec<Answer> {
    let deadline = interval.clamp(Duration::from_secs(1), Duration::from_secs(10));
    let mut asking = JoinSet::new();
    for (index, target) in targets.iter().cloned().enumerate() {
        asking.spawn(async move {
            let samples = target.scrape(deadline).await;
            (index, (Instant::now(), samples))
        });
    }
    let mut answers = asking.join_all().await;
    answers.sort_by_key(|(index, _)| *index);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// Asks every proxy, and has it count the answer.
pub(super) async fn scrape_into(proxies: &mut [Proxy], interval: Duration) {
    let targets: Vec<ScrapeTarget> = proxies.iter().map(|proxy| proxy.target.clone()).collect();
    take(proxies, scrape(&targets, interval).await);
}

/// Has every proxy count its answer.
pub(super) fn take(proxies: &mut [Proxy], answers: Vec<Answer>) {
    for (proxy, (at, samples)) in proxies.iter_mut().zip(answers) {
        proxy.take(at, samples);
    }
}
