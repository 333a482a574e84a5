//! The same for the Prometheus Operator: a PodMonitor and a PrometheusRule.

use meridian_policy::Policy;
use serde_json::{Value, json};

use super::promql::duration;
use super::rules;
use super::scrape::{PATH, PROXY_PORT, metric_relabelings};
use super::windows::Windows;

/// The API of the operator's kinds.
const API: &str = "monitoring.coreos.com/v1";

/// Scrapes the proxies of all pods.
pub(in crate::verbs::render) fn pod_monitor(windows: &Windows, namespace: &str) -> Value {
    json!({
        "apiVersion": API,
        "kind": "PodMonitor",
        "metadata": metadata(namespace),
        "spec": {
            "selector": {},
            "namespaceSelector": {"any": true},
            "podMetricsEndpoints": [{
                "path": PATH,
                "interval": duration(windows.scrape),
                "relabelings": [{
                    "sourceLabels": ["__meta_kubernetes_pod_container_port_name"],
                    "action": "keep",
                    "regex": PROXY_PORT,
                }],
                "metricRelabelings": metric_relabelings("sourceLabels", "targetLabel"),
            }],
        },
    })
}

/// The rules, as `rules.yaml` has them.
pub(in crate::verbs::render) fn prometheus_rule(
    policy: &Policy,
    windows: &Windows,
    namespace: &str,
) -> Value {
    let alerts = rules::alerts(policy, windows);
    json!({
        "apiVersion": API,
        "kind": "PrometheusRule",
        "metadata": metadata(namespace),
        "spec": rules::groups(&alerts, &rules::recordings(windows), windows),
    })
}

fn metadata(namespace: &str) -> Value {
    json!({
        "name": "meridian",
        "namespace": namespace,
        "labels": {"app.kubernetes.io/name": "meridian"},
    })
}
