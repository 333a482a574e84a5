//! What `meridian check` warns of, and that it stays quick when a policy grows.

use std::process::Command;

use meridian::policy::PolicyFile;
use meridian::verbs::check::warnings;
use serde_json::{Value, json};

/// A mesh that gives no cause for warnings.
const MESH: &str = "mesh: {cidrs: [10.0.0.0/8], gateways: {ingress: [{principal: cluster.local/ns/i/sa/g, filtered: true}]}}\n";

/// The place and the message of each warning of a policy.
fn warnings_of(policy: &str) -> Vec<(String, String)> {
    let file = PolicyFile::parse(policy.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"));
    let warnings = warnings::of(&file).into_iter();
    warnings
        .map(|warning| {
            assert!(!warning.hint.is_empty());
            (warning.path, warning.message)
        })
        .collect()
}

/// The warnings of rules in one section, in flow style.
fn of_rules(section: &str, rules: &[&str]) -> Vec<(String, String)> {
    let rules = rules.join("}, {");
    warnings_of(&format!(
        "{MESH}hosts: {{{section}: {{rules: [{{{rules}}}]}}}}"
    ))
}

fn assert_one(found: &[(String, String)], path: &str, message: &str) {
    let [(at, text)] = found else {
        panic!("not one warning: {found:?}")
    };
    assert_eq!((at.as_str(), text.as_str()), (path, message));
}

#[test]
fn a_policy_without_a_fault_has_no_warning() {
    assert_eq!(warnings::of(&PolicyFile::load(None).unwrap()), []);
    let fine = of_rules(
        "ingress",
        &[
            "name: a, action: allow, hosts: [a.example.com, '*.example.com', 'b.example.com:443']",
            "name: b, action: allow, hosts: [b.example.com], ports: [80]",
            "name: c, action: deny, hosts: [a.example.com], from: {notCidrs: [10.0.0.0/8]}",
            "name: d, action: allow, hosts: ['*'], from: {principals: [cluster.local/ns/ops/*]}",
            "name: e, action: allow, hosts: [192.0.2.0/24, 192.0.2.200], notHosts: [192.0.2.0/25]",
            "name: f, action: deny, hosts: [a.example.com], dryRun: true, ports: [8443]",
            "name: g, action: allow, hosts: [b\u{fc}cher.example, xn--wgv71a.example]",
            "name: h, action: allow, hosts: ['*'], directions: [east-west]",
        ],
    );
    assert_eq!(fine, []);
}

#[test]
fn warnings_of_the_mesh_come_first() {
    let paths = |policy: &str| -> Vec<String> {
        warnings_of(policy)
            .into_iter()
            .map(|(path, _)| path)
            .collect()
    };
    assert_eq!(paths("hosts: {}"), ["mesh.cidrs", "mesh.gateways.ingress"]);
    let unfiltered =
        "mesh: {cidrs: ['::/0'], gateways: {ingress: [{principal: cluster.local/ns/i/sa/g}]}}";
    assert_eq!(
        paths(unfiltered),
        ["mesh.cidrs[0]", "mesh.gateways.ingress"]
    );
}

#[test]
fn a_mesh_host_that_matches_every_host_is_warned_of() {
    for host in ["*", "0.0.0.0/0", "*:443"] {
        let found = warnings_of(&MESH.replace(
            "mesh: {",
            &format!("mesh: {{hosts: [a.internal, '{host}'], "),
        ));
        let message = format!("\"{host}\" holds every host, so none is outside");
        assert_one(&found, "mesh.hosts[1]", &message);
    }
    let found = warnings_of(&MESH.replace("mesh: {", "mesh: {hosts: ['*.com', 10.0.0.0/8], "));
    assert_eq!(found, []);
}

#[test]
fn a_principal_pattern_that_matches_no_identity_is_warned_of() {
    let rule = |pattern: &str| {
        let from = format!("from: {{principals: ['{pattern}']}}");
        of_rules(
            "ingress",
            &[&format!(
                "name: a, action: deny, hosts: [a.example.com], {from}"
            )],
        )
    };
    for pattern in [
        "cluster.local/namespace/*",
        "cluster.local/ns/shop/cart*",
        "cluster.local/ns/shop/sa/cart/*",
        "/*",
        "a//*",
        "*/ns/cart",
        "*/sa/a/b",
        "*/shop/cart",
        "*/",
    ] {
        assert_one(
            &rule(pattern),
            "hosts.ingress.rules[0].from.principals",
            "holds no identity, which is TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT, so rule \"a\" can never match",
        );
    }
    for pattern in [
        "*",
        "c*",
        "cluster.local/*",
        "cluster.local/n*",
        "cluster.local/ns*",
        "cluster.local/ns/*",
        "cluster.local/ns/shop*",
        "cluster.local/ns/shop/s*",
        "cluster.local/ns/shop/sa/*",
        "cluster.local/ns/shop/sa/c*",
        "*t",
        "*/cart",
        "*a/cart",
        "*/sa/cart",
        "*p/sa/cart",
        "*/shop/sa/cart",
        "*ns/shop/sa/cart",
        "*/ns/shop/sa/cart",
        "*l/ns/shop/sa/cart",
    ] {
        assert_eq!(rule(pattern), [], "{pattern}");
    }
}

#[test]
fn a_host_that_another_rule_always_decides_is_warned_of() {
    let found = of_rules(
        "ingress",
        &[
            "name: yes, action: allow, hosts: [a.example.com, b.example.com]",
            "name: no, action: deny, hosts: [A.example.com.]",
        ],
    );
    assert_one(
        &found,
        "hosts.ingress.rules[0].hosts[0]",
        "\"a.example.com\" is denied by rule \"no\" too, and at a tie deny wins",
    );
    // Without a host that is its own, the rule never matches.
    let found = of_rules(
        "ingress",
        &[
            "name: first, action: allow, hosts: [a.example.com, '*.b.example.com']",
            "name: late, action: allow, hosts: [a.example.com, '*.b.example.com:80'], ports: [80]",
        ],
    );
    assert_one(
        &found,
        "hosts.ingress.rules[1]",
        "rule \"late\" can never match: \"a.example.com\" and 1 more host are in the earlier rule \"first\" too, which holds whenever this one does",
    );
    // The same condition, written in another order, beside one more.
    let found = of_rules(
        "egress",
        &[
            "name: a, action: deny, hosts: [x.example], from: {namespaces: [p, q]}",
            "name: b, action: deny, hosts: [x.example], from: {namespaces: [q, p], cidrs: [10.1.0.0/16]}",
        ],
    );
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, "hosts.egress.rules[1]");
}

#[test]
fn a_host_written_twice_is_warned_of() {
    let found = of_rules(
        "ingress",
        &["name: a, action: allow, hosts: [a.example.com, A.Example.com., '0x7f.1', 127.0.0.1]"],
    );
    assert_one(
        &found,
        "hosts.ingress.rules[0].hosts[1]",
        "\"A.Example.com.\" and 1 more host are in this rule already, as \"a.example.com\"",
    );
    let found = of_rules(
        "ingress",
        &[
            "name: a, action: allow, hosts: [a.example.com]",
            "name: b, action: allow, hosts: [b.example.com, a.example.com]",
        ],
    );
    assert_one(
        &found,
        "hosts.ingress.rules[1].hosts[1]",
        "\"a.example.com\" is in rule \"a\" too, of the same action and conditions",
    );
}

#[test]
fn conditions_that_contradict_each_other_are_warned_of() {
    for (section, rule, path, message) in [
        (
            "ingress",
            "hosts: ['a.example.com:80', b.example.com], ports: [443]",
            ".hosts[0]",
            "\"a.example.com:80\" is for a port that is not in ports",
        ),
        (
            "ingress",
            "hosts: [a.example.com, b.example.com], notHosts: ['*.example.com']",
            "",
            "rule \"r\" can never match: \"a.example.com\" is in notHosts, and 1 more likewise",
        ),
        (
            "ingress",
            "hosts: [10.1.0.0/16], notHosts: [10.0.0.0/8]",
            "",
            "rule \"r\" can never match: \"10.1.0.0/16\" is in notHosts",
        ),
        (
            "egress",
            "hosts: [a.example.com], directions: [unknown]",
            ".directions",
            "no request is unknown at egress, so rule \"r\" can never match",
        ),
        (
            "egress",
            "hosts: [a.example.com], directions: [east-west]",
            "",
            "rule \"r\" can never match: \"a.example.com\" is outside the mesh, and north-south is not in directions",
        ),
        (
            "egress",
            "hosts: [a.example.com], from: {principals: [cluster.local/ns/a/sa/b], notPrincipals: [cluster.local/ns/a/*]}",
            ".from.notPrincipals",
            "leaves out all of from.principals, so rule \"r\" can never match",
        ),
        (
            "egress",
            "hosts: [a.example.com], from: {principals: [cluster.local/ns/a/sa/b], namespaces: [c]}",
            ".from.namespaces",
            "has the namespace of none of from.principals, so rule \"r\" can never match",
        ),
        (
            "ingress",
            "hosts: [a.example.com], from: {cidrs: [10.1.0.0/16, 10.2.3.4], notCidrs: [10.0.0.0/8]}",
            ".from.notCidrs",
            "leaves out all of from.cidrs, so rule \"r\" can never match",
        ),
        (
            "outbound",
            "hosts: [a.example.com], from: {namespaces: [a]}",
            ".from.namespaces",
            "needs an identity, and at outbound the application's connection has none, so rule \"r\" can never match",
        ),
    ] {
        let found = of_rules(section, &[&format!("name: r, action: allow, {rule}")]);
        assert_one(&found, &format!("hosts.{section}.rules[0]{path}"), message);
    }
}

#[test]
fn an_allowed_pattern_as_wide_as_a_public_suffix_is_warned_of() {
    let wide = "name: a, action: allow, hosts: ['*', '*.com', 0.0.0.0/0, '::/0', '*:443', '*.example.com']";
    let found = of_rules("egress", &[wide]);
    let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    let expected: Vec<String> = (0..5)
        .map(|host| format!("hosts.egress.rules[0].hosts[{host}]"))
        .collect();
    assert_eq!(paths[..5], expected);
    // `*` holds for every port.
    assert_eq!(found[5].1, "\"*:443\" is in this rule already, as \"*\"");
    assert!(
        found[1].1.contains("allows every name below com"),
        "{found:?}"
    );
    assert_eq!(
        of_rules("inbound", &["name: a, action: allow, hosts: ['*']"]),
        []
    );
}

#[test]
fn names_that_look_alike_are_warned_of() {
    let found = warnings_of(&format!(
        "{MESH}hosts:\n  ingress: {{rules: [{{name: a, action: allow, hosts: [shop.example.com]}}]}}\n  \
         egress: {{rules: [{{name: b, action: allow, hosts: ['*.\u{455}hop.example.com', \u{430}\u{440}\u{440}\u{4cf}\u{435}.com]}}]}}",
    ));
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[0].0, "hosts.egress.rules[0].hosts[0]");
    assert!(
        found[0]
            .1
            .ends_with("looks like \"shop.example.com\" at hosts.ingress.rules[0].hosts[0]"),
        "{found:?}"
    );
    assert!(
        found[1].1.ends_with("looks like a name in ASCII letters"),
        "{found:?}"
    );
}

#[test]
fn warnings_fail_only_in_strict_mode() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hosts: {ingress: {default: allow}}").unwrap();
    for (strict, code) in [(false, 0), (true, 1)] {
        let output = Command::new(env!("CARGO_BIN_EXE_meridian"))
            .args(["check", "--json", "--policy"])
            .arg(file.path())
            .args(strict.then_some("--strict"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(code));
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(value["errors"], json!([]));
        assert_eq!(
            value["warnings"][0],
            json!({
                "path": "mesh.cidrs",
                "message": "is empty, so without an identity every caller counts as outside",
                "hint": "list the networks of pods and services, such as 10.0.0.0/8",
            })
        );
    }
}

/// Rules over the same host are looked up by their conditions, not compared in pairs.
#[test]
fn thousands_of_rules_for_the_same_hosts_are_checked_without_comparing_pairs() {
    let rules: Vec<Value> = (0..2_000)
        .map(|rule| {
            json!({
                "name": format!("r{rule}"),
                "action": "deny",
                "hosts": (0..20).map(|host| format!("h{host}.example.com")).collect::<Vec<_>>(),
                "from": {"namespaces": [format!("n{rule}")]},
            })
        })
        .collect();
    let policy = json!({"hosts": {"egress": {"rules": rules}}}).to_string();
    assert_eq!(warnings_of(&policy).len(), 2);
}
