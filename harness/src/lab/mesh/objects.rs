//! Kubernetes objects that a cluster's own parts would write: pods, services and their endpoints.

use serde_json::{Value, json};

use super::roles::{Kind, NODE, Role};

/// The labels of a pod.
pub(super) fn labels(role: &Role) -> Vec<(String, String)> {
    let mut labels = vec![
        ("app".to_owned(), role.name.to_owned()),
        ("app.kubernetes.io/name".to_owned(), role.name.to_owned()),
        ("app.kubernetes.io/part-of".to_owned(), "mesh".to_owned()),
        (
            "service.istio.io/canonical-name".to_owned(),
            role.name.to_owned(),
        ),
        // The injection webhook writes it; without it peers speak plaintext to the pod.
        ("security.istio.io/tlsMode".to_owned(), "istio".to_owned()),
    ];
    if let Some(istio) = role.istio {
        labels.push(("istio".to_owned(), istio.to_owned()));
    }
    labels
}

/// The namespaces.
pub(super) fn namespace(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {"istio-injection": "enabled"}},
    })
}

/// The service account, pod, service and endpoints of a role.
pub(super) fn of(role: &Role, annotations: &Value) -> Vec<Value> {
    let Role {
        name, namespace, ..
    } = role;
    let pod = role.pod();
    let labels: Value = labels(role)
        .into_iter()
        .map(|(name, value)| (name, Value::String(value)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let containers: Vec<Value> = containers(role)
        .iter()
        .map(|name| json!({"name": name, "image": "none"}))
        .collect();
    let ports = role.ports.iter();
    let service_ports: Vec<Value> = ports
        .clone()
        .map(|port| json!({"name": port.name, "port": port.port, "targetPort": port.target}))
        .collect();
    let endpoint_ports: Vec<Value> = ports
        .map(|port| json!({"name": port.name, "port": port.target, "protocol": "TCP"}))
        .collect();
    vec![
        json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": role.account, "namespace": namespace},
        }),
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": pod, "namespace": namespace, "labels": labels, "annotations": annotations,
            },
            "spec": {
                "serviceAccountName": role.account, "nodeName": "node-1", "containers": containers,
            },
        }),
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
            "spec": {
                "clusterIP": role.service, "selector": {"app": name}, "ports": service_ports,
            },
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": namespace, "labels": {
                "kubernetes.io/service-name": name,
                "endpointslice.kubernetes.io/managed-by": "meridian",
            }},
            "addressType": "IPv4",
            "endpoints": [{
                "addresses": [role.address],
                "conditions": {"ready": true},
                "nodeName": "node-1",
                "targetRef": {"kind": "Pod", "name": pod, "namespace": namespace},
            }],
            "ports": endpoint_ports,
        }),
    ]
}

/// What a kubelet says of a pod that is ready.
pub(super) fn status(role: &Role) -> Value {
    let containers: Vec<Value> = containers(role)
        .iter()
        .map(|name| {
            json!({
                "name": name, "image": "none", "imageID": "", "restartCount": 0, "ready": true,
                "started": true, "state": {"running": {}},
            })
        })
        .collect();
    json!({"status": {
        "phase": "Running",
        "podIP": role.address,
        "podIPs": [{"ip": role.address}],
        "hostIP": NODE,
        "conditions": [
            {"type": "Ready", "status": "True"}, {"type": "ContainersReady", "status": "True"},
        ],
        "containerStatuses": containers,
    }})
}

fn containers(role: &Role) -> &'static [&'static str] {
    match role.kind {
        Kind::Gateway => &["istio-proxy"],
        Kind::Application | Kind::Nginx => &["app", "istio-proxy"],
    }
}
