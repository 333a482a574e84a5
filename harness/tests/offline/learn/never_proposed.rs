//! What a client can write into a log and must not find in a rule.

use serde_json::{Value, json};

use super::*;

#[test]
fn what_looks_odd_is_listed_apart_and_never_proposed() {
    let mut log = Vec::new();
    for authority in [
        "api.partner.example",
        "198.51.100.7",
        "0x7f.1",
        "[2001:db8::1]:443",
        "redis",
        "-.-",
        "_.example",
        "xn--bcher-kva.example",
        "api.partn\u{435}r.example",
        "www.g00gle.com",
        "api.exarnple.com",
        "a b\n- name: evil\u{1b}[2J",
    ] {
        log.extend(times(3, &at_egress(authority)));
    }
    log.extend(times(9, &at_egress("www.google.com")));
    log.push(at_egress("once.other.example"));
    let by_rule = at_egress("tracker.other.example");
    log.extend(times(3, &with(by_rule, "rule", "no-trackers")));
    let by_rule_in_dry_run = with(at_egress("ads.other.example"), "decision", "allow");
    log.extend(times(
        3,
        &with(by_rule_in_dry_run, "dry_run", "deny{no-ads}"),
    ));
    let mismatch = with(at_egress("sni.other.example"), "rule", "sni-mismatch");
    log.extend(times(3, &mismatch));
    let world = World::new(&log);
    world.write(
        "policy.yaml",
        "hosts: {egress: {rules: [{name: example, hosts: [www.example.com], action: allow}]}}",
    );
    let arguments = ["--policy", "policy.yaml"];
    let expected = [
        json!(["-.-", "odd-name"]),
        json!(["127.0.0.1", "address"]),
        json!(["198.51.100.7", "address"]),
        json!(["[2001:db8::1]", "address"]),
        json!(["_.example", "odd-name"]),
        json!(["ads.other.example", "denied-by-rule"]),
        json!(["api.exarnple.com", "look-alike"]),
        json!(["once.other.example", "one-off"]),
        json!(["redis", "single-label"]),
        json!(["sni.other.example", "sni-mismatch"]),
        json!(["tracker.other.example", "denied-by-rule"]),
        json!(["www.g00gle.com", "look-alike"]),
        json!(["xn--bcher-kva.example", "punycode"]),
        json!(["\"a b\\n- name: evil\\u{1b}[2J\"", "invalid-host"]),
        json!(["\"api.partn\u{435}r.example\"", "invalid-host"]),
    ];
    assert_eq!(world.suspicious(&arguments), expected);
    let proposed = [
        json!(["egress", "www.google.com"]),
        json!(["egress", "api.partner.example"]),
    ];
    assert_eq!(world.patterns(&arguments), proposed);

    // As comments they are still no rules, and what a rule denied or is no host has none.
    let (fragment, _) = world.learn(&["--policy", "policy.yaml", "--include-suspicious"]);
    world.write("fragment.yaml", &fragment);
    world.check("fragment.yaml");
    let policy = meridian::policy::PolicyFile::parse(fragment.as_bytes()).unwrap();
    let rules = policy.json["hosts"]["egress"]["rules"].as_array().unwrap();
    assert_eq!(rules.len(), 2, "{fragment}");
    assert_eq!(fragment.matches("    # - name: ").count(), 10, "{fragment}");
    assert!(!fragment.contains("  - tracker."), "{fragment}");
    let is_safe = |char: char| !char.is_control() || char == '\n';
    assert!(fragment.chars().all(is_safe), "{fragment:?}");
    for line in fragment.lines() {
        assert!(!line.trim_start().starts_with("- name: evil"), "{fragment}");
    }
    for format in ["fragment", "diff", "service-entries"] {
        let (text, _) = world.learn(&["--policy", "policy.yaml", "--format", format]);
        assert!(text.chars().all(is_safe), "{text:?}");
        assert!(text.contains("not proposed, look first:"), "{text}");
    }
}

#[test]
fn a_log_of_odd_names_alone_exits_0_without_a_proposal() {
    let world = World::new(&times(3, &at_egress("198.51.100.7")));
    for format in ["fragment", "service-entries"] {
        let (text, code) = world.learn(&["--format", format]);
        assert_eq!(code, Some(0));
        assert!(text.lines().all(|line| line.starts_with('#')), "{text}");
    }
    let (text, code) = world.learn(&["--include-suspicious"]);
    assert_eq!(code, Some(0));
    assert!(
        text.lines().all(|line| line.trim_start().starts_with('#')),
        "{text}"
    );
}

#[test]
fn many_names_of_one_owner_become_a_wildcard_at_the_nearest_parent() {
    let mut log = Vec::new();
    for number in 0..5 {
        log.extend(times(
            2,
            &at_egress(&format!("c{number}.eu.cdn.example.com")),
        ));
        // Everybody can have names below these.
        log.extend(times(2, &at_egress(&format!("s{number}.github.io"))));
        log.extend(times(2, &at_egress(&format!("s{number}.co.uk"))));
        // A rule refuses names below this one.
        log.extend(times(2, &at_egress(&format!("t{number}.mixed.example"))));
        log.extend(times(
            2,
            &at_egress(&format!("s{number}.team-a.svc.cluster.local")),
        ));
    }
    for number in 0..4 {
        log.extend(times(2, &at_egress(&format!("w{number}.example.com"))));
    }
    // Asked for once each: made up, for all one can tell.
    for number in 0..30 {
        log.push(at_egress(&format!("x{number}.tunnel.example")));
    }
    log.push(at_egress("once.eu.cdn.example.com"));
    log.push(with(at_egress("no.mixed.example"), "rule", "no-mixed"));
    let world = World::new(&log);
    let patterns = |arguments: &[&str]| -> Vec<String> {
        let patterns = world.patterns(arguments);
        let text = |pattern: &Value| pattern[1].as_str().unwrap().to_owned();
        patterns.iter().map(text).collect()
    };
    let wildcards = |arguments: &[&str]| -> Vec<String> {
        let mut patterns = patterns(arguments);
        patterns.retain(|pattern| pattern.starts_with('*'));
        patterns
    };
    assert_eq!(
        wildcards(&[]),
        ["*.eu.cdn.example.com", "*.team-a.svc.cluster.local"]
    );
    assert!(patterns(&[]).contains(&"w0.example.com".to_owned()));
    assert!(
        !patterns(&[])
            .iter()
            .any(|pattern| pattern.contains("tunnel"))
    );
    assert_eq!(
        wildcards(&["--wildcard-threshold", "4"]),
        [
            "*.eu.cdn.example.com",
            "*.example.com",
            "*.team-a.svc.cluster.local"
        ]
    );
    assert!(wildcards(&["--wildcard-threshold", "0"]).is_empty());
    let tunnel = world
        .suspicious(&[])
        .into_iter()
        .filter(|row| row[0].as_str().unwrap().contains("tunnel"))
        .collect::<Vec<_>>();
    assert_eq!(tunnel, [json!(["tunnel.example", "one-off"])]);

    // A wildcard that would win over a wider denial is not proposed, nor one that loses.
    for denied in ["*", "*.com", "*.cdn.example.com", "*.eu.cdn.example.com"] {
        world.write(
            "policy.yaml",
            format!(
                "hosts: {{egress: {{rules: [{{name: no, hosts: ['{denied}'], action: deny, from: {{namespaces: [other]}}}}]}}}}"
            ),
        );
        let wildcards = wildcards(&["--policy", "policy.yaml"]);
        assert!(
            !wildcards.contains(&"*.eu.cdn.example.com".to_owned()),
            "{denied}"
        );
        let listed = world.suspicious(&["--policy", "policy.yaml"]);
        let apart = json!(["c0.eu.cdn.example.com", "denied-by-rule"]);
        assert!(listed.contains(&apart), "{denied}");
    }
    let (fragment, _) = world.learn(&[]);
    let also = "    # LOOK FIRST: a wildcard allows 1 name of those listed apart\n";
    assert_eq!(fragment.matches(also).count(), 1, "{fragment}");
    let line = "- \"*.eu.cdn.example.com\"  # for 5 names: c0.eu.cdn.example.com, c1.eu";
    assert!(fragment.contains(line), "{fragment}");
    world.write("fragment.yaml", &fragment);
    world.check("fragment.yaml");
}
