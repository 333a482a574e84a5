//! `meridian render prometheus`: a scrape configuration, recording and alerting rules, and the rules'
//! unit tests for `promtool test rules`.

mod operator;
mod promql;
mod promtool;
mod rules;
mod scrape;
mod windows;

use meridian_policy::Policy;
use serde_json::Value;

pub(super) use operator::{pod_monitor, prometheus_rule};
pub use promql::duration;
pub(super) use promql::{
    EXTENSIONS_REFUSED, LISTENERS_REFUSED, VMS, needed_vms, our_extensions, vm_reloads,
};
pub use rules::{Alert, alerts, recordings};
pub(super) use scrape::scraped;
pub use windows::Windows;

/// The files and their names: `prometheus.yml` for proxies that are listed in `targets.yaml`,
/// `prometheus-kubernetes.yml` for the pods of an Istio mesh, `rules.yaml` and `rules.test.yaml`.
///
/// There is no rule over metrics that the policy does not ask for.
///
/// # Errors
/// If a file cannot be put into YAML.
pub fn render(policy: &Policy, windows: &Windows) -> anyhow::Result<Vec<(String, String)>> {
    let alerts = alerts(policy, windows);
    let files: [(&str, &str, Value); 5] = [
        (
            "prometheus.yml",
            scrape::STATIC_HEADER,
            scrape::listed_targets(windows),
        ),
        (
            "prometheus-kubernetes.yml",
            scrape::KUBERNETES_HEADER,
            scrape::pods(windows),
        ),
        (
            "targets.yaml",
            scrape::TARGETS_HEADER,
            scrape::targets(["127.0.0.1:9901"]),
        ),
        (
            "rules.yaml",
            rules::HEADER,
            rules::groups(&alerts, &recordings(windows), windows),
        ),
        (
            "rules.test.yaml",
            promtool::HEADER,
            promtool::render(&alerts, windows),
        ),
    ];
    files
        .into_iter()
        .map(|(name, header, value)| {
            let text = format!("{header}{}", yaml_serde::to_string(&value)?);
            Ok((name.to_owned(), text))
        })
        .collect()
}
