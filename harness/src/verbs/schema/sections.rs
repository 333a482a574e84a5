//! The mappings of a policy, one function each.

use meridian_policy::{Action, Direction, Mode, SniMode, fields};
use serde_json::{Value, json};

use super::keywords::{condition, list, object, optional, or, reference};

macro_rules! words {
    ($words:ty) => {
        json!({"enum": <$words>::ALL.iter().map(|word| word.as_str()).collect::<Vec<_>>()})
    };
}

pub(super) fn mesh() -> Value {
    object(fields::MESH, &[], |field| {
        Some(match field {
            "serviceDomain" => (
                "The cluster's DNS domain.",
                or(optional(reference("domain")), json!("cluster.local")),
            ),
            "trustDomains" => (
                "Whose SPIFFE identities are workloads of the mesh.",
                or(
                    optional(list(reference("trustDomain"))),
                    json!(["cluster.local"]),
                ),
            ),
            "cidrs" => (
                "The networks of pods and services; not node ranges that hide outside clients behind SNAT.",
                optional(list(reference("network"))),
            ),
            "hosts" => (
                "Further hosts that live inside.",
                optional(list(reference("host"))),
            ),
            "namespaces" => (
                "Namespaces whose `name.namespace` is inside, beside those that the policy names elsewhere.",
                optional(list(reference("namespace"))),
            ),
            "gateways" => ("The gateways of the mesh.", optional(gateways())),
            _ => return None,
        })
    })
}

fn gateways() -> Value {
    object(fields::GATEWAYS, &[], |field| {
        Some(match field {
            "ingress" => (
                "The ingress gateways.",
                optional(list(gateway(fields::INGRESS_GATEWAY))),
            ),
            "egress" => (
                "The egress gateways.",
                optional(list(gateway(fields::EGRESS_GATEWAY))),
            ),
            _ => return None,
        })
    })
}

fn gateway(fields: &[&str]) -> Value {
    object(fields, &["principal"], |field| {
        Some(match field {
            "name" => (
                "What rules, manifests and explanations call it, unique among all gateways.",
                optional(reference("gatewayName")),
            ),
            "namespace" => (
                "The namespace of its pods, where that is not its identity's.",
                optional(reference("namespace")),
            ),
            "labels" => (
                "The labels of its pods, by which manifests find them.",
                optional(labels()),
            ),
            "principal" => ("The gateway's identity.", reference("principal")),
            "filtered" => (
                "True if it runs the ingress filter, so that its tag can be believed.",
                or(optional(json!({"type": "boolean"})), json!(false)),
            ),
            "hosts" => (
                "The names of its service; without them the account less `-service-account`, in its namespace.",
                optional(list(reference("host"))),
            ),
            _ => return None,
        })
    })
}

fn labels() -> Value {
    let value = r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$";
    let key = r"^([a-z0-9.-]{1,253}\/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$";
    json!({
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": key},
        "additionalProperties": {"type": "string", "pattern": value},
    })
}

pub(super) fn components() -> Value {
    let system = || {
        object(fields::SYSTEM, &[], |field| {
            Some(match field {
                "namespaces" => (
                    "Namespaces of the platform.",
                    optional(list(reference("namespace"))),
                ),
                "hosts" => (
                    "Hosts of the platform at ingress.",
                    optional(list(reference("host"))),
                ),
                _ => return None,
            })
        })
    };
    object(fields::COMPONENTS, &[], |field| {
        Some(match field {
            "system" => ("The platform's components.", optional(system())),
            _ => return None,
        })
    })
}

pub(super) fn hosts() -> Value {
    object(fields::HOSTS, &[], |field| {
        Some(match field {
            "ingress" => ("At the ingress gateway.", optional(section(Action::Deny))),
            "egress" => ("At the egress gateway.", optional(section(Action::Deny))),
            "inbound" => (
                "At a sidecar, for requests to its workload.",
                optional(section(Action::Allow)),
            ),
            "outbound" => (
                "At a sidecar, for requests of its workload.",
                optional(section(Action::Allow)),
            ),
            "invalid" => (
                "What is no host: `enforce` refuses it; with `dryRun` the default decides, and it is counted.",
                or(optional(words!(Mode)), json!(Mode::Enforce.as_str())),
            ),
            _ => return None,
        })
    })
}

fn section(default: Action) -> Value {
    object(fields::SECTION, &[], |field| {
        Some(match field {
            "default" => (
                "What no rule matches.",
                or(optional(words!(Action)), json!(default.as_str())),
            ),
            "mode" => (
                "`enforce`, or `dryRun`: refuse nothing, count what would have been.",
                or(optional(words!(Mode)), json!(Mode::Enforce.as_str())),
            ),
            "rules" => (
                "The most specific host wins; at a tie deny beats allow, then the earlier rule wins.",
                optional(
                    json!({"type": "array", "maxItems": fields::MAX_RULES, "items": reference("rule")}),
                ),
            ),
            _ => return None,
        })
    })
}

pub(super) fn rule() -> Value {
    object(fields::RULE, &["name", "hosts", "action"], |field| {
        Some(match field {
            "name" => (
                "Its name, unique in its section; its label in metrics.",
                reference("ruleName"),
            ),
            "hosts" => ("The hosts it is about.", condition(reference("host"))),
            "action" => ("What it says.", words!(Action)),
            "gateways" => (
                "Only at the gateways of these names; in the sections ingress and egress alone.",
                condition(reference("gatewayName")),
            ),
            "ports" => (
                "Only these ports.",
                condition(json!({"type": "integer", "minimum": 1, "maximum": u16::MAX})),
            ),
            "from" => ("Who calls; all that is written must hold.", from()),
            "notHosts" => ("But not these hosts.", condition(reference("host"))),
            "directions" => (
                "Only requests of these directions.",
                condition(words!(Direction)),
            ),
            "dryRun" => (
                "True if it never decides, and what it would have done is counted.",
                or(optional(json!({"type": "boolean"})), json!(false)),
            ),
            "expires" => (
                "The last day on which it matches, YYYY-MM-DD in UTC.",
                optional(json!({"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"})),
            ),
            _ => return None,
        })
    })
}

fn from() -> Value {
    let mut from = object(fields::FROM, &[], |field| {
        Some(match field {
            "principals" => (
                "One of these identities, by mutual TLS.",
                condition(reference("principalPattern")),
            ),
            "notPrincipals" => (
                "None of these identities. Without an identity it holds for rules that deny, not for rules that allow.",
                condition(reference("principalPattern")),
            ),
            "namespaces" => (
                "An identity of one of these namespaces.",
                condition(reference("namespacePattern")),
            ),
            "notNamespaces" => (
                "An identity of none of these namespaces. Without an identity it holds for rules that deny, not for rules that allow.",
                condition(reference("namespacePattern")),
            ),
            "cidrs" => (
                "A source address in one of these networks.",
                condition(reference("network")),
            ),
            "notCidrs" => (
                "A source address in none of these networks. Without an address it holds for rules that deny, not for rules that allow.",
                condition(reference("network")),
            ),
            _ => return None,
        })
    });
    from["minProperties"] = json!(1);
    from
}

fn status(default: u16) -> Value {
    let (low, high) = fields::STATUS;
    let status = json!({"type": "integer", "minimum": low, "maximum": high});
    or(optional(status), json!(default))
}

pub(super) fn sni() -> Value {
    object(fields::SNI, &[], |field| {
        Some(match field {
            "mismatch" => (
                "`deny`, `dryRun`: count it, or `ignore`.",
                or(optional(words!(SniMode)), json!(SniMode::Deny.as_str())),
            ),
            "missing" => (
                "The same for TLS without a server name.",
                or(optional(words!(SniMode)), json!(SniMode::Ignore.as_str())),
            ),
            "status" => ("The status of the refusal.", status(421)),
            _ => return None,
        })
    })
}

/// What costs a callback at the end of every request.
pub(super) fn metrics() -> Value {
    let flag = || or(optional(json!({"type": "boolean"})), json!(false));
    object(fields::METRICS, &[], |field| {
        Some(match field {
            "responses" => ("True to count responses by their class.", flag()),
            "durations" => ("True to observe how long requests take.", flag()),
            _ => return None,
        })
    })
}

pub(super) fn deny() -> Value {
    object(fields::DENY, &[], |field| {
        Some(match field {
            "status" => ("The HTTP status.", status(403)),
            "body" => (
                "The body, of at most 64 KiB.",
                or(
                    optional(json!({"type": "string", "maxLength": fields::MAX_BODY})),
                    json!("host not allowed\n"),
                ),
            ),
            _ => return None,
        })
    })
}

pub(super) fn tags() -> Value {
    object(fields::TAGS, &[], |field| {
        Some(match field {
            "directionHeader" => (
                "Carries the direction.",
                or(reference("header"), json!("x-traffic-direction")),
            ),
            "componentHeader" => (
                "Carries the component type; not written without it.",
                optional(reference("header")),
            ),
            "evidenceHeader" => (
                "Carries what the direction was concluded from; not written without it.",
                optional(reference("header")),
            ),
            "filterState" => (
                "True to put each decision into Envoy's filter state, for access logs and traces.",
                or(optional(json!({"type": "boolean"})), json!(false)),
            ),
            _ => return None,
        })
    })
}
