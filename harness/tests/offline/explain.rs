//! `meridian explain`: the keys of its JSON, and its words.

use serde_json::{Value, json};

use crate::command::{json_of, meridian, policy, sample};

fn explain(arguments: &[&str]) -> Value {
    let sample = sample();
    let mut all = vec!["explain", "--json", "--policy", sample.to_str().unwrap()];
    all.extend(arguments);
    let (value, code) = json_of(&all);
    assert_eq!(code, Some(0));
    value
}

#[test]
fn explain_answers_with_every_key_of_its_contract() {
    let allowed = explain(&[
        "--at",
        "ingress",
        "--authority",
        "SHOP.example.com.:443",
        "--source",
        "203.0.113.7:51234",
    ]);
    assert_eq!(
        allowed,
        json!({
            "decision": "allow",
            "rule": "storefront",
            "status": null,
            "reason": "rule \"storefront\" of hosts.ingress says allow",
            "direction": "north-south",
            "evidence": "outside-source",
            "component_type": "application",
            "host": "shop.example.com",
            "dry_run": null,
            "candidates": [{
                "rule": "storefront",
                "pattern": "shop.example.com",
                "action": "allow",
                "outcome": "wins",
                "reason": "the first of those whose conditions hold",
            }],
        })
    );
    let refused = explain(&["--at", "ingress", "--authority", "a.example,b.example"]);
    assert_eq!(refused["decision"], "deny");
    assert_eq!(refused["rule"], Value::Null);
    assert_eq!(refused["status"], 400);
    assert_eq!(refused["host"], Value::Null);
    assert_eq!(refused["evidence"], "no-source");
    assert_eq!(refused["direction"], "unknown");
    assert_eq!(refused["candidates"], json!([]));
}

#[test]
fn explain_answers_for_a_connection_with_every_key_of_its_contract() {
    let closed = explain(&[
        "--at",
        "egress",
        "--connection",
        "--sni",
        "CDN.tracker.example.",
        "--destination",
        "198.51.100.9:443",
    ]);
    assert_eq!(
        closed,
        json!({
            "decision": "deny",
            "rule": "no-trackers",
            "closed": true,
            "reason": "rule \"no-trackers\" of hosts.egress says deny",
            "direction": "north-south",
            "evidence": "outside-sni",
            "host": "cdn.tracker.example",
            "dry_run": null,
            "candidates": [{
                "rule": "no-trackers",
                "pattern": "*.tracker.example",
                "action": "deny",
                "outcome": "wins",
                "reason": "the first of those whose conditions hold",
            }],
        })
    );
    let unknown = explain(&["--at", "ingress", "--connection"]);
    assert_eq!(unknown["host"], Value::Null);
    assert_eq!(unknown["closed"], true);
    let invalid = explain(&["--at", "egress", "--connection", "--sni", "192.0.2.1"]);
    assert_eq!(
        (&invalid["reason"], &invalid["evidence"]),
        (
            &json!("the host is invalid: an address is no server name"),
            &json!("invalid-host")
        )
    );
}

#[test]
fn explain_reads_the_port_and_the_caller_of_a_connection() {
    let policy = policy(
        br#"
mesh: {cidrs: [10.0.0.0/8]}
hosts:
  egress:
    rules:
    - {name: https, hosts: ["*"], ports: [443], action: allow, from: {namespaces: [shop]}}
"#,
    );
    let explain = |destination: &str, namespace: &str| {
        let principal = format!("cluster.local/ns/{namespace}/sa/a");
        let arguments = [
            &[
                "explain",
                "--json",
                "--policy",
                policy.path().to_str().unwrap(),
            ][..],
            &["--at", "egress", "--connection", "--principal", &principal],
            &["--destination", destination],
        ];
        let (value, _) = json_of(&arguments.concat());
        value["decision"].clone()
    };
    assert_eq!(explain("198.51.100.9:443", "shop"), "allow");
    assert_eq!(explain("198.51.100.9:444", "shop"), "deny");
    assert_eq!(explain("198.51.100.9", "shop"), "deny");
    assert_eq!(explain("198.51.100.9:443", "ops"), "deny");
}

/// TLS without a server name is no mismatch, but a policy may want one.
#[test]
fn explain_knows_of_tls_without_a_server_name() {
    let policy = policy(b"hosts: {ingress: {default: allow}}\nsni: {missing: deny}\n");
    let arguments = [
        "explain",
        "--json",
        "--policy",
        policy.path().to_str().unwrap(),
        "--at",
        "ingress",
        "--authority",
        "shop.example.com",
    ];
    let (plaintext, _) = json_of(&arguments);
    assert_eq!(plaintext["decision"], "allow");
    let (tls, _) = json_of(&[&arguments[..], &["--tls"]].concat());
    assert_eq!(
        (&tls["decision"], &tls["status"], &tls["reason"]),
        (
            &json!("deny"),
            &json!(421),
            &json!("the TLS connection was not opened for this host")
        )
    );
}

#[test]
fn explain_takes_every_piece_of_evidence() {
    let gateway = "cluster.local/ns/istio-ingress/sa/istio-ingress";
    for (arguments, direction, evidence) in [
        (
            &[
                "--at",
                "inbound",
                "--authority",
                "a.b",
                "--principal",
                gateway,
                "--tag",
                "east-west",
            ][..],
            "east-west",
            "gateway-tag",
        ),
        (
            &[
                "--at",
                "inbound",
                "--authority",
                "a.b",
                "--principal",
                "cluster.local/ns/ingress-nginx/sa/ingress-nginx",
                "--tag",
                "east-west",
            ],
            "north-south",
            "ingress-gateway",
        ),
        (
            &[
                "--at",
                "inbound",
                "--authority",
                "a.b",
                "--source",
                "10.1.2.3:1",
                "--forwarded",
            ],
            "unknown",
            "forwarded-source",
        ),
        (
            &[
                "--at",
                "outbound",
                "--authority",
                "a.b",
                "--cluster",
                "PassthroughCluster",
                "--destination",
                "10.9.8.7:443",
            ],
            "east-west",
            "mesh-destination",
        ),
        (
            &[
                "--at",
                "outbound",
                "--authority",
                "a.b",
                "--cluster",
                "outbound|443||api.example.com",
            ],
            "north-south",
            "outside-cluster",
        ),
        (
            &[
                "--at",
                "egress",
                "--authority",
                "cart.shop.svc.cluster.local",
            ],
            "east-west",
            "mesh-host",
        ),
        (
            &[
                "--at",
                "ingress",
                "--authority",
                "shop.example.com",
                "--source",
                "[2001:db8::1]:443",
            ],
            "north-south",
            "outside-source",
        ),
    ] {
        let answer = explain(arguments);
        assert_eq!(
            (&answer["direction"], &answer["evidence"]),
            (&json!(direction), &json!(evidence)),
            "{arguments:?}"
        );
    }
    let system = explain(&[
        "--at",
        "inbound",
        "--authority",
        "a.b",
        "--namespace",
        "verrazzano-system",
    ]);
    assert_eq!(system["component_type"], "system");
    let misdirected = explain(&[
        "--at",
        "ingress",
        "--authority",
        "shop.example.com",
        "--sni",
        "other.example.com",
    ]);
    assert_eq!(
        (&misdirected["status"], &misdirected["decision"]),
        (&json!(421), &json!("deny"))
    );
}

#[test]
fn explain_in_words_names_the_rule_and_the_evidence() {
    let sample = sample();
    let output = meridian(&[
        "explain",
        "--policy",
        sample.to_str().unwrap(),
        "--at",
        "ingress",
        "--authority",
        "admin.apps.example.com",
        "--source",
        "203.0.113.7:51234",
    ]);
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "\
decision   deny with 403: rule \"no-admin\" of hosts.ingress says deny
direction  north-south: the source address is outside mesh.cidrs (outside-source)
component  application
host       admin.apps.example.com
candidates, the most specific host first
  no-admin    admin.apps.example.com  deny   wins       the first of those whose conditions hold
  storefront  *.apps.example.com      allow  lost       its host is less specific than that of rule \"no-admin\"
"
    );
}

#[test]
fn explain_in_words_says_that_a_connection_is_closed() {
    let sample = sample();
    let output = meridian(&[
        "explain",
        "--policy",
        sample.to_str().unwrap(),
        "--at",
        "egress",
        "--connection",
        "--sni",
        "tracker.example",
    ]);
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "\
decision   deny, the connection is closed: rule \"no-trackers\" of hosts.egress says deny
direction  north-south: the server name (SNI) is a host outside the mesh (outside-sni)
host       tracker.example
candidates, the most specific host first
  no-trackers  tracker.example  deny   wins       the first of those whose conditions hold
"
    );
}
