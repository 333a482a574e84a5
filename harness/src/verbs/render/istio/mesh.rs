//! What is no object of its own: mesh configuration, pod annotations and patches of gateways'
//! Deployments, for Helm values and templates.

use std::path::Path;

use meridian_metrics::{Kind, LABELS, METRICS};
use meridian_policy::Tags;
use serde_json::{Map, Value, json};

use super::gateways::Attached;
use super::options::ROOT_NAMESPACE;
use super::plan::Plan;
use crate::lab::config::access_log::{Logged, SPAN_TAG};

/// The volume with the modules, and the ConfigMap in it.
const VOLUME: &str = "meridian-modules";

/// The labels of the metrics, and the access log of every proxy.
pub(super) fn mesh_config(tags: &Tags) -> Value {
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

/// What the pod template of a workload needs beside the mesh configuration: the buckets of the
/// histograms, for which Istio has an annotation alone, and what mounts and selects.
pub(super) fn pod_template(plan: &Plan<'_>) -> Value {
    let mut annotations = annotations();
    if let Some(folder) = plan.modules.mounted() {
        let volumes = json!([volume()]);
        let mounts = json!([mount(folder)]);
        annotations["sidecar.istio.io/userVolume"] = json!(volumes.to_string());
        annotations["sidecar.istio.io/userVolumeMount"] = json!(mounts.to_string());
    }
    json!({"spec": {"template": {"metadata": metadata(plan, &annotations)}}})
}

/// A patch of a gateway's Deployment with the same; a gateway's template of the injector knows no
/// annotations for volumes.
pub(super) fn deployment_patch(plan: &Plan<'_>) -> Value {
    let mut template = json!({"metadata": metadata(plan, &annotations())});
    if let Some(folder) = plan.modules.mounted() {
        template["spec"] = json!({
            "containers": [{"name": "istio-proxy", "volumeMounts": [mount(folder)]}],
            "volumes": [volume()],
        });
    }
    json!({"spec": {"template": template}})
}

/// The header of [`deployment_patch`].
pub(super) fn deployment_header(gateway: &Attached<'_>) -> String {
    format!(
        "Patches the Deployment of the gateway {}: `kubectl -n {} patch deployment NAME --patch-file` \
         this. Its pods are rolled.",
        gateway.name, gateway.namespace
    )
}

/// The direction on the spans of every proxy.
pub(super) fn telemetry(tags: &Tags) -> Value {
    json!({
        "apiVersion": "telemetry.istio.io/v1",
        "kind": "Telemetry",
        "metadata": {"name": "meridian", "namespace": ROOT_NAMESPACE},
        "spec": {"tracing": [{"customTags": {
            SPAN_TAG: {"header": {"name": tags.direction_header, "defaultValue": "unknown"}},
        }}]},
    })
}

fn metadata(plan: &Plan<'_>, annotations: &Value) -> Value {
    let mut metadata = json!({"annotations": annotations});
    if let Some((key, value)) = &plan.args.select_label {
        metadata["labels"] = json!({key: value});
    }
    metadata
}

/// The labels of the metrics once more, for a workload whose mesh configuration is not yours, and the
/// buckets. Istio wants the beginning of a stat's name, and ours begin with a label.
fn annotations() -> Value {
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
    json!({
        "sidecar.istio.io/extraStatTags": LABELS.join(","),
        "sidecar.istio.io/statsHistogramBuckets": Value::Object(buckets).to_string(),
    })
}

fn volume() -> Value {
    json!({"name": VOLUME, "configMap": {"name": VOLUME}})
}

fn mount(folder: &Path) -> Value {
    json!({"name": VOLUME, "mountPath": folder, "readOnly": true})
}
