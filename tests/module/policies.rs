//! The policies of the tests.

use meridian::policy::PolicyFile;

/// A policy that needs no evidence beside authority and source: no identity of a mesh, no SNI.
pub const PLAIN: &str = r#"{
    "mesh": {"trustDomains": [], "cidrs": ["10.0.0.0/8"]},
    "hosts": {"ingress": {"rules": [
        {"name": "shop", "hosts": ["shop.example.com"], "action": "allow"}
    ]}},
    "sni": {"mismatch": "ignore"}
}"#;

/// A small policy with everything else as it is by default, some rules in dry run, and the callers
/// at the egress gateway told apart.
pub const SMALL: &str = r#"{
    "mesh": {
        "cidrs": ["10.0.0.0/8"],
        "namespaces": ["shop"],
        "gateways": {"ingress": [{"principal": "cluster.local/ns/istio-system/sa/ingress", "filtered": true}]}
    },
    "hosts": {
        "ingress": {"rules": [
            {"name": "shop", "hosts": ["shop.example.com"], "action": "allow"},
            {"name": "old", "hosts": ["old.example.com"], "action": "deny"},
            {"name": "trial", "hosts": ["trial.example.com"], "action": "allow", "dryRun": true}
        ]},
        "egress": {"rules": [
            {"name": "partner", "hosts": ["api.partner.example"], "action": "allow"}
        ]},
        "outbound": {"rules": [
            {"name": "no-tracker", "hosts": ["tracker.example"], "action": "deny"}
        ]}
    }
}"#;

/// The sample policy, as the filters get it: three tags, filter state, both metrics of ended requests.
pub fn sample() -> String {
    PolicyFile::load(None).unwrap().json.to_string()
}

/// A policy like [`PLAIN`] with this many hosts beside its own, under many rules.
pub fn with_hosts(hosts: usize) -> String {
    let hosts: Vec<String> = (0..hosts)
        .map(|host| format!(r#""h{host}.fill.example""#))
        .collect();
    PLAIN.replace(
        r#"{"name": "shop""#,
        &format!(
            r#"{{"name": "fill", "hosts": [{}], "action": "allow"}}, {{"name": "shop""#,
            hosts.join(",")
        ),
    )
}
