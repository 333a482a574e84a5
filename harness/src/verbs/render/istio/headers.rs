//! The comments above the rendered files.

use meridian_policy::Vantage;

use super::gateways::Attached;
use super::options::{Form, ROOT_NAMESPACE};
use super::plan::Plan;

pub(super) const LOOK_ALIKES: &str = "\
    Removes headers that only look like a tag, such as x_traffic_direction, because many frameworks read \
    them as one. Every other header stays.";
pub(super) const POD_MONITOR: &str = "\
    Scrapes the proxies of all pods, for the Prometheus Operator. Only the metrics that rules and dashboard \
    use are kept. Your Prometheus selects monitors by labels: add the one that it wants.";
pub(super) const PROMETHEUS_RULE: &str = "\
    Recording and alerting rules for the Prometheus Operator. Each alert says what to do in its annotation \
    `runbook`. Your Prometheus selects rules by labels: add the one that it wants.";
pub(super) const TELEMETRY: &str = "\
    Puts the direction on the spans that the proxies send, from the tag header: what is refused, or leaves \
    the mesh without its tag, is unknown there. Istio takes one Telemetry without selector from the root \
    namespace: if yours has one, merge this into it.";
pub(super) const MESH_CONFIG: &str = "\
    Values of istioctl or of the chart istiod, to merge into yours: makes labels of the tags in Meridian's \
    metrics, and has every proxy write its access log as one JSON object a line, which `meridian learn` and \
    `meridian report` read. For proxies that start after it is applied.";
pub(super) const POD_TEMPLATE: &str = "\
    A patch of the pod template of a workload with a sidecar.";

/// Of a gateway's HTTP filter.
pub(super) fn http(gateway: &Attached<'_>) -> String {
    format!(
        "The {} filter for HTTP at the gateway {}, {}.{}",
        gateway.vantage,
        gateway.name,
        gateway.principal,
        assumption(gateway)
    )
}

/// Of a gateway's network filter.
pub(super) fn connections(plan: &Plan<'_>, gateway: &Attached<'_>) -> String {
    let servers = match plan.args.auto_passthrough {
        true => "AUTO_PASSTHROUGH servers included",
        false => "but for AUTO_PASSTHROUGH servers, such as 15443 between clusters",
    };
    format!(
        "The {} filter for what passes unread (TLS passthrough, plain TCP) at the gateway {}, {servers}. \
         A gateway without such servers does not load it.{}",
        gateway.vantage,
        gateway.name,
        assumption(gateway)
    )
}

/// Of a filter of sidecars.
pub(super) fn sidecar(plan: &Plan<'_>, vantage: Vantage, namespace: &str) -> String {
    let reach = match namespace {
        ROOT_NAMESPACE => "of the whole mesh".to_owned(),
        namespace => format!("of the namespace {namespace}"),
    };
    let plugin = match plan.args.form {
        Form::EnvoyFilter => "",
        // No context keeps plugins from gateways.
        Form::TrafficExtension | Form::WasmPlugin => {
            " Not for the root namespace, where it would reach gateways, too."
        }
    };
    format!("The {vantage} filter of the sidecars {reach}.{plugin}")
}

/// What was assumed of a gateway, and what to write instead.
fn assumption(gateway: &Attached<'_>) -> String {
    if gateway.assumed.is_empty() {
        return String::new();
    }
    format!(
        " The {} of its pods {} assumed from its principal, as Istio's charts name them: write {} at the \
         gateway in the policy if yours differ. A selector that matches no pod attaches nothing.",
        gateway.assumed.join(" and the "),
        if gateway.assumed == ["namespace"] {
            "is"
        } else {
            "are"
        },
        gateway
            .assumed
            .iter()
            .map(|field| format!("`{field}`"))
            .collect::<Vec<_>>()
            .join(" and "),
    )
}
