use std::net::IpAddr;

use meridian_policy::Vantage;
use serde_json::{Value, json};

use super::Address;
use super::access_log::{AccessLog, Logged};
use super::identity::MeshIdentity;
use super::look_alikes::look_alike_filter;
use super::metrics;
use super::stats::stats_config;
use super::wasm::Filters;
use crate::lab::envoy::Version;

/// What every Envoy of the mesh has, whatever its role.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// The Envoy that runs it. What an old one cannot do is left out.
    pub envoy: Version,
    /// The name of the workload that it serves, or of the gateway.
    pub name: String,
    /// The workload's namespace; the sidecar's filter reads it from the node's metadata.
    pub namespace: String,
    /// Its identity in the mesh.
    pub identity: MeshIdentity,
    /// The policy filters, or `None` to run Envoy alone.
    pub filters: Option<Filters>,
    /// Where its access log goes.
    pub access_log: AccessLog,
    /// Where its admin listens, or `None` if whoever runs it chooses that.
    pub admin: Option<Address>,
    /// Where it serves its metrics and nothing else of its admin, for a scraper on another host; `None`
    /// for the admin alone.
    pub metrics: Option<Address>,
    /// Its own addresses, by which the network filter knows whether a connection was opened to it
    /// or through it; empty where they are not known beforehand.
    pub addresses: Vec<IpAddr>,
    /// The local address of its connections to upstreams, or `None` for the kernel's choice.
    pub bind: Option<IpAddr>,
}

impl Proxy {
    /// Whose access log a listener writes.
    pub(super) fn logged<'l>(&'l self, vantage: Vantage, listener: &'l str) -> Logged<'l> {
        Logged {
            proxy: &self.name,
            namespace: &self.namespace,
            tags: self.filters.as_ref().map(Filters::tags),
            vantage: Some(vantage),
            listener,
        }
    }

    /// The filters for `vantage`, or none. Before a workload look-alikes of the tags are removed, too:
    /// it might read one as the tag.
    pub(super) fn http_filters(&self, vantage: Vantage) -> Vec<Value> {
        let Some(filters) = &self.filters else {
            return Vec::new();
        };
        let mut all = vec![filters.http_filter(vantage)];
        if matches!(vantage, Vantage::Ingress | Vantage::Inbound) {
            all.push(look_alike_filter(filters.tags()));
        }
        all
    }

    /// The network filter for `vantage`, or nothing.
    pub(super) fn network_filters(&self, vantage: Vantage) -> Vec<Value> {
        self.filters
            .iter()
            .map(|filters| filters.network_filter(vantage))
            .collect()
    }
}

/// The bootstrap of `proxy` with these listeners and clusters.
pub fn bootstrap(proxy: &Proxy, listeners: &[Value], clusters: &[Value]) -> Value {
    let Proxy {
        name, namespace, ..
    } = proxy;
    let mut bootstrap = json!({
        "node": {
            "id": format!("{name}.{namespace}"),
            "cluster": format!("{name}.{namespace}"),
            "metadata": {"NAMESPACE": namespace},
        },
    });
    if !proxy.addresses.is_empty() {
        let addresses: Vec<String> = proxy.addresses.iter().map(IpAddr::to_string).collect();
        // Istio's name for it, and its form.
        bootstrap["node"]["metadata"]["INSTANCE_IPS"] = json!(addresses.join(","));
    }
    let (mut listeners, mut clusters) = (listeners.to_vec(), clusters.to_vec());
    if let Some(admin) = &proxy.admin {
        bootstrap["admin"] = json!({"address": admin.to_config()});
        if let Some(metrics) = &proxy.metrics {
            listeners.push(metrics::listener(metrics));
            clusters.push(metrics::cluster(admin));
        }
    }
    bootstrap["stats_config"] = stats_config();
    if let Some(bind) = proxy.bind {
        bootstrap["cluster_manager"] = json!({"upstream_bind_config": {
            "source_address": {"address": bind.to_string(), "port_value": 0},
        }});
    }
    bootstrap["static_resources"] = json!({"listeners": listeners, "clusters": clusters});
    bootstrap
}
