//! What is rendered for old Envoys.

use serde_json::Value;

use crate::command::meridian;

/// The rendered files as one text, and what is said beside.
fn rendered(version: &str) -> (String, String) {
    let output = meridian(&["render", "envoy", "--envoy-version", version]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    (String::from_utf8(output.stdout).unwrap(), stderr)
}

/// The file's configuration.
fn config(rendered: &str, name: &str) -> Value {
    let start = rendered.find(&format!("# {name}\n")).unwrap();
    let file = rendered[start..].split("\n---\n").next().unwrap();
    yaml_serde::from_str(file).unwrap()
}

#[test]
fn an_old_envoy_gets_only_what_it_knows_and_the_files_say_what_is_left_out() {
    let (text, stderr) = rendered("1.36.4");
    assert!(!text.contains("upstream_connect_mode"), "{text}");
    assert!(!text.contains("value: '%CEL("), "{text}");
    let listeners = &config(&text, "egress.yaml")["static_resources"]["listeners"];
    let names: Vec<_> = listeners
        .as_array()
        .unwrap()
        .iter()
        .map(|listener| listener["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["egress"]);
    let listeners = &config(&text, "ingress.yaml")["static_resources"]["listeners"];
    assert_eq!(listeners[2]["name"], "tls-passthrough");
    // In the header of each file that it is about, and once on stderr.
    for (sentence, files) in [
        ("Spans carry the direction of the tag header", 3),
        ("No TLS passes unread to the host of its server name", 1),
    ] {
        assert_eq!(text.matches(&format!("# {sentence}")).count(), files);
        let told = format!("left out for Envoy 1.36.4: {sentence}");
        assert_eq!(stderr.matches(&told).count(), 1, "{stderr}");
    }
    assert_eq!(text.matches("# For Envoy 1.36.0 and later.").count(), 3);
}

#[test]
fn newer_envoys_get_all_of_it() {
    let (newest, stderr) = rendered("1.40");
    assert!(stderr.is_empty(), "{stderr}");
    assert!(newest.contains("upstream_connect_mode"));
    assert!(newest.contains("value: '%CEL("));
    assert_eq!(newest.matches("# For Envoy 1.37.0 and later.").count(), 3);
    assert_eq!(rendered("1.37.0"), (newest, String::new()));
}

#[test]
fn an_envoy_that_is_not_tested_or_none_at_all_is_misuse() {
    for (version, why) in [
        (
            "1.35",
            "Envoy 1.35.0 is older than the oldest that Meridian is tested with, 1.36.0",
        ),
        ("newest", "write one such as 1.40 or 1.40.0"),
    ] {
        let output = meridian(&["render", "envoy", "--envoy-version", version]);
        assert_eq!(output.status.code(), Some(2));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(why), "{stderr}");
    }
}
