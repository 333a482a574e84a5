//! `meridian check`: the keys of its JSON, and documents that are none.

use serde_json::json;

use crate::command::{json_of, policy, sample};

#[test]
fn check_reports_every_error_with_its_place() {
    let bad =
        policy(b"mesh: {cidrs: [10.0.0.1/8]}\nhosts: {ingress: {default: maybe}}\nextra: 1\n");
    let (value, code) = json_of(&["check", "--json", "--policy", bad.path().to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert_eq!(
        value["errors"],
        json!([
            {"path": "extra", "message": "is not a field", "hint": "the fields here are mesh, components, hosts, sni, deny, tags, metrics, revision"},
            {"path": "mesh.cidrs[0]", "message": "\"10.0.0.1/8\" has bits set behind its prefix", "hint": "write 10.0.0.0/8 or the single address"},
            {"path": "hosts.ingress.default", "message": "is \"maybe\"", "hint": "write one of allow, deny"},
        ])
    );
    let (value, code) = json_of(&["check", "--json", "--policy", sample().to_str().unwrap()]);
    assert_eq!(
        (&value["errors"], &value["warnings"], code),
        (&json!([]), &json!([]), Some(0))
    );
    let revision = value["revision"].as_str().unwrap();
    assert!(
        revision.len() == 12 && u64::from_str_radix(revision, 16).is_ok(),
        "{revision}"
    );
    // Of the sample policy, at ingress: default, invalid-host, sni-mismatch and two rules, by direction
    // and component type; responses, a histogram and two gauges.
    assert_eq!(value["series"]["ingress"], 5 * 6 + 4 * 3 + 18 + 3 * 18 + 2);
}

#[test]
fn check_reports_text_that_is_no_policy_as_an_error() {
    for text in [
        &b""[..],
        b"\xff\xfe",
        b"[1, 2",
        b"null",
        b"a: &a [*a]",
        b"- 1",
        b"\0",
        b"{\"hosts\": 1e999}",
    ] {
        let file = policy(text);
        let (value, code) =
            json_of(&["check", "--json", "--policy", file.path().to_str().unwrap()]);
        assert_eq!(code, Some(1), "{text:?}");
        let error = &value["errors"][0];
        for key in ["path", "message", "hint"] {
            assert!(error[key].is_string(), "{text:?}: {value}");
        }
    }
}
