//! `meridian render istio`: EnvoyFilters that attach the filters to a mesh, and the setting that
//! makes labels of their metrics' names.
//!
//! The filters come by ECDS (`applyTo: EXTENSION_CONFIG`), so that a new policy does not drain
//! listeners, as an edit of the filter chain would (istio/istio#51655).

use meridian_metrics::{Kind, LABELS, METRICS};
use meridian_policy::{Tags, Vantage};
use serde_json::{Map, Value, json};

use crate::lab::config::access_log::{Logged, SPAN_TAG};
use crate::lab::config::look_alikes::look_alike_filter;
use crate::lab::config::type_url;
use crate::lab::config::wasm::Filters;
use crate::policy::PolicyFile;

/// Istio's root namespace: an EnvoyFilter there can reach every proxy of the mesh.
const ROOT_NAMESPACE: &str = "istio-system";
/// The filter that holds the HTTP filters, by Envoy's name.
const CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";

/// The filter that passes connections on unread, by Envoy's name.
const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";

pub use super::envoy::ModulePaths;

/// The files and their names: `ingress-gateway.yaml`, `egress-gateway.yaml`, `sidecars.yaml`,
/// `mesh-config.yaml`, `telemetry.yaml` and `pod-annotations.yaml`.
///
/// # Errors
/// If a file cannot be written as YAML.
pub fn render(policy: &PolicyFile, options: &ModulePaths) -> anyhow::Result<Vec<(String, String)>> {
    let filters = Filters::indented(options.modules.clone(), policy);
    let ingress = envoy_filter(
        "ingress",
        Some("ingressgateway"),
        &[Vantage::Ingress],
        &filters,
    );
    let egress = envoy_filter(
        "egress",
        Some("egressgateway"),
        &[Vantage::Egress],
        &filters,
    );
    let sidecars = envoy_filter(
        "sidecars",
        None,
        &[Vantage::Inbound, Vantage::Outbound],
        &filters,
    );
    let mesh_config = mesh_config(filters.tags());
    [
        ("ingress-gateway.yaml", INGRESS_HEADER, ingress),
        ("egress-gateway.yaml", EGRESS_HEADER, egress),
        ("sidecars.yaml", SIDECARS_HEADER, sidecars),
        ("mesh-config.yaml", MESH_CONFIG_HEADER, mesh_config),
        (
            "telemetry.yaml",
            TELEMETRY_HEADER,
            telemetry(filters.tags()),
        ),
        (
            "pod-annotations.yaml",
            ANNOTATIONS_HEADER,
            pod_annotations(),
        ),
    ]
    .into_iter()
    .map(|(name, header, value)| {
        Ok((
            name.to_owned(),
            format!("{header}{}", yaml_serde::to_string(&value)?),
        ))
    })
    .collect()
}

/// The labels of the metrics, and the access log of every proxy.
fn mesh_config(tags: &Tags) -> Value {
    // Istio gives every container its pod's name and namespace.
    let format = Logged {
        proxy: "%ENVIRONMENT(ISTIO_META_WORKLOAD_NAME)%",
        namespace: "%ENVIRONMENT(POD_NAMESPACE)%",
        tags: Some(tags),
        vantage: None,
        listener: "%FILTER_CHAIN_NAME%",
    };
    json!({"meshConfig": {
        "accessLogFile": "/dev/stdout",
        "accessLogEncoding": "JSON",
        "accessLogFormat": format.request_format().to_string(),
        "defaultConfig": {
            "extraStatTags": LABELS,
            // Which Istio leaves out otherwise: what Envoy counts of a policy that it refused.
            "proxyStatsMatcher": {"inclusionPrefixes": ["extension_config_discovery"]},
        },
    }})
}

/// The same for one workload, and the buckets of the histograms, for which Istio has an annotation
/// alone. It wants the beginning of a stat's name, and ours begin with a tag.
fn pod_annotations() -> Value {
    let buckets: Map<String, Value> = METRICS
        .iter()
        .filter_map(|metric| match metric.kind {
            Kind::Histogram { buckets } => {
                let first = metric.labels.first()?;
                Some((format!("wasmcustom.{first}=.="), json!(buckets)))
            }
            Kind::Counter | Kind::Gauge => None,
        })
        .collect();
    json!({"spec": {"template": {"metadata": {"annotations": {
        "sidecar.istio.io/extraStatTags": LABELS.join(","),
        "sidecar.istio.io/statsHistogramBuckets": Value::Object(buckets).to_string(),
    }}}}})
}

/// The direction on the spans of every proxy.
fn telemetry(tags: &Tags) -> Value {
    json!({
        "apiVersion": "telemetry.istio.io/v1",
        "kind": "Telemetry",
        "metadata": {"name": "meridian", "namespace": ROOT_NAMESPACE},
        "spec": {"tracing": [{"customTags": {
            SPAN_TAG: {"header": {"name": tags.direction_header, "defaultValue": "unknown"}},
        }}]},
    })
}

/// An EnvoyFilter for the gateway with the label `istio: GATEWAY`, or for every sidecar.
fn envoy_filter(
    name: &str,
    gateway: Option<&str>,
    vantages: &[Vantage],
    filters: &Filters,
) -> Value {
    let mut spec = json!({});
    if let Some(gateway) = gateway {
        spec["workloadSelector"] = json!({"labels": {"istio": gateway}});
    }
    spec["configPatches"] = vantages
        .iter()
        .flat_map(|vantage| {
            let mut all = patches(*vantage, filters);
            if matches!(vantage, Vantage::Ingress | Vantage::Egress) {
                all.extend(connection_patches(*vantage, filters));
            }
            all
        })
        .collect();
    json!({
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": format!("meridian-{name}"), "namespace": ROOT_NAMESPACE},
        "spec": spec,
    })
}

fn patches(vantage: Vantage, filters: &Filters) -> Vec<Value> {
    let context = match vantage {
        Vantage::Ingress | Vantage::Egress => "GATEWAY",
        Vantage::Inbound => "SIDECAR_INBOUND",
        Vantage::Outbound => "SIDECAR_OUTBOUND",
    };
    let name = format!("meridian.{vantage}");
    let connection_managers = json!({
        "context": context,
        "listener": {"filterChain": {"filter": {"name": CONNECTION_MANAGER}}},
    });
    let mut patches = vec![
        json!({
            "applyTo": "EXTENSION_CONFIG",
            "match": {"context": context},
            "patch": {
                "operation": "ADD",
                "value": {"name": name, "typed_config": filters.http_filter(vantage)["typed_config"]},
            },
        }),
        // First, so that no other filter sees a tag that a client made up.
        json!({
            "applyTo": "HTTP_FILTER",
            "match": connection_managers,
            "patch": {
                "operation": "INSERT_FIRST",
                "value": discovered(&name, "extensions.filters.http.wasm.v3.Wasm"),
            },
        }),
    ];
    if matches!(vantage, Vantage::Ingress | Vantage::Inbound) {
        patches.push(json!({
            "applyTo": "HTTP_FILTER",
            "match": connection_managers,
            "patch": {"operation": "INSERT_FIRST", "value": look_alike_filter(filters.tags())},
        }));
    }
    patches
}

/// The network filter of a gateway, in every filter chain that passes connections on unread. An
/// update reaches new connections alone; those that are open stay.
fn connection_patches(vantage: Vantage, filters: &Filters) -> [Value; 2] {
    let name = format!("meridian.{vantage}.tcp");
    [
        json!({
            "applyTo": "EXTENSION_CONFIG",
            "match": {"context": "GATEWAY"},
            "patch": {
                "operation": "ADD",
                "value": {"name": name, "typed_config": filters.network_filter(vantage)["typed_config"]},
            },
        }),
        // Before the filter that connects to the upstream, and in no chain without it.
        json!({
            "applyTo": "NETWORK_FILTER",
            "match": {
                "context": "GATEWAY",
                "listener": {"filterChain": {"filter": {"name": TCP_PROXY}}},
            },
            "patch": {
                "operation": "INSERT_BEFORE",
                "value": discovered(&name, "extensions.filters.network.wasm.v3.Wasm"),
            },
        }),
    ]
}

/// A filter whose configuration comes by ECDS; without one it refuses.
fn discovered(name: &str, message: &str) -> Value {
    json!({
        "name": name,
        "config_discovery": {
            "config_source": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
            "type_urls": [type_url(message)],
        },
    })
}

const INGRESS_HEADER: &str = "\
# Meridian's ingress filter for the gateway with the label istio: ingressgateway: for HTTP, and before
# every tcp_proxy for TLS passthrough and plain TCP.
# The gateway's pods need the module at the path in `filename` (a volume), and the labels of
# mesh-config.yaml.
#
# Rendered by `meridian render istio` from a policy: edit the policy and render again.
";
const EGRESS_HEADER: &str = "\
# Meridian's egress filter for the gateway with the label istio: egressgateway: for HTTP, and before
# every tcp_proxy for TLS passthrough and plain TCP.
# The gateway's pods need the module at the path in `filename` (a volume), and the labels of
# mesh-config.yaml.
#
# Rendered by `meridian render istio` from a policy: edit the policy and render again.
";
const SIDECARS_HEADER: &str = "\
# Meridian's sidecar filter, inbound and outbound, for every sidecar of the mesh.
# Without a workloadSelector in the root namespace it is mesh-wide; put it into another namespace
# for that namespace alone. The pods need the module at the path in `filename`, for example by the
# annotations sidecar.istio.io/userVolume and userVolumeMount, and the labels of mesh-config.yaml.
#
# Rendered by `meridian render istio` from a policy: edit the policy and render again.
";
const MESH_CONFIG_HEADER: &str = "\
# Makes labels of the tags in Meridian's metrics, and has every proxy write its access log as one JSON
# object a line, which `meridian learn` and `meridian report` read; for proxies that start after it is
# applied. Merge it into the values of istioctl or of the istiod chart.
#
# Rendered by `meridian render istio`.
";

const TELEMETRY_HEADER: &str = "\
# Puts the direction on the spans that the proxies send, from the tag header: what is refused, or leaves
# the mesh without its tag, is unknown there.
#
# Rendered by `meridian render istio`.
";

const ANNOTATIONS_HEADER: &str = "\
# For one workload: the labels of mesh-config.yaml, and the buckets of the histograms, which Istio takes
# from an annotation alone.
#
# Rendered by `meridian render istio`.
";
