//! Rules that hold at some gateways alone, for every verb that goes by the rules.

use meridian::policy::{PolicyFile, series};
use meridian_policy::Vantage;
use serde_json::{Value, json};

use crate::command::{json_of, meridian, policy};

const POLICY: &str = "
mesh:
  cidrs: [10.0.0.0/8]
  gateways:
    ingress:
    - {name: public, principal: cluster.local/ns/edge/sa/public, filtered: true}
    - {name: internal, principal: cluster.local/ns/edge/sa/internal, filtered: true}
    - {name: nginx, principal: cluster.local/ns/edge/sa/nginx}
    egress:
    - {name: exit, principal: cluster.local/ns/edge/sa/exit}
hosts:
  ingress:
    rules:
    - {name: shop, hosts: [shop.example.com], action: allow}
    - {name: admin, hosts: [admin.example.com], action: allow, gateways: [internal]}
    - {name: no-admin, hosts: [admin.example.com], action: deny, gateways: [public, nginx]}
  egress:
    rules:
    - {name: api, hosts: [api.partner.example], action: allow, gateways: [exit]}
";

/// What `explain` prints, its error, and its exit code.
fn explain(arguments: &[&str]) -> (String, String, Option<i32>) {
    let file = policy(POLICY.as_bytes());
    let of_file = ["explain", "--policy", file.path().to_str().unwrap()];
    let output = meridian(&[&of_file[..], arguments].concat());
    (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
        output.status.code(),
    )
}

const ADMIN: [&str; 6] = [
    "--at",
    "ingress",
    "--authority",
    "admin.example.com",
    "--source",
    "203.0.113.7",
];

#[test]
fn explain_goes_by_the_rules_of_the_gateway_and_shows_the_others() {
    for (gateway, expected) in [
        (
            "internal",
            "decision   allow: rule \"admin\" of hosts.ingress says allow
direction  north-south: the source address is outside mesh.cidrs (outside-source)
component  application
host       admin.example.com
gateway    internal
tag        x-traffic-direction: north-south
candidates, the most specific host first
  no-admin  admin.example.com  deny   condition  it holds at other gateways: public, nginx
  admin     admin.example.com  allow  wins       the first of those whose conditions hold
",
        ),
        (
            "public",
            "decision   deny with 403: rule \"no-admin\" of hosts.ingress says deny
direction  north-south: the source address is outside mesh.cidrs (outside-source)
component  application
host       admin.example.com
gateway    public
candidates, the most specific host first
  no-admin  admin.example.com  deny   wins       the first of those whose conditions hold
  admin     admin.example.com  allow  condition  it holds at other gateways: internal
",
        ),
    ] {
        let (text, error, code) = explain(&[&ADMIN[..], &["--gateway", gateway]].concat());
        assert_eq!((text.as_str(), code), (expected, Some(0)), "{error}");
    }
}

#[test]
fn explain_asks_for_the_gateway_where_there_are_several() {
    let other = ["--gateway", "Public"];
    let sidecar = ["--at", "inbound", "--authority", "a", "--gateway", "public"];
    for (arguments, expected) in [
        (
            ADMIN.to_vec(),
            "--gateway is missing, and rules of hosts.ingress name gateways; write one of public, internal",
        ),
        (
            [&ADMIN[..], &other].concat(),
            "--gateway is the name of no ingress gateway; write one of public, internal, nginx",
        ),
        (
            sidecar.to_vec(),
            "--gateway is of ingress and egress, and at inbound stands a sidecar; leave it out",
        ),
    ] {
        let (_, error, code) = explain(&arguments);
        assert!(error.contains(expected), "{error}");
        assert_eq!(code, Some(2));
    }
    // Of one it is clear.
    let api = ["--at", "egress", "--authority", "api.partner.example"];
    let (text, _, _) = explain(&api);
    assert!(
        text.contains("decision   allow") && text.contains("gateway    exit"),
        "{text}"
    );
}

#[test]
fn expectations_name_their_gateway() {
    let file = policy(POLICY.as_bytes());
    let case = |name: &str, gateway: &str, decision: &str| {
        format!(
            "- name: {name}\n  request: {{at: ingress, authority: admin.example.com{gateway}}}\n  expect: {{decision: {decision}}}\n"
        )
    };
    let run = |cases: &[String]| {
        let cases = policy(cases.concat().as_bytes());
        let output = meridian(&[
            "test",
            "--policy",
            file.path().to_str().unwrap(),
            cases.path().to_str().unwrap(),
        ]);
        let text = [output.stdout, output.stderr].concat();
        (String::from_utf8(text).unwrap(), output.status.code())
    };
    let (public, internal) = (", gateway: public", ", gateway: internal");
    let (text, code) = run(&[case("a", public, "deny"), case("b", internal, "allow")]);
    assert_eq!((text.as_str(), code), ("2 passed, 0 failed\n", Some(0)));
    let (text, code) = run(&[case("a", internal, "deny")]);
    assert_eq!(code, Some(1));
    let command = "--at ingress --gateway internal --authority admin.example.com";
    assert!(text.contains(command), "{text}");
    let (text, code) = run(&[case("a", "", "deny")]);
    assert_eq!(code, Some(2));
    let missing = "[0].request.gateway: is missing, and rules of hosts.ingress name gateways";
    assert!(text.contains(missing), "{text}");
}

/// The warnings of `check` for rules at ingress.
fn warnings(rules: &str) -> Vec<Value> {
    let (before, _) = POLICY.split_once("    rules:\n").unwrap();
    let file = policy(format!("{before}    rules:\n{rules}").as_bytes());
    let (value, _) = json_of(&["check", "--json", "--policy", file.path().to_str().unwrap()]);
    assert_eq!(value["errors"], json!([]));
    value["warnings"].as_array().unwrap().clone()
}

#[test]
fn a_rule_of_another_gateway_shadows_nothing() {
    let rule = |name: &str, action: &str, gateways: &str| {
        format!("    - {{name: {name}, hosts: [a.example.com], action: {action}{gateways}}}\n")
    };
    let public = ", gateways: [public]";
    let internal = ", gateways: [internal]";
    let both = |one: String, other: String| warnings(&(one + &other));
    let none: [Value; 0] = [];
    assert_eq!(
        both(rule("a", "deny", public), rule("b", "allow", internal)),
        none
    );
    assert_eq!(
        both(rule("a", "allow", public), rule("b", "allow", internal)),
        none
    );
    assert_eq!(
        both(rule("a", "deny", public), rule("b", "allow", "")),
        none
    );
    for (one, other) in [(public, public), ("", public)] {
        let found = both(rule("a", "deny", one), rule("b", "allow", other));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0]["path"], "hosts.ingress.rules[1]");
    }
    let found = warnings(&rule("a", "deny", ", gateways: [nginx]"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["path"], "hosts.ingress.rules[0].gateways");
}

/// No proxy has the counters of another gateway's rules.
#[test]
fn series_are_those_of_the_gateway_with_the_most_rules() {
    let bound = |policy: &str| {
        let file = PolicyFile::parse(policy.as_bytes()).unwrap();
        series::bound(&file.policy, Vantage::Ingress)
    };
    let without = |rule: &str| {
        let lines = POLICY.lines().filter(|line| !line.contains(rule));
        lines.collect::<Vec<_>>().join("\n")
    };
    assert_eq!(bound(POLICY), bound(&without("name: admin,")));
    assert!(bound(POLICY) > bound(&without("name: shop,")));
}
