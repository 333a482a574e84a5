//! Who may call, in rules and in ServiceEntries.

use serde_json::{Value, json};

use super::*;

#[test]
fn rules_name_callers_where_the_policy_does() {
    let mut log = times(2, &at_egress("api.other.example"));
    log.push(refused("egress", "api.other.example", Some(ADMIN)));
    log.extend(times(2, &refused("egress", "api.other.example", None)));
    log.extend(times(2, &at_egress("only.other.example")));
    log.extend(times(2, &refused("egress", "nobody.other.example", None)));
    let star = "spiffe://cluster.local/ns/*/sa/a";
    log.extend(times(
        2,
        &refused("egress", "star.other.example", Some(star)),
    ));
    let world = World::new(&log);
    world.write(
        "policy.yaml",
        "hosts:\n  egress:\n    rules:\n    - name: a\n      hosts: [a.example]\n      action: allow\n      from: {namespaces: [shop]}\n",
    );
    let found = world.json(&["--policy", "policy.yaml"]);
    assert_eq!(found, world.json(&["--by-caller"]));
    let rules: Vec<&Value> = found["proposals"]
        .as_array()
        .unwrap()
        .iter()
        .map(|proposal| &proposal["rule"])
        .collect();
    assert_eq!(
        rules,
        [
            &json!({"name": "learned-other-example", "hosts": ["api.other.example"],
                "action": "allow", "from": {"namespaces": ["admin", "shop"]}}),
            &json!({"name": "learned-other-example-2", "hosts": ["only.other.example"],
                "action": "allow", "from": {"namespaces": ["shop"]}}),
        ]
    );
    assert_eq!(
        world.suspicious(&["--by-caller"]),
        [
            json!(["nobody.other.example", "no-identity"]),
            json!(["star.other.example", "no-identity"]),
        ]
    );
    let (diff, _) = world.learn(&["--policy", "policy.yaml", "--format", "diff"]);
    assert!(
        diff.contains("# 2 requests of others may stay refused"),
        "{diff}"
    );
    world.patch(&diff);
    world.check("policy.yaml");
    for (principal, decision) in [
        ("cluster.local/ns/admin/sa/web", "allow"),
        ("cluster.local/ns/other/sa/web", "deny"),
    ] {
        let more = ["--principal", principal];
        let (decided, _) = world.explain("egress", "api.other.example", &more);
        assert_eq!(decided, decision, "{principal}");
    }
}

#[test]
fn service_entries_are_what_istio_takes() {
    let mut log = times(2, &at_egress("other.example"));
    log.extend(times(2, &at_egress("other.example:8080")));
    for number in 0..5 {
        let connection = json!({
            "reporter": "egress", "decision": "deny", "rule": "default", "peer": SHOP,
            "sni": format!("outbound_.8443_._.c{number}.other.example"),
            "details": "meridian_deny{default}", "destination": "127.1.0.11:15443",
        });
        log.extend(times(2, &connection));
    }
    log.extend(times(2, &refused("ingress", "intranet.example.com", None)));
    let world = World::new(&log);
    let (text, code) = world.learn(&["--format", "service-entries", "--by-caller"]);
    assert_eq!(code, Some(1));
    let documents: Vec<Value> = text
        .split("---\n")
        .filter(|document| document.contains("kind:"))
        .map(|document| serde_json::to_value(yaml(document)).unwrap())
        .collect();
    let entry = |name: &str, hosts: Value, ports: Value, resolution: &str| {
        json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "ServiceEntry",
            "metadata": {"name": name},
            "spec": {"hosts": hosts, "exportTo": ["shop"], "location": "MESH_EXTERNAL",
                "ports": ports, "resolution": resolution},
        })
    };
    assert_eq!(
        documents,
        [
            entry(
                "learned-other-example",
                json!(["other.example"]),
                json!([
                    {"number": 80, "name": "http-80", "protocol": "HTTP"},
                    {"number": 8080, "name": "http-8080", "protocol": "HTTP"},
                ]),
                "DNS"
            ),
            entry(
                "learned-other-example-wildcard",
                json!(["*.other.example"]),
                json!([{"number": 8443, "name": "tls-8443", "protocol": "TLS"}]),
                "NONE"
            ),
        ]
    );
    let (text, _) = world.learn(&["--format", "service-entries"]);
    assert!(text.contains("exportTo:\n  - '*'\n"), "{text}");
}

fn yaml(text: &str) -> Value {
    let policy = meridian::policy::PolicyFile::parse(text.as_bytes());
    // A manifest is no policy, but it is YAML: only its fields are unknown.
    let errors = policy.unwrap_err();
    assert!(!errors.to_string().contains("is not YAML"), "{errors}");
    yaml_serde::from_str(text).unwrap()
}
