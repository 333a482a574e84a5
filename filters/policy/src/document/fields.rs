//! The fields of a policy document and their limits, once for the reader and for everything that
//! describes the document, such as its JSON Schema.

pub use crate::model::section::{MAX_RULE_NAME, MAX_RULES, RESERVED_NAMES};
pub use crate::model::tags::{
    ENVOY_S as RESERVED_HEADER_PREFIXES, FORBIDDEN as RESERVED_HEADERS, MAX_NAME as MAX_HEADER_NAME,
};

/// The document.
pub const POLICY: &[&str] = &[
    "mesh",
    "components",
    "hosts",
    "sni",
    "deny",
    "tags",
    "metrics",
];
/// `mesh`
pub const MESH: &[&str] = &[
    "serviceDomain",
    "trustDomains",
    "cidrs",
    "hosts",
    "namespaces",
    "gateways",
];
/// `mesh.gateways`
pub const GATEWAYS: &[&str] = &["ingress", "egress"];
/// `mesh.gateways.ingress[]`
pub const INGRESS_GATEWAY: &[&str] = &["principal", "filtered"];
/// `mesh.gateways.egress[]`
pub const EGRESS_GATEWAY: &[&str] = &["principal", "hosts"];
/// `components`
pub const COMPONENTS: &[&str] = &["system"];
/// `components.system`
pub const SYSTEM: &[&str] = &["namespaces", "hosts"];
/// `hosts`: a section for each [`crate::Vantage`].
pub const HOSTS: &[&str] = &["ingress", "egress", "inbound", "outbound"];
/// `hosts.VANTAGE`
pub const SECTION: &[&str] = &["default", "mode", "rules"];
/// `hosts.VANTAGE.rules[]`
pub const RULE: &[&str] = &[
    "name",
    "hosts",
    "action",
    "ports",
    "from",
    "notHosts",
    "directions",
    "dryRun",
    "expires",
];
/// `hosts.VANTAGE.rules[].from`
pub const FROM: &[&str] = &[
    "principals",
    "notPrincipals",
    "namespaces",
    "notNamespaces",
    "cidrs",
    "notCidrs",
];
/// `sni`
pub const SNI: &[&str] = &["mismatch", "missing", "status"];
/// `deny`
pub const DENY: &[&str] = &["status", "body"];
/// `tags`
pub const TAGS: &[&str] = &[
    "directionHeader",
    "componentHeader",
    "evidenceHeader",
    "filterState",
];
/// `metrics`
pub const METRICS: &[&str] = &["responses", "durations"];

/// The lowest and the highest status of a refusal.
pub const STATUS: (u16, u16) = (400, 599);
