//! What a policy may not say: each document has one error, at one place.

#![cfg(not(target_arch = "wasm32"))]

use meridian_policy::Policy;

#[test]
fn every_error_names_the_field_it_is_in() {
    let rule = |fields: &str| {
        format!(
            r#"{{"hosts": {{"ingress": {{"rules": [{{"name": "a", "hosts": ["a.test"], "action": "allow"{fields}}}]}}}}}}"#
        )
    };
    let named = |name: &str| {
        format!(
            r#"{{"hosts": {{"ingress": {{"rules": [{{"name": "{name}", "hosts": ["a.test"], "action": "allow"}}]}}}}}}"#
        )
    };
    let header = |header: &str| format!(r#"{{"tags": {{"directionHeader": "{header}"}}}}"#);
    let rule_path = |field: &str| format!("hosts.ingress.rules[0].{field}");
    let mut cases = vec![
        // An empty condition would hold for everything.
        (rule(r#", "ports": []"#), rule_path("ports")),
        (rule(r#", "directions": []"#), rule_path("directions")),
        (rule(r#", "ports": [0]"#), rule_path("ports[0]")),
        (rule(r#", "action": "deny""#), rule_path("action")),
        (rule(r#", "form": {}"#), rule_path("form")),
        (rule(r#", "from": {"principals": ["spiffe://cluster.local/ns/a/sa/a"]}"#), rule_path("from.principals[0]")),
        // No namespace has such a name: a rule by it would be void.
        (rule(r#", "from": {"namespaces": ["shop", "Shop"]}"#), rule_path("from.namespaces[1]")),
        (rule(r#", "from": {"notNamespaces": ["a b"]}"#), rule_path("from.notNamespaces[0]")),
        (rule(r#", "from": {"principals": ["/ns/a/sa/b"]}"#), rule_path("from.principals[0]")),
        (rule(r#", "from": {"notCidrs": ["10.1.2.3/8"]}"#), rule_path("from.notCidrs[0]")),
        (
            r#"{"hosts": {"egress": {"rules": [{"name": "a", "hosts": ["a.test"], "action": "deny"}, {"name": "a", "hosts": ["b.test"], "action": "deny"}]}}}"#.to_owned(),
            "hosts.egress.rules[1].name".to_owned(),
        ),
        (r#"{"deny": {"status": 200}}"#.to_owned(), "deny.status".to_owned()),
        (r#"{"sni": {"status": 302}}"#.to_owned(), "sni.status".to_owned()),
        (r#"{"sni": {"mismatch": "allow"}}"#.to_owned(), "sni.mismatch".to_owned()),
        (r#"{"tags": {"directionHeader": null}}"#.to_owned(), "tags.directionHeader".to_owned()),
        (r#"{"tags": {"directionHeader": "x-a", "evidenceHeader": "X-A"}}"#.to_owned(), "tags".to_owned()),
        (r#"{"mesh": {"trustDomains": ["*"]}}"#.to_owned(), "mesh.trustDomains[0]".to_owned()),
        (
            r#"{"mesh": {"gateways": {"ingress": [{"principal": "cluster.local/ns/*/sa/gateway"}]}}}"#.to_owned(),
            "mesh.gateways.ingress[0].principal".to_owned(),
        ),
    ];
    for reserved in ["default", "invalid-host", "sni-mismatch", "A", ""] {
        cases.push((named(reserved), rule_path("name")));
    }
    for forbidden in [
        "Host",
        "connection",
        "content-length",
        "content-type",
        "te",
        "transfer-encoding",
        "upgrade",
        "x-forwarded-for",
        ":authority",
        "x tag",
        "x_tag",
        "",
    ] {
        cases.push((header(forbidden), "tags.directionHeader".to_owned()));
    }
    for (document, place) in cases {
        let errors = Policy::from_json(document.as_bytes()).unwrap_err();
        let places: Vec<&str> = errors.iter().map(|error| error.path.as_str()).collect();
        assert_eq!(places, [place.as_str()], "{document}");
    }
}
