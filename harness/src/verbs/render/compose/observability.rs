//! What looks at the project: Prometheus with the rules, Grafana with the dashboard.

use std::time::Duration;

use meridian_policy::Policy;
use serde_json::{Value, json};

use super::super::{grafana, prometheus};
use super::parts::yaml;
use crate::lab::compose::{METRICS_PORT, Networks, PROMETHEUS_PORT};
use crate::lab::topology::roles::WORKLOADS;

/// Often enough to see a request at once.
const SCRAPE: Duration = Duration::from_secs(5);

const HEADER: &str = "# Rendered by `meridian render compose`.\n";

/// The files of Prometheus and Grafana.
pub(super) fn render(
    policy: &Policy,
    networks: &Networks,
) -> anyhow::Result<Vec<(String, String)>> {
    let windows = prometheus::Windows {
        scrape: SCRAPE,
        ..prometheus::Windows::default()
    };
    let inside = networks.inside;
    let mut proxies = vec![
        ("ingress".to_owned(), Networks::ingress(inside)),
        ("egress".to_owned(), Networks::egress(inside)),
    ];
    proxies.extend(WORKLOADS.map(|workload| {
        let sidecar = format!("{}-sidecar", workload.name);
        (sidecar, networks.pod(&workload))
    }));
    let targets = proxies.into_iter().map(|(service, address)| {
        json!({
            "targets": [format!("{address}:{METRICS_PORT}")],
            "labels": {"service": service},
        })
    });
    let scrape = prometheus::scraped(&windows, &Vec::from_iter(targets));
    let mut files = vec![
        (
            "prometheus/prometheus.yml".to_owned(),
            yaml(HEADER, &scrape)?,
        ),
        (
            "grafana/provisioning/datasources/prometheus.yaml".to_owned(),
            yaml(HEADER, &datasource())?,
        ),
        (
            "grafana/provisioning/dashboards/meridian.yaml".to_owned(),
            yaml(HEADER, &dashboards())?,
        ),
    ];
    for (name, text) in prometheus::render(policy, &windows)? {
        if name == "rules.yaml" {
            files.push((format!("prometheus/{name}"), text));
        }
    }
    for (name, text) in grafana::render()? {
        files.push((format!("grafana/dashboards/{name}"), text));
    }
    Ok(files)
}

fn datasource() -> Value {
    json!({
        "apiVersion": 1,
        "datasources": [{
            "name": "Prometheus",
            "uid": "prometheus",
            "type": "prometheus",
            "access": "proxy",
            "url": format!("http://prometheus:{PROMETHEUS_PORT}"),
            "isDefault": true,
            "editable": false,
            "jsonData": {"timeInterval": prometheus::duration(SCRAPE)},
        }],
    })
}

fn dashboards() -> Value {
    json!({
        "apiVersion": 1,
        "providers": [{
            "name": "meridian",
            "type": "file",
            "allowUiUpdates": false,
            "disableDeletion": true,
            "options": {"path": "/var/lib/meridian/dashboards"},
        }],
    })
}
