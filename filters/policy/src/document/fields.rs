//! The fields of a policy document and their limits, once for the reader and for everything that
//! describes the document, such as its JSON Schema.

/// The most rules in a section: each has counters of its own, which Envoy never frees. A rule
/// holds any number of hosts.
pub const MAX_RULES: usize = 10_000;

/// The longest name of a rule.
pub const MAX_RULE_NAME: usize = 63;

/// Rule names that stand in metrics for decisions without a rule.
pub const RESERVED_NAMES: [&str; 3] = ["default", "invalid-host", "sni-mismatch"];

/// The longest name of a gateway.
pub const MAX_GATEWAY_NAME: usize = 63;

/// The longest body of a refusal, in bytes: whoever asks gets it for a few bytes of a request.
pub const MAX_BODY: usize = 64 << 10;

/// How many hexadecimal digits a revision has.
pub const REVISION_DIGITS: usize = 12;

/// The longest header name.
pub const MAX_HEADER_NAME: usize = 64;

/// What the names of headers begin with that Envoy writes itself.
pub const RESERVED_HEADER_PREFIXES: [&str; 3] = ["x-b3-", "x-envoy-", "x-forwarded-"];

/// Headers that a tag would break the request with, or its trace.
pub const RESERVED_HEADERS: [&str; 23] = [
    "accept",
    "accept-encoding",
    "authorization",
    "b3",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "grpc-timeout",
    "host",
    "keep-alive",
    "origin",
    "proxy-connection",
    "range",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-request-id",
];

/// The document.
pub const POLICY: &[&str] = &[
    "mesh",
    "components",
    "hosts",
    "sni",
    "deny",
    "tags",
    "metrics",
    "revision",
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
pub const INGRESS_GATEWAY: &[&str] = &["name", "principal", "filtered", "namespace", "labels"];
/// `mesh.gateways.egress[]`
pub const EGRESS_GATEWAY: &[&str] = &["name", "principal", "hosts", "namespace", "labels"];
/// `components`
pub const COMPONENTS: &[&str] = &["system"];
/// `components.system`
pub const SYSTEM: &[&str] = &["namespaces", "hosts"];
/// `hosts`: a section for each [`crate::Vantage`], and what becomes of what is no host.
pub const HOSTS: &[&str] = &["ingress", "egress", "inbound", "outbound", "invalid"];
/// `hosts.VANTAGE`
pub const SECTION: &[&str] = &["default", "mode", "rules"];
/// `hosts.VANTAGE.rules[]`
pub const RULE: &[&str] = &[
    "name",
    "hosts",
    "action",
    "gateways",
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
