//! EnvoyFilters: the policy filters, for HTTP and for connections, and the removal of look-alikes.
//!
//! The policy filters come by ECDS (`applyTo: EXTENSION_CONFIG`), so that a new policy does not drain
//! listeners, as an edit of the filter chain would (istio/istio#51655).

use meridian_policy::{Subject, Vantage};
use serde_json::{Value, json};

use super::plan::{Filter, PRIORITY, Plan, Selection};
use crate::lab::config::look_alikes::look_alike_filter;
use crate::lab::config::type_url;
use crate::lab::config::wasm::{FILTER_NAME, plugin, root_id};

/// The filter that holds the HTTP filters, by Envoy's name.
const CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";
/// The filter that passes connections on unread, by Envoy's name.
const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";
/// What the filter chains of AUTO_PASSTHROUGH servers ask for, and no other chain that passes on unread.
const AUTO_PASSTHROUGH_PROTOCOL: &str = "istio";

const HTTP: &str = "extensions.filters.http.wasm.v3.Wasm";
const NETWORK: &str = "extensions.filters.network.wasm.v3.Wasm";

/// The HTTP filter, and at ingress and inbound the one that removes look-alikes.
pub(super) fn http(plan: &Plan<'_>, selection: &Selection, filter: &Filter) -> Value {
    let versions = plan.args.filter_versions();
    let mut patches = vec![
        discovered(filter, versions),
        json!({
            "applyTo": "HTTP_FILTER",
            "match": in_filter(filter.vantage, versions, CONNECTION_MANAGER),
            // First, so that no other filter sees a tag that a client made up.
            "patch": {"operation": "INSERT_FIRST", "value": by_discovery(filter)},
        }),
    ];
    if removes_look_alikes(filter.vantage) {
        patches.push(look_alike_patch(plan, filter.vantage));
    }
    envoy_filter(plan, selection, &patches)
}

/// The network filter of a gateway, in every filter chain that passes connections on unread. An update
/// reaches new connections alone; those that are open stay.
pub(super) fn connections(plan: &Plan<'_>, selection: &Selection, filter: &Filter) -> Value {
    let versions = plan.args.filter_versions();
    let mut patches = vec![
        discovered(filter, versions),
        // Before the filter that connects to the upstream, and in no chain without it.
        json!({
            "applyTo": "NETWORK_FILTER",
            "match": in_filter(filter.vantage, versions, TCP_PROXY),
            "patch": {"operation": "INSERT_BEFORE", "value": by_discovery(filter)},
        }),
    ];
    if !plan.args.auto_passthrough {
        let mut ours = in_filter(filter.vantage, versions, &name(filter));
        ours["listener"]["filterChain"]["applicationProtocols"] = json!(AUTO_PASSTHROUGH_PROTOCOL);
        patches.push(json!({
            "applyTo": "NETWORK_FILTER",
            "match": ours,
            "patch": {"operation": "REMOVE"},
        }));
    }
    envoy_filter(plan, selection, &patches)
}

/// The removal of look-alikes alone, beside a filter that is attached in another form.
pub(super) fn look_alikes(plan: &Plan<'_>, selection: &Selection, vantage: Vantage) -> Value {
    envoy_filter(plan, selection, &[look_alike_patch(plan, vantage)])
}

/// True where requests come before a workload that could take a look-alike for a tag.
pub(super) fn removes_look_alikes(vantage: Vantage) -> bool {
    matches!(vantage, Vantage::Ingress | Vantage::Inbound)
}

fn envoy_filter(plan: &Plan<'_>, selection: &Selection, patches: &[Value]) -> Value {
    let mut spec = json!({"priority": PRIORITY});
    if !selection.labels.is_empty() {
        spec["workloadSelector"] = json!({"labels": selection.labels});
    }
    spec["configPatches"] = json!(patches);
    plan.object(
        "networking.istio.io/v1alpha3",
        "EnvoyFilter",
        selection,
        &spec,
    )
}

/// The name of the filter, and of its configuration.
fn name(filter: &Filter) -> String {
    format!("{FILTER_NAME}.{}", root_id(filter.vantage, filter.subject))
}

fn message(filter: &Filter) -> &'static str {
    match filter.subject {
        Subject::Request => HTTP,
        Subject::Connection => NETWORK,
    }
}

/// The patch with the filter's configuration, which istiod hands out by ECDS.
fn discovered(filter: &Filter, versions: &str) -> Value {
    let root_id = root_id(filter.vantage, filter.subject);
    let plugin = plugin(
        &root_id,
        &filter.source.envoy_code(),
        filter.policy.as_deref(),
    );
    let typed_config = json!({"@type": type_url(message(filter)), "config": plugin});
    json!({
        "applyTo": "EXTENSION_CONFIG",
        "match": in_context(filter.vantage, versions),
        "patch": {
            "operation": "ADD",
            "value": {"name": name(filter), "typed_config": typed_config},
        },
    })
}

/// The filter in a chain, which waits for its configuration; without one it refuses.
fn by_discovery(filter: &Filter) -> Value {
    json!({
        "name": name(filter),
        "config_discovery": {
            "config_source": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
            "type_urls": [type_url(message(filter))],
        },
    })
}

fn look_alike_patch(plan: &Plan<'_>, vantage: Vantage) -> Value {
    let versions = plan.args.look_alike_versions();
    json!({
        "applyTo": "HTTP_FILTER",
        "match": in_filter(vantage, versions, CONNECTION_MANAGER),
        "patch": {
            "operation": "INSERT_FIRST",
            "value": look_alike_filter(&plan.file.policy.tags),
        },
    })
}

/// Matches the listeners of a vantage point, of proxies of these versions.
fn in_context(vantage: Vantage, versions: &str) -> Value {
    let context = match vantage {
        Vantage::Ingress | Vantage::Egress => "GATEWAY",
        Vantage::Inbound => "SIDECAR_INBOUND",
        Vantage::Outbound => "SIDECAR_OUTBOUND",
    };
    json!({"context": context, "proxy": {"proxyVersion": versions}})
}

/// Matches the network filter of this name in them.
fn in_filter(vantage: Vantage, versions: &str, name: &str) -> Value {
    let mut matched = in_context(vantage, versions);
    matched["listener"] = json!({"filterChain": {"filter": {"name": name}}});
    matched
}
