//! `meridian learn`: from refused to allowed, and what is never proposed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

const SHOP: &str = "spiffe://cluster.local/ns/shop/sa/cart";
const ADMIN: &str = "spiffe://cluster.local/ns/admin/sa/web";

/// A folder with a log and a policy.
struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new(log: &[Value]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lines: String = log.iter().map(|entry| format!("{entry}\n")).collect();
        std::fs::write(folder.path().join("access.log"), lines).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn sample(&self) {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/policy.yaml");
        std::fs::copy(sample, self.path("policy.yaml")).unwrap();
    }

    fn meridian(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_meridian"))
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// What `learn` prints, and its exit code.
    fn learn(&self, arguments: &[&str]) -> (String, Option<i32>) {
        let output = self.meridian(&[&["learn"], arguments, &["access.log"]].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        if output.status.code() == Some(2) {
            panic!("{}", String::from_utf8_lossy(&output.stderr));
        }
        (text, output.status.code())
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let (text, _) = self.learn(&[&["--json"], arguments].concat());
        serde_json::from_str(&text).unwrap()
    }

    /// `[at, pattern]` of everything that is proposed.
    fn patterns(&self, arguments: &[&str]) -> Vec<Value> {
        let found = self.json(arguments);
        let proposals = found["proposals"].as_array().unwrap();
        let hosts = |proposal: &Value| {
            let at = proposal["at"].clone();
            let hosts = proposal["rule"]["hosts"].as_array().unwrap().clone();
            hosts.into_iter().map(move |host| json!([at, host]))
        };
        proposals.iter().flat_map(hosts).collect()
    }

    /// `[host, reasons…]` of everything that is listed apart.
    fn suspicious(&self, arguments: &[&str]) -> Vec<Value> {
        let found = self.json(arguments);
        let list = found["suspicious"].as_array().unwrap();
        let row = |each: &Value| {
            let reasons = each["reasons"].as_array().unwrap().iter();
            let mut row = vec![each["host"].clone()];
            row.extend(reasons.map(|reason| reason["reason"].clone()));
            Value::from(row)
        };
        list.iter().map(row).collect()
    }

    /// Applies a diff to `policy.yaml` as a person would.
    fn patch(&self, diff: &str) {
        let mut patch = Command::new("patch")
            .args(["--fuzz=0", "policy.yaml"])
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("the tests need `patch`, of the Debian package of that name");
        patch
            .stdin
            .take()
            .unwrap()
            .write_all(diff.as_bytes())
            .unwrap();
        assert!(patch.wait().unwrap().success(), "{diff}");
    }

    fn check(&self, policy: &str) {
        let output = self.meridian(&["check", "--policy", policy]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
    }

    /// `decision` and `rule` of a request.
    fn explain(&self, at: &str, authority: &str, more: &[&str]) -> (Value, Value) {
        let arguments = ["explain", "--json", "--policy", "policy.yaml", "--at", at];
        let output = self.meridian(&[&arguments[..], &["--authority", authority], more].concat());
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        (value["decision"].clone(), value["rule"].clone())
    }
}

/// A request that the default refused.
fn refused(at: &str, authority: &str, peer: Option<&str>) -> Value {
    json!({
        "time": "2026-11-24T10:00:00.123Z", "reporter": at, "decision": "deny", "rule": "default",
        "method": "GET", "authority": authority, "status": 403, "details": "meridian_deny{default}",
        "peer": peer, "source": "203.0.113.7:5000",
    })
}

fn at_egress(authority: &str) -> Value {
    refused("egress", authority, Some(SHOP))
}

fn times(count: usize, entry: &Value) -> Vec<Value> {
    vec![entry.clone(); count]
}

fn with(mut entry: Value, key: &str, value: impl Into<Value>) -> Value {
    entry[key] = value.into();
    entry
}

#[test]
fn the_fragment_says_who_asked_how_often_and_when() {
    let mut log = times(3, &at_egress("API.other.example"));
    log.push(with(
        refused("egress", "cdn.other.example:8443", Some(ADMIN)),
        "time",
        "2026-11-24T12:00:00Z",
    ));
    log.push(log[3].clone());
    log.extend(times(2, &refused("ingress", "intranet.example.com", None)));
    let world = World::new(&log);
    let (fragment, code) = world.learn(&[]);
    assert_eq!(
        fragment,
        "hosts:
  ingress:
    rules:
    # 2 requests by 203.0.113.0/24, 2026-11-24T10:00:00Z
    - name: learned-example-com
      hosts:
      - intranet.example.com
      action: allow
  egress:
    rules:
    # 5 requests by shop/cart (3), admin/web (2), 2026-11-24T10:00:00Z to 2026-11-24T12:00:00Z
    - name: learned-other-example
      hosts:
      - api.other.example  # 3 requests
      - cdn.other.example:8443  # 2 requests
      action: allow
# 7 entries looked at, 2 rules proposed
# at ingress any client can ask for any host: take the names that are yours
"
    );
    assert_eq!(code, Some(1));
    world.write("policy.yaml", &fragment);
    world.check("policy.yaml");
    let allowed = world.explain("egress", "cdn.other.example:8443", &[]);
    assert_eq!(allowed, (json!("allow"), json!("learned-other-example")));
    let other_port = world.explain("egress", "cdn.other.example:22", &[]);
    assert_eq!(other_port.0, "deny");
}

#[test]
fn the_diff_applies_to_policies_of_every_form() {
    let sample = include_str!("../../examples/policy.yaml");
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
@@ -39,6 +39,11 @@
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
fn what_looks_odd_is_listed_apart_and_never_proposed() {
    let mut log = Vec::new();
    for authority in [
        "api.partner.example",
        "198.51.100.7",
        "0x7f.1",
        "[2001:db8::1]:443",
        "redis",
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
        json!(["127.0.0.1", "address"]),
        json!(["198.51.100.7", "address"]),
        json!(["[2001:db8::1]", "address"]),
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
    let policy = meridian::policy_file::PolicyFile::parse(fragment.as_bytes()).unwrap();
    let rules = policy.json["hosts"]["egress"]["rules"].as_array().unwrap();
    assert_eq!(rules.len(), 2, "{fragment}");
    assert_eq!(fragment.matches("    # - name: ").count(), 8, "{fragment}");
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
fn nothing_but_odd_names_is_nothing_to_propose() {
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
    let policy = meridian::policy_file::PolicyFile::parse(text.as_bytes());
    // A manifest is no policy, but it is YAML: only its fields are unknown.
    let errors = policy.unwrap_err();
    assert!(!errors.to_string().contains("is not YAML"), "{errors}");
    yaml_serde::from_str(text).unwrap()
}

#[test]
fn logs_of_other_formats_and_selections_are_taken_as_asked() {
    let mut log = times(
        2,
        &json!({
            "authority": "istio.other.example", "method": "GET", "response_code": 403,
            "response_code_details": "meridian_deny{default}", "start_time": "2026-11-24T10:00:00.000Z",
            "downstream_remote_address": "10.0.0.1:4000", "requested_server_name": null,
        }),
    );
    let dry_run = with(at_egress("dry.other.example"), "decision", "allow");
    let dry_run = with(dry_run, "details", "via_upstream");
    log.extend(times(2, &with(dry_run, "dry_run", "deny{default}")));
    let allowed = with(at_egress("fine.other.example"), "decision", "allow");
    let allowed = with(allowed, "details", "via_upstream");
    log.extend(times(2, &allowed));
    let nowhere = with(allowed, "authority", "nowhere.other.example");
    log.extend(times(2, &with(nowhere, "flags", "NR")));
    let late = with(
        at_egress("late.other.example"),
        "time",
        "2026-11-24T11:00:00.000Z",
    );
    log.extend(times(2, &late));
    log.extend(times(2, &refused("ingress", "intranet.example.com", None)));
    let world = World::new(&log);
    let hosts = |arguments: &[&str]| -> String {
        let patterns = world.patterns(arguments);
        let first = |pattern: &Value| {
            let host = pattern[1].as_str().unwrap();
            host.split('.').next().unwrap().to_owned()
        };
        patterns.iter().map(first).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(hosts(&[]), "intranet dry late");
    assert_eq!(hosts(&["--at", "egress"]), "dry istio late");
    assert_eq!(hosts(&["--at", "egress", "--all"]), "dry fine istio late");
    assert_eq!(hosts(&["--since", "2026-11-24T10:30:00Z"]), "late");
    assert_eq!(hosts(&["--until", "2026-11-24T10:30:00Z"]), "intranet dry");
    assert_eq!(hosts(&["--until", "2026-11-24"]), "");
    assert_eq!(hosts(&["--min-requests", "3"]), "");
    assert_eq!(world.json(&[])["without_vantage"], 2);
}

#[test]
fn standard_input_gzip_and_malformed_lines() {
    let world = World::new(&[at_egress("api.other.example")]);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    writeln!(encoder, "{}", at_egress("api.other.example")).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_meridian"))
        .args(["learn", "access.log", "-"])
        .current_dir(world.folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // The first byte alone does not show what it is.
    let bytes = encoder.finish().unwrap();
    stdin.write_all(&bytes[..1]).unwrap();
    stdin.flush().unwrap();
    stdin.write_all(&bytes[1..]).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("# 2 requests by shop/cart"), "{text}");

    let log = format!(
        "what a proxy says of itself\n{0}\n{{\"a\n{0}\n",
        at_egress("a.example")
    );
    world.write("access.log", log);
    let output = world.meridian(&["learn", "access.log"]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("access.log:1: has no JSON object"),
        "{error}"
    );
    assert!(error.contains("access.log:3: is not JSON"), "{error}");
    assert!(error.contains("2 of 4 lines passed over"), "{error}");
}

#[test]
fn misuse_is_told_from_findings() {
    let world = World::new(&[]);
    world.write("bad.yaml", "hosts: {egress: {rule: []}}");
    world.write("other.log", "hello\n");
    for (arguments, error) in [
        (&["learn", "none.log"][..], "cannot open the log none.log"),
        (&["learn", "other.log"], "not one of 1 lines is an entry"),
        (&["learn", "-", "-"], "standard input can be read once"),
        (&["learn", "."], "is a folder"),
        (&["learn"], "required"),
        (
            &["learn", "--format", "diff", "access.log"],
            "--format diff needs --policy",
        ),
        (
            &["learn", "--policy", "bad.yaml", "access.log"],
            "the policy is refused",
        ),
        (&["learn", "--since", "soon", "access.log"], "how long ago"),
        (&["learn", "--at", "here", "access.log"], "ingress, egress"),
    ] {
        let output = world.meridian(arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?} {text}");
        assert!(text.contains(error), "{arguments:?} {text}");
    }
    // No traffic is nothing to propose.
    let (text, code) = world.learn(&["--since", "7d"]);
    assert_eq!(code, Some(0));
    assert_eq!(text, "# 0 entries looked at, 0 rules proposed\n");
}
