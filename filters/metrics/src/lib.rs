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
    /// What it counts, in one sentence.
    pub help: &'static str,
}

/// Every request that a filter decided over.
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
    help: "Requests by what was decided over them.",
};

/// Every connection that a filter decided over without reading it: TLS passthrough and plain TCP.
pub const CONNECTIONS: Metric = Metric {
    name: "meridian_connections_total",
    kind: Kind::Counter,
    labels: &["reporter", "direction", "decision", "rule"],
    help: "Connections of TLS passthrough and plain TCP by what was decided over them.",
};

/// Every request, or connection, for which a dry run had something to say.
pub const DRY_RUN: Metric = Metric {
    name: "meridian_dry_run_total",
    kind: Kind::Counter,
    labels: &["reporter", "direction", "decision", "rule"],
    help: "Requests and connections by what a rule or section in dry run would have decided.",
};

/// All metrics, in the order of the documentation.
pub const METRICS: &[Metric] = &[REQUESTS, CONNECTIONS, DRY_RUN];

/// Every label of every metric, once.
pub const LABELS: &[&str] = &[
    "reporter",
    "direction",
    "component_type",
    "decision",
    "rule",
];

impl Metric {
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
