//! Proposals as a change of the policy's file, applied by the real `patch`.

use serde_json::{Value, json};

use super::*;

#[test]
fn the_diff_applies_to_policies_of_every_form() {
    let sample = include_str!("../../../../examples/policy.yaml");
    let mut log = times(2, &at_egress("api.other.example"));
    log.extend(times(2, &refused("ingress", "intranet.example.com", None)));
    for policy in [
        sample,
        &sample.replace('\n', "\r\n"),
        "# nothing but a comment\nmesh: {cidrs: [10.0.0.0/8]}",
        "hosts:\n  egress:\n    rules: [] # none yet\n  # the edge\n  ingress: {default: deny}\n",
        "hosts:\n  ingress:\n    rules:\n    - {name: learned-example-com, hosts: [a.example], action: deny}\n    # end\n",
        "{\"hosts\": {\"egress\": {\"rules\": [\n  {\"name\": \"a\", \"hosts\": [\"a.example\"], \"action\": \"allow\"}\n]}}}\n",
        "{}",
    ] {
        let world = World::new(&log);
        world.write("policy.yaml", policy);
        let (diff, code) = world.learn(&["--policy", "policy.yaml", "--format", "diff"]);
        assert_eq!(code, Some(1), "{policy}");
        assert_eq!(diff.contains("action: allow\r\n"), policy.contains("\r\n"));
        world.patch(&diff);
        world.check("policy.yaml");
        for (at, host) in [
            ("egress", "api.other.example"),
            ("ingress", "intranet.example.com"),
        ] {
            let (decision, _) = world.explain(at, host, &[]);
            assert_eq!(decision, "allow", "{host} {policy}");
            let (decision, _) = world.explain(at, &format!("x.{host}"), &[]);
            assert_eq!(decision, "deny", "{host} {policy}");
        }
        let patched = std::fs::read_to_string(world.path("policy.yaml")).unwrap();
        let comments = |text: &str| text.matches('#').count();
        assert!(comments(&patched) >= comments(policy), "{patched}");
        // What is allowed now is not proposed again.
        let (again, code) = world.learn(&["--policy", "policy.yaml", "--format", "diff"]);
        assert_eq!(code, Some(0), "{again}");
        assert!(
            again.contains("2 hosts allowed by the policy already"),
            "{again}"
        );
        assert!(!again.contains("+++"), "{again}");
    }
}

#[test]
fn the_diff_of_the_sample_adds_lines_and_nothing_else() {
    let world = World::new(&times(2, &at_egress("api.other.example")));
    world.sample();
    let (diff, _) = world.learn(&["--policy", "policy.yaml", "--format", "diff"]);
    assert_eq!(
        diff,
        "# 2 entries looked at, 1 rule proposed
--- policy.yaml
+++ policy.yaml
@@ -43,6 +43,11 @@
     - name: no-trackers
       hosts: [tracker.example, \"*.tracker.example\"]
       action: deny
+    # 2 requests by shop/cart, 2026-11-24T10:00:00Z
+    - name: learned-other-example
+      hosts:
+      - api.other.example
+      action: allow
   outbound: {default: allow}
   inbound: {default: allow}
 sni: {mismatch: deny, status: 421}
"
    );
}

#[test]
fn a_diff_that_cannot_be_placed_is_refused() {
    let world = World::new(&times(2, &at_egress("api.other.example")));
    world.write(
        "policy.yaml",
        "hosts:\n  ingress: &a\n    rules:\n    - {name: a, hosts: [a.example], action: allow}\n  egress: *a\n",
    );
    let output = world.meridian(&[
        "learn",
        "--policy",
        "policy.yaml",
        "--format",
        "diff",
        "access.log",
    ]);
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("use --format fragment"), "{error}");
}

#[test]
fn a_section_is_not_filled_beyond_what_it_holds() {
    let mut log = Vec::new();
    for number in 0..4 {
        log.extend(times(2, &at_egress(&format!("api.o{number}.example"))));
    }
    let world = World::new(&log);
    for (room, rules, hosts, without_room) in [(2, 2, 4, 0), (1, 1, 4, 0), (0, 0, 0, 1)] {
        let names = 0..meridian_policy::MAX_RULES - room;
        let written: Vec<Value> = names
            .map(|name| json!({"name": format!("r{name}"), "hosts": ["a.example"], "action": "allow"}))
            .collect();
        let policy = json!({"hosts": {"egress": {"rules": written}}});
        world.write("policy.yaml", policy.to_string());
        let found = world.json(&["--policy", "policy.yaml"]);
        assert_eq!(found["proposals"].as_array().unwrap().len(), rules);
        assert_eq!(found["without_room"], without_room);
        let patterns = world.patterns(&["--policy", "policy.yaml"]);
        assert_eq!(patterns.len(), hosts, "{patterns:?}");
    }
    let (text, code) = world.learn(&["--policy", "policy.yaml"]);
    assert_eq!(code, Some(0));
    assert!(text.contains("NOT ALL: no room for 1 rule,"), "{text}");
}

#[test]
fn only_what_the_policy_does_not_allow_today_is_proposed() {
    let world = World::new(&times(2, &at_egress("api.other.example")));
    let is_proposed = |section: &str| {
        let policy = format!("hosts: {{egress: {{{section}}}}}");
        world.write("policy.yaml", policy);
        let found = world.json(&["--policy", "policy.yaml"]);
        let proposals = found["proposals"].as_array().unwrap().len();
        assert_eq!(
            proposals
                + found["suspicious"].as_array().unwrap().len()
                + usize::from(found["allowed_already"] == 1),
            1,
            "{found}"
        );
        proposals == 1
    };
    let rule = |rest: &str| format!("rules: [{{name: a, hosts: [api.other.example], {rest}}}]");
    for rest in [
        "action: allow, dryRun: true",
        "action: allow, expires: 2020-01-01",
        "action: deny, expires: 2020-01-01",
        "action: allow, from: {namespaces: [other]}",
        "action: allow, ports: [8443]",
    ] {
        assert!(is_proposed(&rule(rest)), "{rest}");
    }
    for rest in [
        "action: allow",
        "action: allow, from: {namespaces: [shop]}",
        "action: deny, dryRun: true",
        "action: deny, ports: [8443]",
    ] {
        assert!(!is_proposed(&rule(rest)), "{rest}");
        let in_dry_run = format!("mode: dryRun, {}", rule(rest));
        assert!(!is_proposed(&in_dry_run), "{in_dry_run}");
    }
    assert!(is_proposed("default: allow"));
}
