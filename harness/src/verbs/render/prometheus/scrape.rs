//! Where the metrics are scraped, and which of them are kept.

use meridian_metrics::{METRICS, POLICY_REVISION};
use serde_json::{Value, json};

use super::promql::{EXTENSION, EXTENSIONS_REFUSED, UNLABELLED, duration};
use super::windows::Windows;

/// The rules beside the configuration.
const RULES: &str = "rules.yaml";
/// The proxies beside the configuration.
const TARGETS: &str = "targets.yaml";
/// Where Envoy's admin, and Istio's agent, have the metrics.
pub(super) const PATH: &str = "/stats/prometheus";

/// The port that Istio's injector gives every proxy.
pub(super) const PROXY_PORT: &str = ".*-envoy-prom";

pub(super) fn listed_targets(windows: &Windows) -> Value {
    config(
        windows,
        json!({
            "job_name": "meridian",
            "metrics_path": PATH,
            "file_sd_configs": [{"files": [TARGETS]}],
        }),
    )
}

/// The configuration for these targets, as `static_configs` has them.
pub(crate) fn scraped(windows: &Windows, targets: &[Value]) -> Value {
    config(
        windows,
        json!({
            "job_name": "meridian",
            "metrics_path": PATH,
            "static_configs": targets,
        }),
    )
}

pub(super) fn pods(windows: &Windows) -> Value {
    let label = |pods: &str, label: &str| json!({"source_labels": [format!("__meta_kubernetes_{pods}")], "target_label": label});
    config(
        windows,
        json!({
            "job_name": "meridian",
            "metrics_path": PATH,
            "kubernetes_sd_configs": [{"role": "pod"}],
            "relabel_configs": [
                {
                    "source_labels": ["__meta_kubernetes_pod_container_port_name"],
                    "action": "keep",
                    "regex": PROXY_PORT,
                },
                label("namespace", "namespace"),
                label("pod_name", "pod"),
            ],
        }),
    )
}

/// The file of targets for these addresses of admins.
pub(super) fn targets<const N: usize>(addresses: [&str; N]) -> Value {
    json!([{"targets": addresses.as_slice()}])
}

fn config(windows: &Windows, mut job: Value) -> Value {
    let interval = duration(windows.scrape);
    job["metric_relabel_configs"] = metric_relabelings("source_labels", "target_label");
    json!({
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": [RULES],
        "scrape_configs": [job],
    })
}

/// Which metrics are kept, and one that is renamed; Prometheus and its operator spell the fields
/// differently.
pub(super) fn metric_relabelings(source_labels: &str, target_label: &str) -> Value {
    let unlabelled = format!("(.+_{})", POLICY_REVISION.name);
    json!([
        // Envoy's name holds the kind and the name of the extension.
        {
            source_labels: ["__name__"],
            "regex": "envoy_extension_config_discovery_(.+)_config_fail",
            target_label: EXTENSION,
        },
        {
            source_labels: ["__name__"],
            "regex": "envoy_extension_config_discovery_(.+)_config_fail",
            target_label: "__name__",
            "replacement": EXTENSIONS_REFUSED,
        },
        // Where Envoy has no tags for the labels, they stand in front of the name.
        {
            source_labels: ["__name__"],
            "regex": unlabelled,
            target_label: "stat",
        },
        {
            source_labels: ["__name__"],
            "regex": unlabelled,
            target_label: "__name__",
            "replacement": UNLABELLED,
        },
        {
            source_labels: ["__name__"],
            "action": "keep",
            "regex": kept(),
        },
    ])
}

/// The metrics that are kept: the filters' own, and what Envoy says of its wasm runtime, of updates
/// and of itself.
fn kept() -> String {
    let ours: Vec<String> = METRICS
        .iter()
        .map(|metric| format!("{}(_bucket|_sum|_count)?", metric.name))
        .collect();
    format!(
        "{}|{UNLABELLED}|{EXTENSIONS_REFUSED}|envoy_(wasm|listener_manager|server)_.+",
        ours.join("|")
    )
}

pub(super) const STATIC_HEADER: &str = "\
# Scrapes the Envoys whose admins are listed in targets.yaml, which Prometheus reads again when it
# changes. For a Prometheus that runs already take the job and rules.yaml. Only the metrics that rules and
# dashboard use are kept; drop the last entry of metric_relabel_configs to keep all.
#
# Rendered by `meridian render prometheus`.
";
pub(super) const KUBERNETES_HEADER: &str = "\
# Scrapes the proxies of all pods of an Istio mesh, for a Prometheus that runs in the cluster and may
# list pods. Only the metrics that rules and dashboard use are kept; drop the last entry of
# metric_relabel_configs to keep all. Istio's proxies tell of refused policies with the annotation
# `proxy.istio.io/config: {proxyStatsMatcher: {inclusionPrefixes: [extension_config_discovery]}}`.
#
# Rendered by `meridian render prometheus`.
";
pub(super) const TARGETS_HEADER: &str = "\
# The admins of the Envoys, for prometheus.yml: put yours here.
";
