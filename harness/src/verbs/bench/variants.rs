//! What is compared: listeners of one Envoy that differ in one HTTP filter alone.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

use meridian_policy::Vantage;
use serde_json::{Value, json};

use super::hosts;
use crate::lab::config::stats::stats_config;
use crate::lab::config::type_url;
use crate::lab::config::wasm::Filters;
use crate::lab::modules::Yardstick;
use crate::policy::PolicyFile;

/// The header of the direction.
pub const TAG: &str = "x-traffic-direction";
/// Where the answer to a request shows which [`TAG`] came through.
pub const ECHO: &str = "x-seen-traffic-direction";
/// What is answered to a request without a body.
pub const SMALL: &str = "ok\n";
/// What is answered to a request that is refused.
pub const REFUSAL: &str = "host not allowed\n";
/// Answered by Envoy itself.
pub const DIRECT: &str = "/direct";
/// The same, with [`ECHO`].
pub const VERIFY: &str = "/verify";
/// Answered by the upstream.
pub const UPSTREAM: &str = "/upstream";

/// A policy has at most this many rules here, each with its share of the hosts.
const MOST_RULES: usize = 1000;

/// What stands before the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Nothing. `again` is a second listener of that kind: the two differ by noise alone.
    None { again: bool },
    /// The SDK's filter that does nothing, with every callback exported.
    SdkEmpty,
    /// The same SDK, stripped like a filter, which takes the steps named.
    Steps(&'static str),
    /// Ours.
    Meridian { vantage: Vantage, hosts: usize },
    /// Envoy's own RBAC over exact hosts, and then header_mutation for the tag.
    Rbac { hosts: usize },
    /// A Lua script with a table of hosts.
    Lua { hosts: usize },
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None { again: false } => f.write_str("none"),
            Self::None { again: true } => f.write_str("none-again"),
            Self::SdkEmpty => f.write_str("sdk-empty"),
            Self::Steps("") => f.write_str("sdk-stripped"),
            // The last step: those before it are in the ladder's rungs below.
            Self::Steps(steps) => {
                write!(f, "sdk+{}", steps.rsplit(' ').next().unwrap_or_default())
            }
            Self::Meridian { vantage, hosts } => write!(f, "{vantage}-{hosts}"),
            Self::Rbac { hosts } => write!(f, "rbac-{hosts}+header_mutation"),
            Self::Lua { hosts } => write!(f, "lua-{hosts}"),
        }
    }
}

impl Filter {
    /// How many hosts it knows; a filter without hosts is asked for those of the comparisons.
    pub fn hosts(&self) -> usize {
        match self {
            Self::Meridian { hosts, .. } | Self::Rbac { hosts } | Self::Lua { hosts } => *hosts,
            Self::None { .. } | Self::SdkEmpty | Self::Steps(_) => 1000,
        }
    }

    /// True if it refuses hosts that it does not know.
    pub fn refuses(&self) -> bool {
        matches!(
            self,
            Self::Meridian { .. } | Self::Rbac { .. } | Self::Lua { .. }
        )
    }

    /// The tag of an allowed request that came with the tag `forged`.
    pub fn tag<'t>(&self, forged: &'t str) -> Option<&'t str> {
        match self {
            Self::None { .. } | Self::SdkEmpty => Some(forged),
            Self::Steps(steps) if !steps.contains("header") => Some(forged),
            // The hosts are outside, and tags do not leave the mesh.
            Self::Meridian {
                vantage: Vantage::Egress | Vantage::Outbound,
                ..
            } => None,
            Self::Meridian { .. } | Self::Steps(_) | Self::Rbac { .. } | Self::Lua { .. } => {
                Some("north-south")
            }
        }
    }

    /// The HTTP filters before the router.
    fn http_filters(&self, modules: &Path, yardstick: &Yardstick) -> anyhow::Result<Vec<Value>> {
        Ok(match *self {
            Self::None { .. } => Vec::new(),
            Self::SdkEmpty => vec![self.yardstick(&yardstick.plain, "")],
            Self::Steps(steps) => vec![self.yardstick(&yardstick.stripped, steps)],
            Self::Meridian { vantage, hosts } => {
                let policy = policy(vantage, hosts, &self.to_string());
                let policy = PolicyFile::parse(policy.as_bytes())?;
                let filters = Filters::new(modules.to_owned(), &policy);
                let mut filter = filters.http_filter(vantage);
                // Filters of one `vm_id` would share a VM, and with it caches and heap.
                filter["typed_config"]["config"]["vm_config"]["vm_id"] = json!(self.to_string());
                vec![filter]
            }
            Self::Rbac { hosts } => vec![rbac(hosts), header_mutation()],
            Self::Lua { hosts } => vec![lua(hosts)],
        })
    }

    fn yardstick(&self, module: &Path, steps: &str) -> Value {
        json!({
            "name": "yardstick",
            "typed_config": {
                "@type": type_url("extensions.filters.http.wasm.v3.Wasm"),
                "config": {
                    "name": "yardstick",
                    "failure_policy": "FAIL_RELOAD",
                    "vm_config": {
                        "vm_id": self.to_string(),
                        "runtime": "envoy.wasm.runtime.v8",
                        "code": {"local": {"filename": module}},
                    },
                    "configuration": {
                        "@type": "type.googleapis.com/google.protobuf.StringValue",
                        "value": steps,
                    },
                },
            },
        })
    }
}

/// The bootstrap of an Envoy with a listener for each of `filters`, named after it.
///
/// # Errors
/// If the policy of a filter is refused.
pub fn bootstrap(
    filters: &[Filter],
    modules: &Path,
    yardstick: &Yardstick,
    upstream: SocketAddr,
) -> anyhow::Result<Value> {
    let listeners: Vec<Value> = filters
        .iter()
        .map(|filter| {
            let http_filters = filter.http_filters(modules, yardstick)?;
            Ok(listener(filter, http_filters))
        })
        .collect::<anyhow::Result<_>>()?;
    Ok(json!({
        "node": {"id": "bench", "cluster": "bench"},
        "stats_config": stats_config(),
        // The longest that Envoy takes. Thousands of counters, merged in the middle of a round, would count for whichever
        // filter is measured then.
        "stats_flush_interval": "299s",
        "static_resources": {
            "listeners": listeners,
            "clusters": [{
                "name": "upstream",
                "type": "STATIC",
                "load_assignment": {
                    "cluster_name": "upstream",
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {
                        "address": upstream.ip().to_string(),
                        "port_value": upstream.port(),
                    }}}}]}],
                },
            }],
        },
    }))
}

/// A listener with Envoy's defaults and without an access log, which would hide what is compared.
fn listener(filter: &Filter, mut http_filters: Vec<Value>) -> Value {
    let name = filter.to_string();
    let inbound = matches!(
        filter,
        Filter::Meridian {
            vantage: Vantage::Inbound,
            ..
        }
    );
    http_filters.push(json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": type_url("extensions.filters.http.router.v3.Router")},
    }));
    let direct = json!({"status": 200, "body": {"inline_string": SMALL}});
    json!({
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "traffic_direction": if inbound { "INBOUND" } else { "OUTBOUND" },
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": type_url("extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
                "stat_prefix": name,
                "codec_type": "AUTO",
                "http_filters": http_filters,
                "route_config": {
                    "name": name,
                    "virtual_hosts": [{
                        "name": "all",
                        "domains": ["*"],
                        "routes": [
                            {"match": {"path": DIRECT}, "direct_response": direct},
                            {"match": {"path": UPSTREAM}, "route": {"cluster": "upstream"}},
                            {
                                "match": {"path": VERIFY},
                                "direct_response": direct,
                                "response_headers_to_add": [
                                    {"header": {"key": ECHO, "value": format!("%REQ({TAG})%")}},
                                ],
                            },
                        ],
                    }],
                },
            },
        }]}],
    })
}

/// A policy that allows `count` hosts, with rule names that tell it from the others in metrics.
fn policy(vantage: Vantage, count: usize, name: &str) -> String {
    let rules = count.min(MOST_RULES);
    let rules: Vec<Value> = (0..rules)
        .map(|rule| {
            let share: Vec<String> = (rule..count).step_by(rules).map(hosts::known).collect();
            json!({"name": format!("{name}-{rule}"), "hosts": share, "action": "allow"})
        })
        .collect();
    json!({
        "mesh": {"cidrs": ["127.1.0.0/16"]},
        "hosts": {vantage.as_str(): {"default": "deny", "rules": rules}},
    })
    .to_string()
}

/// As Istio renders the hosts of an AuthorizationPolicy, in any case.
fn rbac(count: usize) -> Value {
    let permissions: Vec<Value> = (0..count)
        .map(|host| {
            let exact = json!({"exact": hosts::known(host), "ignore_case": true});
            json!({"header": {"name": ":authority", "string_match": exact}})
        })
        .collect();
    json!({
        "name": "envoy.filters.http.rbac",
        "typed_config": {
            "@type": type_url("extensions.filters.http.rbac.v3.RBAC"),
            "rules": {
                "action": "ALLOW",
                "policies": {"hosts": {"permissions": permissions, "principals": [{"any": true}]}},
            },
        },
    })
}

fn header_mutation() -> Value {
    let mutation = json!({"append": {
        "header": {"key": TAG, "value": "north-south"},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }});
    json!({
        "name": "envoy.filters.http.header_mutation",
        "typed_config": {
            "@type": type_url("extensions.filters.http.header_mutation.v3.HeaderMutation"),
            "mutations": {"request_mutations": [mutation]},
        },
    })
}

fn lua(count: usize) -> Value {
    let table: Vec<String> = (0..count)
        .map(|host| format!("  [\"{}\"] = true,", hosts::known(host)))
        .collect();
    json!({
        "name": "envoy.filters.http.lua",
        "typed_config": {
            "@type": type_url("extensions.filters.http.lua.v3.Lua"),
            "default_source_code": {
                "inline_string": include_str!("hosts.lua").replace("--HOSTS--", &table.join("\n")),
            },
        },
    })
}
