//! `meridian test`: the expectations beside the sample policy, and how failures and mistakes are
//! told.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use quick_xml::events::Event;
use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_meridian"))
        .args(["test", "--policy", "examples/policy.yaml"])
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap()
}

/// A file that is removed with this value.
fn expectations(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn the_sample_policy_does_what_is_expected_of_it() {
    let output = run(&["examples/policy.test.yaml"]);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stdout}");
    assert_eq!(stdout, "16 passed, 0 failed\n");
}

const FAILING: &str = r#"
- name: met
  request: {at: ingress, authority: shop.example.com, source: "203.0.113.7:51234"}
  expect: {decision: allow}
- name: not met
  request: {at: ingress, authority: Admin.Apps.example.com, source: 10.1.2.3, tag: it's}
  expect: {decision: deny, rule: null, status: 403, direction: east-west, dry_run: {decision: deny}}
"#;

#[test]
fn a_failure_is_a_diff_with_its_reason_and_the_command_that_explains_it() {
    let file = expectations(FAILING);
    let name = file.path().to_str().unwrap();
    let output = run(&[name]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        format!(
            r#"FAIL not met ({name}[1])
  - decision: deny
  + decision: allow
  - rule: null
  + rule: storefront
  - status: 403
  + status: null
  - dry_run: {{"decision":"deny"}}
  + dry_run: null
  because rule "storefront" of hosts.ingress says allow
  $ meridian explain --policy examples/policy.yaml --at ingress --authority Admin.Apps.example.com --source 10.1.2.3 --tag 'it'\''s'

1 passed, 1 failed
"#
        )
    );
}

#[test]
fn a_failing_connection_is_told_with_its_command_too() {
    let file = expectations(
        r#"
- name: closed
  request: {at: egress, connection: true, sni: api.partner.example, destination: "[2001:db8::1]:8443", today: 2026-01-02}
  expect: {closed: true, component_type: system}
"#,
    );
    let name = file.path().to_str().unwrap();
    let output = run(&[name]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        format!(
            r#"FAIL closed ({name}[0])
  - closed: true
  + closed: false
  - component_type: system
  + component_type: null
  because rule "partners" of hosts.egress says allow
  $ meridian explain --policy examples/policy.yaml --at egress --destination '[2001:db8::1]:8443' --sni api.partner.example --today 2026-01-02 --connection

0 passed, 1 failed
"#
        )
    );
}

#[test]
fn json_and_junit_tell_the_same() {
    let file = expectations(FAILING);
    let name = file.path().to_str().unwrap();
    let report = tempfile::NamedTempFile::new().unwrap();
    let output = run(&[
        "examples/policy.test.yaml",
        name,
        "--json",
        "--junit",
        report.path().to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(1));
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&value["passed"], &value["failed"]),
        (&json!(17), &json!(1))
    );
    let cases = value["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 18);
    let failed = &cases[17];
    assert_eq!(
        (&failed["file"], &failed["name"], &failed["outcome"]),
        (&json!(name), &json!("not met"), &json!("failed"))
    );
    assert_eq!(
        failed["differences"][0],
        json!({"field": "decision", "expected": "deny", "actual": "allow"})
    );
    assert_eq!(failed["explanation"]["rule"], "storefront");

    let xml = std::fs::read_to_string(report.path()).unwrap();
    let mut reader = quick_xml::Reader::from_str(&xml);
    let mut elements = Vec::new();
    loop {
        match reader.read_event().unwrap() {
            Event::Start(element) | Event::Empty(element) => {
                let name = element.name().as_ref().to_owned();
                let count = |key| -> Option<String> {
                    let attribute = element.try_get_attribute(key).unwrap()?;
                    Some(attribute.value.into_owned())
                };
                elements.push((name, count("tests"), count("failures")));
            }
            Event::Eof => break,
            _ => {}
        }
    }
    let some = |text: &str| Some(text.to_owned());
    let of = |name: &str| -> Vec<_> {
        let named = elements.iter().filter(|(is, ..)| is == name);
        named
            .map(|(_, tests, failures)| (tests.clone(), failures.clone()))
            .collect()
    };
    assert_eq!(of("testsuites"), [(some("18"), some("1"))]);
    assert_eq!(
        of("testsuite"),
        [(some("16"), some("0")), (some("2"), some("1"))]
    );
    assert_eq!(of("testcase").len(), 18);
    assert_eq!(of("failure").len(), 1);
    assert!(xml.contains("- rule: null"), "{xml}");
}

#[test]
fn a_report_is_well_formed_whatever_the_names() {
    let file = expectations(
        "- name: \"<&\\\"\\u0007\\ufffe\"\n  request: {at: ingress, authority: a}\n  expect: {decision: allow}\n",
    );
    let report = tempfile::NamedTempFile::new().unwrap();
    let path = report.path().to_str().unwrap();
    let output = run(&[file.path().to_str().unwrap(), "--junit", path]);
    assert_eq!(output.status.code(), Some(1));
    let xml = std::fs::read_to_string(path).unwrap();
    assert!(
        xml.contains("name=\"&lt;&amp;&quot;\u{fffd}\u{fffd}\""),
        "{xml}"
    );
}

#[test]
fn mistakes_are_told_with_their_places() {
    let request = "request: {at: ingress, authority: a}";
    for (text, message) in [
        (
            "- {name: a, request: {at: nowhere, authority: a}, expect: {decision: deny}}".to_owned(),
            "[0].request.at: is \"nowhere\"; write one of ingress, egress, inbound, outbound",
        ),
        (
            "- {name: a, request: {at: ingress, authority: a, sorce: b}, expect: {decision: deny}}".to_owned(),
            "[0].request.sorce: unknown field `sorce`",
        ),
        (
            "- {name: a, request: {at: ingress, authority: a, source: b}, expect: {decision: deny}}".to_owned(),
            "[0].request.source: is \"b\"; write IP:PORT",
        ),
        (
            "- {name: a, request: {at: ingress, authority: a, principal: b}, expect: {decision: deny}}".to_owned(),
            "[0].request.principal: is \"b\"; write TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT",
        ),
        (
            "- {name: a, request: {at: ingress}, expect: {decision: deny}}".to_owned(),
            "[0].request.authority: is missing; write the host",
        ),
        (
            "- {name: a, request: {at: inbound, connection: true}, expect: {decision: deny}}".to_owned(),
            "[0].request.connection: is of gateways, a sidecar has no network filter",
        ),
        (
            "- {name: a, request: {at: egress, connection: true, authority: a}, expect: {decision: deny}}".to_owned(),
            "[0].request.authority: is of requests; write the connection's server name as sni",
        ),
        (
            "- {name: a, request: {at: egress, connection: true, tag: a}, expect: {decision: deny}}".to_owned(),
            "[0].request.tag: is of requests; a connection is decided by sni",
        ),
        (
            "- {name: a, request: {at: egress, authority: a, destination: b}, expect: {decision: deny}}".to_owned(),
            "[0].request.destination: is \"b\"; write IP:PORT",
        ),
        (
            "- {name: a, request: {at: egress, authority: a, today: tomorrow}, expect: {decision: deny}}".to_owned(),
            "[0].request.today: is \"tomorrow\"; write YYYY-MM-DD",
        ),
        (
            format!("- {{name: a, {request}, expect: {{}}}}"),
            "[0].expect: says nothing",
        ),
        (
            format!("- {{name: a, {request}, expect: {{dry_run: {{decison: deny}}}}}}"),
            "[0].expect.dry_run.decison: unknown field",
        ),
        (
            format!("- {{name: a, {request}, expect: {{evidence: guess}}}}"),
            "[0].expect.evidence: is \"guess\"; write one of mesh-identity",
        ),
        (
            format!("- {{name: a, {request}, expect: {{status: 403}}}}\n- {{name: a, {request}, expect: {{status: ok}}}}"),
            "[1].expect.status: invalid type",
        ),
        (
            format!("- {{name: a, {request}, expect: {{status: 403}}}}\n- {{name: a, {request}, expect: {{status: 403}}}}"),
            "[1].name: \"a\" is the name of an earlier expectation",
        ),
        (
            format!("- {{name: a, {request}, expect: {{status: 403, status: 404}}}}"),
            "duplicate",
        ),
        ("[]".to_owned(), "holds no expectation"),
        ("name: a".to_owned(), "is not a list of expectations"),
        ("- [".to_owned(), "is not a list of expectations"),
    ] {
        let file = expectations(&text);
        let output = run(&[file.path().to_str().unwrap()]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}: {stderr}");
        assert!(stderr.contains(message), "{text}: {stderr}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn every_mistake_of_every_file_is_told_at_once() {
    let first =
        expectations("- {name: a, request: {at: x, authority: a}, expect: {status: 1}}\n- 7\n");
    let second = expectations("{}");
    let output = run(&[
        first.path().to_str().unwrap(),
        second.path().to_str().unwrap(),
        "examples/policy.test.yaml",
    ]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stderr.lines().count(), 4, "{stderr}");
}

#[test]
fn a_file_that_is_not_there_is_misuse() {
    for arguments in [&["/no/such/file"][..], &[]] {
        assert_eq!(run(arguments).status.code(), Some(2));
    }
}
