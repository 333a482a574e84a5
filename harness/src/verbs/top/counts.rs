//! What a proxy has counted, over scrapes, restarts and gaps.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::target::{ScrapeTarget, WrongTarget};
use crate::lab::prometheus::{Sample, Samples};
use meridian_metrics::{DURATION, POLICY_REVISION, POLICY_RULES};

/// How far back latencies are looked at. Envoy merges its histograms every 5 s, so that the time
/// between two scrapes is often too short to hold any.
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// The most series of a proxy that are kept, beside those of its latest scrape. Envoy keeps its own
/// until it restarts, so that more are only there where their names change all the time.
const MOST_SERIES: usize = 50_000;

/// A series: a metric and its labels.
pub(super) type SeriesKey = (String, BTreeMap<String, String>);

/// One counter, or one bucket of a histogram.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Count {
    /// As last scraped.
    last: f64,
    /// Since the proxy started or the view was reset. A restart of the proxy does not lower it.
    pub(super) total: f64,
    /// The total when the proxy's policy was seen to change.
    settled: Option<f64>,
    /// A second, between the last two scrapes that the proxy answered.
    pub(super) rate: f64,
}

/// One proxy.
#[derive(Debug, Clone)]
pub(super) struct Proxy {
    pub(super) target: ScrapeTarget,
    pub(super) counts: BTreeMap<SeriesKey, Count>,
    /// The latest gauges.
    pub(super) gauges: BTreeMap<SeriesKey, f64>,
    /// Why it did not answer the last scrape.
    pub(super) error: Option<String>,
    /// Set if it answered, and not as a proxy with a filter does.
    pub(super) wrong: Option<WrongTarget>,
    /// Whether it was seen to count from the beginning again.
    pub(super) restarts: u64,
    /// What the buckets gained, by scrape, within [`WINDOW`].
    recent: VecDeque<(Instant, BTreeMap<SeriesKey, f64>)>,
    answered: Option<Instant>,
}

impl Count {
    /// Whether nothing was counted since the policy changed: then it may be of a rule that the new one
    /// has no more, since Envoy keeps a series until it restarts.
    pub(super) fn is_settled(&self) -> bool {
        self.settled.is_some_and(|settled| settled >= self.total)
    }
}

impl Proxy {
    pub(super) fn new(target: ScrapeTarget) -> Self {
        Self {
            target,
            counts: BTreeMap::new(),
            gauges: BTreeMap::new(),
            error: None,
            wrong: None,
            restarts: 0,
            recent: VecDeque::new(),
            answered: None,
        }
    }

    /// Takes a scrape of `at` in.
    pub(super) fn take(&mut self, at: Instant, scrape: anyhow::Result<Samples>) {
        while self
            .recent
            .front()
            .is_some_and(|(then, _)| at.duration_since(*then) > WINDOW)
        {
            self.recent.pop_front();
        }
        match scrape {
            Ok(samples) => self.count(at, &samples),
            Err(error) => {
                self.error = Some(format!("{error:#}"));
                self.wrong = error.downcast_ref().cloned();
                // What it counts now is not known; what it counted then is.
                for count in self.counts.values_mut() {
                    count.rate = 0.0;
                }
            }
        }
    }

    fn count(&mut self, at: Instant, samples: &Samples) {
        let mut scraped: BTreeMap<SeriesKey, f64> = BTreeMap::new();
        let mut gauges = BTreeMap::new();
        for sample in samples.iter().filter(|sample| sample.value.is_finite()) {
            let key = (sample.name.clone(), sample.labels.clone());
            match is_gauge(sample) {
                true => gauges.insert(key, sample.value),
                false => scraped.insert(key, sample.value),
            };
        }
        // One counter that fell means that the process is another one, and all of them began at 0:
        // those, too, that have overtaken their old value.
        let restarted = self
            .counts
            .iter()
            .any(|(key, count)| scraped.get(key).copied().unwrap_or(0.0) < count.last);
        if restarted {
            self.restarts += 1;
            for count in self.counts.values_mut() {
                count.last = 0.0;
            }
        }
        let seconds = self
            .answered
            .map(|before| at.duration_since(before).as_secs_f64())
            .filter(|seconds| *seconds > 0.0);
        for count in self.counts.values_mut() {
            count.rate = 0.0;
        }
        if self.counts.len() > MOST_SERIES {
            self.counts.retain(|key, _| scraped.contains_key(key));
        }
        let mut gained = BTreeMap::new();
        for (key, value) in scraped {
            let count = self.counts.entry(key.clone()).or_default();
            let gain = value - count.last;
            count.last = value;
            count.total += gain;
            if let Some(seconds) = seconds {
                count.rate = gain / seconds;
                // A bucket that gained nothing still says where the next one begins.
                if key.0.starts_with(DURATION.name) {
                    gained.insert(key, gain);
                }
            }
        }
        self.recent.push_back((at, gained));
        let mut kept: usize = self.recent.iter().map(|(_, gained)| gained.len()).sum();
        while kept > MOST_SERIES
            && let Some((_, gained)) = self.recent.pop_front()
        {
            kept -= gained.len();
        }
        if revisions(&self.gauges) != revisions(&gauges) && !self.gauges.is_empty() {
            for count in self.counts.values_mut() {
                count.settled = Some(count.total);
            }
        }
        self.gauges = gauges;
        self.error = None;
        self.wrong = None;
        self.answered = Some(at);
    }

    /// Counts from here on.
    pub(super) fn reset(&mut self) {
        for count in self.counts.values_mut() {
            count.total = 0.0;
            count.settled = count.settled.map(|_| 0.0);
        }
        self.recent.clear();
        self.restarts = 0;
    }

    /// What the series of [`DURATION`] gained within [`WINDOW`].
    pub(super) fn recent(&self) -> impl Iterator<Item = (&SeriesKey, f64)> {
        let gains = self.recent.iter().flat_map(|(_, gained)| gained);
        gains.map(|(key, gain)| (key, *gain))
    }
}

/// The revisions among the gauges, by their labels.
fn revisions(gauges: &BTreeMap<SeriesKey, f64>) -> Vec<(&SeriesKey, &f64)> {
    let gauges = gauges.iter();
    gauges
        .filter(|((name, _), _)| name == POLICY_REVISION.name)
        .collect()
}

fn is_gauge(sample: &Sample) -> bool {
    [POLICY_REVISION.name, POLICY_RULES.name].contains(&sample.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy() -> Proxy {
        Proxy::new("127.0.0.1:1".parse().unwrap())
    }

    fn read(proxy: &Proxy, name: &str) -> (f64, f64) {
        let (_, count) = proxy.counts.iter().find(|((is, _), _)| is == name).unwrap();
        (count.total, count.rate)
    }

    #[test]
    fn rates_are_per_second_and_totals_survive_restarts_and_gaps() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let scrape = |text| Samples::parse(text);
        let mut proxy = proxy();
        proxy.take(at(0), scrape("a 10\nb 1\n"));
        assert_eq!(read(&proxy, "a"), (10.0, 0.0), "the past has no rate");
        proxy.take(at(2), scrape("a 14\nb 1\nc 4\n"));
        assert_eq!(read(&proxy, "a"), (14.0, 2.0));
        assert_eq!(read(&proxy, "c"), (4.0, 2.0), "a new series begins at 0");
        // A restart: `a` fell, `b` has overtaken its old value, `c` is not there yet.
        proxy.take(at(4), scrape("a 2\nb 6\n"));
        assert_eq!(read(&proxy, "a"), (16.0, 1.0));
        assert_eq!(read(&proxy, "b"), (7.0, 3.0));
        assert_eq!(read(&proxy, "c"), (4.0, 0.0));
        assert_eq!(proxy.restarts, 1);
        proxy.take(at(6), Err(anyhow::anyhow!("gone")));
        assert_eq!(read(&proxy, "a"), (16.0, 0.0));
        assert_eq!(proxy.error.as_deref(), Some("gone"));
        // The rate is over the whole time since it last answered.
        proxy.take(at(8), scrape("a 10\nb 6\nc 1\n"));
        assert_eq!(read(&proxy, "a"), (24.0, 2.0));
        assert_eq!(read(&proxy, "c"), (5.0, 0.25));
        assert_eq!((proxy.restarts, &proxy.error), (1, &None));
        proxy.reset();
        proxy.take(at(10), scrape("a 12\nb 6\nc 1\n"));
        assert_eq!(read(&proxy, "a"), (2.0, 1.0));
        assert_eq!(read(&proxy, "b"), (0.0, 0.0));
    }

    #[test]
    fn recent_durations_are_forgotten_after_a_minute() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut proxy = proxy();
        let mut take = |seconds, value: u64| {
            let text = format!("{}_bucket{{le=\"1\"}} {value}\n", DURATION.name);
            proxy.take(at(seconds), Samples::parse(&text));
            proxy.recent().map(|(_, gain)| gain).sum::<f64>()
        };
        assert_eq!(take(0, 100), 0.0, "the past is not recent");
        assert_eq!(take(30, 103), 3.0);
        assert_eq!(take(60, 107), 7.0);
        assert_eq!(take(91, 107), 4.0);
        assert_eq!(take(130, 107), 0.0);
    }
    #[test]
    fn series_whose_names_change_all_the_time_are_forgotten() {
        let start = Instant::now();
        let mut proxy = proxy();
        for scrape in 0..3 {
            let lines: String = (0..MOST_SERIES / 2 + 1)
                .map(|index| {
                    format!(
                        "{}_bucket{{le=\"{scrape}\",i=\"{index}\"}} 1\n",
                        DURATION.name
                    )
                })
                .collect();
            proxy.take(start + Duration::from_secs(scrape), Samples::parse(&lines));
            assert!(proxy.counts.len() <= MOST_SERIES + MOST_SERIES / 2);
            assert!(proxy.recent().count() <= MOST_SERIES);
        }
    }
}
