//! How Envoy finds the labels in the names of the filters' metrics.

use meridian_metrics::{Kind, LABELS, METRICS, tag_regex};
use serde_json::{Value, json};

/// Envoy's `stats_config`: a tag for every label of the metrics, beside Envoy's default tags.
///
/// The filters put labels before the name, `direction=.=north-south;.;...;.;NAME`, and Envoy cuts
/// out what the first group of the regex matched: the form that Istio's `extraStatTags` renders
/// too, so the modules are the same under both.
pub fn stats_config() -> Value {
    let tags: Vec<Value> = LABELS
        .iter()
        .map(|label| {
            json!({
                "tag_name": label,
                "regex": tag_regex(label),
            })
        })
        .collect();
    let buckets: Vec<Value> = METRICS
        .iter()
        .filter_map(|metric| match metric.kind {
            // Envoy looks for them by the whole name, tags and all.
            Kind::Histogram { buckets } => Some(json!({
                "match": {"suffix": metric.name},
                "buckets": buckets,
            })),
            Kind::Counter | Kind::Gauge => None,
        })
        .collect();
    json!({"stats_tags": tags, "histogram_bucket_settings": buckets})
}
