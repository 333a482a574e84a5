//! Every metric and label of the filters, defined once.
//!
//! Stat names, Envoy's `stats_tags`, Istio's `extraStatTags` and the documentation are generated
//! from this table. Nothing here counts.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

/// How a metric's value behaves, in Prometheus's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Is set.
    Gauge,
    /// Counts observations by their size.
    Histogram {
        /// The upper bounds of its buckets, rising, in the unit of the metric's name.
        buckets: &'static [u32],
    },
}

impl Kind {
    /// The word of Prometheus's `# TYPE` lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram { .. } => "histogram",
        }
    }
}

/// A metric of the filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name in Prometheus.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its labels, in the order of [`Metric::stat_name`].
    pub labels: &'static [&'static str],
}

/// Every request that a filter decided on.
pub const REQUESTS: Metric = Metric {
    name: "meridian_requests_total",
    kind: Kind::Counter,
    labels: &[
        "reporter",
        "direction",
        "component_type",
        "decision",
        "rule",
    ],
};

/// Every connection that a filter decided on without reading it: TLS passthrough and plain TCP.
pub const CONNECTIONS: Metric = Metric {
    name: "meridian_connections_total",
    kind: Kind::Counter,
    labels: &["reporter", "direction", "decision", "rule"],
};

/// Every request, or connection, for which a dry run had something to say.
pub const DRY_RUN: Metric = Metric {
    name: "meridian_dry_run_total",
    kind: Kind::Counter,
    labels: &["reporter", "direction", "decision", "rule"],
};

/// Every request at the egress gateway, by who sent it. A metric of its own, because a label of
/// [`REQUESTS`] would multiply its series by the namespaces.
pub const CALLERS: Metric = Metric {
    name: "meridian_caller_requests_total",
    kind: Kind::Counter,
    labels: &["reporter", "direction", "decision", "source_namespace"],
};

/// Every request that has ended, if `metrics.responses` asks for it.
pub const RESPONSES: Metric = Metric {
    name: "meridian_responses_total",
    kind: Kind::Counter,
    labels: &["reporter", "direction", "response_code_class"],
};

/// How long requests took, if `metrics.durations` asks for it.
pub const DURATION: Metric = Metric {
    name: "meridian_request_duration_milliseconds",
    kind: Kind::Histogram {
        buckets: &[
            1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000,
        ],
    },
    labels: &["reporter", "direction"],
};

/// Which policy is in force.
pub const POLICY_REVISION: Metric = Metric {
    name: "meridian_policy_revision",
    kind: Kind::Gauge,
    labels: &["reporter"],
};

/// How large the policy in force is.
pub const POLICY_RULES: Metric = Metric {
    name: "meridian_policy_rules",
    kind: Kind::Gauge,
    labels: &["reporter"],
};

/// A plugin that decides nothing, because the proxy is not of the kind that its module is for; one that
/// decides does not have it.
pub const PLUGIN_ABSTAINS: Metric = Metric {
    name: "meridian_plugin_abstains",
    kind: Kind::Gauge,
    labels: &["reporter"],
};

/// All metrics, in the order of the documentation.
pub const METRICS: &[Metric] = &[
    REQUESTS,
    CONNECTIONS,
    DRY_RUN,
    CALLERS,
    RESPONSES,
    DURATION,
    POLICY_REVISION,
    POLICY_RULES,
    PLUGIN_ABSTAINS,
];

/// Every label of every metric, once.
pub const LABELS: &[&str] = &[
    "reporter",
    "direction",
    "component_type",
    "decision",
    "rule",
    "source_namespace",
    "response_code_class",
];

/// The values of the label `response_code_class`, by the first digit of the code; `none` for a request
/// that ended without a response, as when its client went away.
pub const RESPONSE_CODE_CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// The value of `source_namespace` for a caller without an identity of the mesh.
pub const UNKNOWN_NAMESPACE: &str = "unknown";
/// The value of `source_namespace` for the namespaces that the policy does not name.
pub const OTHER_NAMESPACE: &str = "other";

impl Metric {
    /// What it counts, in one sentence. Not a field, so that no module carries the sentences.
    pub fn help(&self) -> &'static str {
        match self.name {
            name if name == REQUESTS.name => "Requests by decision and rule.",
            name if name == CONNECTIONS.name => {
                "Connections of TLS passthrough and plain TCP by decision and rule."
            }
            name if name == DRY_RUN.name => {
                "Requests and connections by what a rule or section in dry run would have decided."
            }
            name if name == CALLERS.name => {
                "Requests at the egress gateway by the caller's namespace, where the policy names it."
            }
            name if name == RESPONSES.name => {
                "Requests that have ended, by the class of their response code."
            }
            name if name == DURATION.name => {
                "How long requests took, from their first byte to the last one of the response."
            }
            name if name == POLICY_REVISION.name => {
                "The first 48 bits of the SHA-256 of the policy in force."
            }
            name if name == POLICY_RULES.name => {
                "The rules of the policy in force, for this reporter."
            }
            name if name == PLUGIN_ABSTAINS.name => {
                "1 where a plugin decides nothing, because the proxy is not of the kind that its module is for."
            }
            _ => "",
        }
    }

    /// The name of the stat in Envoy that carries these label values, one for each of
    /// [`Metric::labels`]: tags first, then the name, as Istio's own filters have it, so that one
    /// regular expression a label serves plain Envoy and `extraStatTags` alike.
    ///
    /// ```
    /// let name = meridian_metrics::DRY_RUN.stat_name(&["ingress", "north-south", "deny", "shop"]);
    /// assert_eq!(name, "reporter=.=ingress;.;direction=.=north-south;.;decision=.=deny;.;rule=.=shop;.;meridian_dry_run_total");
    /// ```
    pub fn stat_name(&self, values: &[&str]) -> String {
        let mut name = String::new();
        for (label, value) in self.labels.iter().zip(values) {
            for part in [label, "=.=", value, ";.;"] {
                name.push_str(part);
            }
        }
        name.push_str(self.name);
        name
    }
}

/// The regular expression with which Envoy takes a label out of a stat's name: the first group is
/// what is cut out, the second the value.
///
/// ```
/// assert_eq!(meridian_metrics::tag_regex("rule"), r"(rule=\.=(.*?);\.;)");
/// ```
pub fn tag_regex(label: &str) -> String {
    format!(r"({label}=\.=(.*?);\.;)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_prometheus() {
        for metric in METRICS {
            let counts = metric.name.ends_with("_total");
            assert_eq!(counts, metric.kind == Kind::Counter, "{}", metric.name);
            if let Kind::Histogram { buckets } = metric.kind {
                assert!(buckets.is_sorted_by(|low, high| low < high));
            }
        }
    }

    // Envoy searches the whole name for a label's expression: the end of another label's name would
    // be taken for it.
    #[test]
    fn no_label_ends_like_another() {
        for label in LABELS {
            for other in LABELS.iter().filter(|other| *other != label) {
                assert!(!other.ends_with(label), "{other} ends in {label}");
            }
        }
    }

    #[test]
    fn every_label_is_listed_once() {
        let mut used: Vec<&str> = METRICS
            .iter()
            .flat_map(|metric| metric.labels)
            .copied()
            .collect();
        used.sort_unstable();
        used.dedup();
        let mut listed = LABELS.to_vec();
        listed.sort_unstable();
        assert_eq!(listed, used);
    }
}
