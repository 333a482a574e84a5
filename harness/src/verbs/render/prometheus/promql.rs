//! Pieces of PromQL.

use std::time::Duration;

use meridian_metrics::{CONNECTIONS, Metric, REQUESTS};

use crate::lab::config::wasm::FILTER_NAME;

/// A duration as Prometheus writes it, in the largest unit that holds it without a rest: `5m`, `500ms`.
///
/// ```
/// use std::time::Duration;
/// assert_eq!(meridian::verbs::render::prometheus::duration(Duration::from_secs(90)), "90s");
/// ```
pub fn duration(duration: Duration) -> String {
    const UNITS: [(u128, &str); 4] = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1000, "s"),
    ];
    let milliseconds = duration.as_millis();
    UNITS
        .into_iter()
        .find(|(length, _)| milliseconds > 0 && milliseconds.is_multiple_of(*length))
        .map_or_else(
            || format!("{milliseconds}ms"),
            |(length, unit)| format!("{}{unit}", milliseconds / length),
        )
}

/// A metric's name without the suffix of counters, for the names of recorded series.
pub(super) fn base(metric: &Metric) -> &'static str {
    metric.name.strip_suffix("_total").unwrap_or(metric.name)
}

/// The name under which Prometheus gets Envoy's count of an event in the life of the filters' VMs:
/// `success`, `backoff` or `failure` of a reload.
pub(crate) fn vm_reloads(event: &str) -> String {
    format!("envoy_wasm_{FILTER_NAME}_vm_reload_{event}")
}

/// Listeners that Envoy refused, and with them the configurations of the filters in them.
pub(crate) const LISTENERS_REFUSED: &str = "envoy_listener_manager_lds_update_rejected";
/// Filter configurations that came by discovery and were refused, by the label [`EXTENSION`], which
/// the scrape configuration takes out of Envoy's name for it.
pub(crate) const EXTENSIONS_REFUSED: &str = "envoy_extension_config_discovery_config_fail";
/// The kind and the name of what is discovered.
pub(crate) const EXTENSION: &str = "extension";

/// What the policy's revision is called at a proxy that has no tags for the labels: the scrape
/// configuration renames it, and puts the name with the labels in it into the label `stat`.
pub(crate) const UNLABELLED: &str = "meridian_unlabelled";

/// The jobs that scrape our proxies; the Prometheus Operator puts a namespace in front.
pub(super) const JOBS: &str = "job=~\"(.*/)?meridian\"";

/// Running VMs of wasm modules, other people's too.
pub(crate) const VMS: &str = "envoy_wasm_envoy_wasm_runtime_v8_active";
/// The workers of a proxy.
pub(super) const WORKERS: &str = "envoy_server_concurrency";

/// The filters of each proxy that have a VM of their own, at least. A filter's series are there as long as
/// any of its VMs; those of HTTP and of connections at one gateway differ in the metric alone. A sidecar's
/// count as one, because a plugin without a root id serves inbound and outbound from one VM.
pub(super) fn filters() -> String {
    let (requests, connections) = (REQUESTS.name, CONNECTIONS.name);
    let counted = |at: &str| {
        format!("{{__name__=~\"{requests}|{connections}\",reporter{at}\"inbound|outbound\"}}")
    };
    let (gateways, sidecar) = (counted("!~"), counted("=~"));
    format!(
        "count by (job, instance) (count by (job, instance, reporter, __name__) ({gateways}) \
         or count by (job, instance) ({sidecar}))"
    )
}

/// The VMs that Envoy starts for a filter: one on every worker, one on the main thread, and the one that
/// those are cloned from.
pub(super) fn vms_of_a_filter() -> String {
    format!("(max by (job, instance) ({WORKERS}) + 2)")
}

/// The VMs that each proxy needs for our filters.
pub(crate) fn needed_vms() -> String {
    format!("{} * {}", vms_of_a_filter(), filters())
}

/// Matches the filters among what is discovered.
pub(crate) fn our_extensions() -> String {
    format!("{EXTENSION}=~\".*{FILTER_NAME}.*\"")
}
