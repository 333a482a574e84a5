//! What all proxies together counted, at one moment.

use std::collections::{BTreeMap, BTreeSet};

use meridian_metrics::{CONNECTIONS, DRY_RUN, REQUESTS};
use serde::Serialize;

use super::counts::{Count, Proxy};
use crate::lab::prometheus::Histogram;
use crate::policy::revision_text;
use meridian_metrics::{CALLERS, DURATION, POLICY_REVISION, POLICY_RULES, RESPONSES};

/// The object of `--json`. Counts are since the proxies started, or since the view was reset;
/// rates are per second.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Snapshot {
    /// Requests by flow and reporter.
    pub traffic: Vec<FlowCounts>,
    /// What was refused, requests and connections.
    pub refusals: Vec<Counted>,
    /// What a dry run would have refused.
    pub dry_run: Vec<Counted>,
    /// Responses by the class of their code.
    pub responses: Vec<Responses>,
    /// Connections of TLS passthrough and plain TCP.
    pub connections: Vec<Counted>,
    /// Who asks at egress.
    pub callers: Vec<Counted>,
    /// Every proxy, in the order of the addresses.
    pub proxies: Vec<ProxyState>,
    /// How many different policies the proxies run; 0 if none says.
    pub policies: usize,
    /// Series that are left out of the sections, because nothing was counted in them since their proxy's
    /// policy was seen to change.
    pub settled: usize,
}

/// Requests of one flow, as one kind of reporter saw them. A request passes several reporters, so
/// rows must not be added up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FlowCounts {
    /// `north-south in`, `north-south out`, `east-west` or `unknown`.
    pub flow: &'static str,
    /// The vantage.
    pub reporter: String,
    /// All requests.
    pub requests: f64,
    /// All requests a second.
    pub rate: f64,
    /// Those that were refused.
    pub denied: f64,
    /// Those that were refused a second.
    pub denied_rate: f64,
    /// Those of system components.
    pub system: f64,
    /// Those of applications.
    pub application: f64,
    /// How long they took.
    pub latency: Latency,
}

/// Percentiles in milliseconds, estimated as Prometheus's `histogram_quantile` does; null where
/// the proxies measure no durations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Latency {
    /// The median.
    pub p50: Option<f64>,
    /// The 95th percentile.
    pub p95: Option<f64>,
    /// The 99th percentile.
    pub p99: Option<f64>,
    /// True if they are of the last minute, false if nothing was measured in it and they are of
    /// everything counted.
    pub recent: bool,
}

/// A count by the labels that its section has; the others are empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Counted {
    /// `requests` or `connections`, where a section has both.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub of: &'static str,
    /// The vantage.
    pub reporter: String,
    /// The direction.
    pub direction: String,
    /// What was decided.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub decision: String,
    /// The rule.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rule: String,
    /// The caller's namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source_namespace: String,
    /// How many.
    pub count: f64,
    /// How many a second.
    pub rate: f64,
}

/// Responses of one reporter and direction.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Responses {
    /// The vantage.
    pub reporter: String,
    /// The direction.
    pub direction: String,
    /// By class, such as `2xx`.
    pub classes: BTreeMap<String, f64>,
    /// All of them a second.
    pub rate: f64,
}

/// One proxy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProxyState {
    /// Where it is scraped.
    pub address: String,
    /// Why it did not answer, or why its answer is not that of a proxy with a filter; null if it is.
    pub error: Option<String>,
    /// The same in two words: `NO ANSWER`, `BAD ANSWER`, `NO PROXY`, `NO FILTER` or `NO LABELS`; empty if
    /// all is well.
    pub problem: &'static str,
    /// The vantages that it reports.
    pub reporters: Vec<String>,
    /// The first 48 bits of its policies' SHA-256, in hexadecimal: one, unless an update is
    /// under way.
    pub revisions: Vec<String>,
    /// True if it runs another policy than most proxies do.
    pub differs: bool,
    /// How many rules its policy has, by reporter.
    pub rules: BTreeMap<String, f64>,
    /// Requests that it decided on, a second.
    pub rate: f64,
    /// How often it was seen to restart.
    pub restarts: u64,
}

impl Snapshot {
    /// Adds the proxies up.
    ///
    /// With `settled`, also what was counted before a policy changed, and nothing since.
    pub(super) fn of(proxies: &[Proxy], settled: bool) -> Self {
        let all = Series { proxies, settled };
        let mut refusals = all.counted(REQUESTS.name, Some("deny"), "requests");
        refusals.extend(all.counted(CONNECTIONS.name, Some("deny"), "connections"));
        let proxies = all.states();
        let policies: BTreeSet<&String> = proxies.iter().flat_map(|p| &p.revisions).collect();
        Self {
            traffic: all.traffic(),
            refusals,
            dry_run: all.counted(DRY_RUN.name, Some("deny"), ""),
            responses: all.responses(),
            connections: all.counted(CONNECTIONS.name, None, ""),
            callers: all.counted(CALLERS.name, None, ""),
            policies: policies.len(),
            settled: all.left_out(),
            proxies,
        }
    }
}

/// Every series of every proxy.
struct Series<'p> {
    proxies: &'p [Proxy],
    /// Whether series are shown that have not moved since their proxy's policy changed.
    settled: bool,
}

type Labels = BTreeMap<String, String>;

impl<'p> Series<'p> {
    fn of(&self, name: &'p str) -> impl Iterator<Item = (&'p Labels, Count)> {
        self.proxies
            .iter()
            .flat_map(|proxy| &proxy.counts)
            .filter(move |((is, _), count)| is == name && (count.total > 0.0 || count.rate > 0.0))
            .map(|((_, labels), count)| (labels, *count))
    }

    fn traffic(&self) -> Vec<FlowCounts> {
        let mut rows: BTreeMap<(usize, usize, String), FlowCounts> = BTreeMap::new();
        for (labels, count) in self.of(REQUESTS.name) {
            let reporter = label(labels, "reporter");
            let (rank, flow) = flow(&reporter, &label(labels, "direction"));
            let key = (rank, step(&reporter), reporter.clone());
            let row = rows.entry(key).or_insert_with(|| FlowCounts {
                flow,
                reporter,
                requests: 0.0,
                rate: 0.0,
                denied: 0.0,
                denied_rate: 0.0,
                system: 0.0,
                application: 0.0,
                latency: Latency::default(),
            });
            row.requests += count.total;
            row.rate += count.rate;
            if label(labels, "decision") == "deny" {
                row.denied += count.total;
                row.denied_rate += count.rate;
            }
            match label(labels, "component_type").as_str() {
                "system" => row.system += count.total,
                _ => row.application += count.total,
            }
        }
        let mut rows: Vec<FlowCounts> = rows.into_values().collect();
        for row in &mut rows {
            row.latency = self.latency(row.flow, &row.reporter);
        }
        rows
    }

    fn latency(&self, flow_name: &str, reporter: &str) -> Latency {
        let (mut recent, mut all) = (Histogram::default(), Histogram::default());
        let bucket = |(name, labels): &(String, Labels)| {
            let is_of = name.strip_prefix(DURATION.name) == Some("_bucket")
                && label(labels, "reporter") == reporter
                && flow(reporter, &label(labels, "direction")).1 == flow_name;
            // `+Inf` is a number to Rust, too.
            is_of.then(|| label(labels, "le").parse().ok()).flatten()
        };
        for proxy in self.proxies {
            for (key, gain) in proxy.recent() {
                if let Some(le) = bucket(key) {
                    recent.add(le, gain);
                }
            }
            for (key, count) in &proxy.counts {
                if let Some(le) = bucket(key) {
                    all.add(le, count.total);
                }
            }
        }
        let is_recent = recent.count() > 0.0;
        let histogram = if is_recent { recent } else { all };
        Latency {
            p50: histogram.quantile(0.5),
            p95: histogram.quantile(0.95),
            p99: histogram.quantile(0.99),
            recent: is_recent,
        }
    }

    fn counted(&self, name: &'p str, decision: Option<&str>, of: &'static str) -> Vec<Counted> {
        let mut rows: BTreeMap<[String; 5], Count> = BTreeMap::new();
        for (labels, count) in self.of(name) {
            if count.is_settled() && !self.settled {
                continue;
            }
            let key = [
                "reporter",
                "direction",
                "decision",
                "rule",
                "source_namespace",
            ]
            .map(|name| label(labels, name));
            if decision.is_none_or(|decision| key[2] == decision) {
                let row = rows.entry(key).or_default();
                row.total += count.total;
                row.rate += count.rate;
            }
        }
        let rows = rows.into_iter();
        rows.map(
            |([reporter, direction, was, rule, source_namespace], count)| Counted {
                of,
                reporter,
                direction,
                // Where only one is asked for, the section says so.
                decision: decision.map_or(was, |_| String::new()),
                rule,
                source_namespace,
                count: count.total,
                rate: count.rate,
            },
        )
        .collect()
    }

    /// Series that [`Self::counted`] leaves out of the sections.
    fn left_out(&self) -> usize {
        if self.settled {
            return 0;
        }
        // Of requests and dry runs only refusals have a section.
        let sections = [
            (REQUESTS.name, Some("deny")),
            (CONNECTIONS.name, None),
            (DRY_RUN.name, Some("deny")),
            (CALLERS.name, None),
        ];
        sections
            .into_iter()
            .flat_map(|(name, decision)| self.of(name).map(move |series| (decision, series)))
            .filter(|(decision, (labels, count))| {
                count.is_settled()
                    && decision.is_none_or(|decision| label(labels, "decision") == decision)
            })
            .count()
    }

    fn responses(&self) -> Vec<Responses> {
        let mut rows: BTreeMap<(String, String), Responses> = BTreeMap::new();
        for (labels, count) in self.of(RESPONSES.name) {
            let key = (label(labels, "reporter"), label(labels, "direction"));
            let row = rows.entry(key.clone()).or_insert_with(|| Responses {
                reporter: key.0,
                direction: key.1,
                ..Responses::default()
            });
            let class = label(labels, "response_code_class");
            *row.classes.entry(class).or_default() += count.total;
            row.rate += count.rate;
        }
        rows.into_values().collect()
    }

    fn states(&self) -> Vec<ProxyState> {
        let mut states: Vec<ProxyState> = self.proxies.iter().map(state).collect();
        // A proxy counts once for each policy it runs, however many vantages report it.
        let mut votes: BTreeMap<&String, usize> = BTreeMap::new();
        for revision in states.iter().flat_map(|state| &state.revisions) {
            *votes.entry(revision).or_default() += 1;
        }
        let most = votes.values().copied().max();
        let mut leaders = votes.iter().filter(|(_, votes)| Some(**votes) == most);
        // At a tie nobody can say which one is the odd one: all are marked.
        let usual = match (leaders.next(), leaders.next()) {
            (Some((revision, _)), None) => Some((*revision).clone()),
            _ => None,
        };
        for state in &mut states {
            state.differs = state
                .revisions
                .iter()
                .any(|revision| Some(revision) != usual.as_ref());
        }
        states
    }
}

fn state(proxy: &Proxy) -> ProxyState {
    let mut reporters = BTreeSet::new();
    let mut revisions = BTreeSet::new();
    let mut rules = BTreeMap::new();
    for ((name, labels), value) in &proxy.gauges {
        let reporter = label(labels, "reporter");
        reporters.insert(reporter.clone());
        match name.as_str() {
            // 48 bits are exact in a float.
            name if name == POLICY_REVISION.name => {
                revisions.insert(revision_text(*value as u64));
            }
            name if name == POLICY_RULES.name => *rules.entry(reporter).or_default() += value,
            _ => {}
        }
    }
    let mut rate = 0.0;
    for ((name, labels), count) in &proxy.counts {
        reporters.insert(label(labels, "reporter"));
        if name == REQUESTS.name {
            rate += count.rate;
        }
    }
    reporters.remove("");
    ProxyState {
        address: proxy.target.to_string(),
        error: proxy.error.clone(),
        problem: match (&proxy.error, &proxy.wrong) {
            (None, _) => "",
            (Some(_), Some(wrong)) => wrong.title(),
            (Some(_), None) => "NO ANSWER",
        },
        reporters: reporters.into_iter().collect(),
        revisions: revisions.into_iter().collect(),
        differs: false,
        rules,
        rate,
        restarts: proxy.restarts,
    }
}

fn label(labels: &Labels, name: &str) -> String {
    labels.get(name).cloned().unwrap_or_default()
}

/// A direction as seen from the cluster, with its rank.
fn flow(reporter: &str, direction: &str) -> (usize, &'static str) {
    match (direction, reporter) {
        ("north-south", "ingress" | "inbound") => (0, "north-south in"),
        ("north-south", _) => (1, "north-south out"),
        ("east-west", _) => (2, "east-west"),
        _ => (3, "unknown"),
    }
}

/// Where on a request's way a reporter stands.
fn step(reporter: &str) -> usize {
    ["ingress", "outbound", "inbound", "egress"]
        .iter()
        .position(|step| *step == reporter)
        .unwrap_or(usize::MAX)
}
