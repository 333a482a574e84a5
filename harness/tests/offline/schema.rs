//! The JSON Schema of the policy: it is current, describes every field, and agrees with the reader.

use std::path::{Path, PathBuf};

use jsonschema::Validator;
use meridian::policy::PolicyFile;
use meridian::verbs::schema::{schema, text};
use meridian_policy::{Document, Policy};
use serde_json::{Value, json};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn validator() -> Validator {
    jsonschema::draft202012::new(&schema()).unwrap()
}

fn yaml(text: &str) -> Value {
    yaml_serde::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn the_committed_schema_is_current() {
    let committed =
        std::fs::read_to_string(repository().join("examples/policy.schema.json")).unwrap();
    assert!(
        committed == text(),
        "run `cargo run -- schema > examples/policy.schema.json`"
    );
    assert!(jsonschema::meta::is_valid(&schema()));
}

#[test]
fn the_sample_policy_names_its_schema_and_keeps_to_it() {
    let text = std::fs::read_to_string(repository().join("examples/policy.yaml")).unwrap();
    assert!(text.starts_with("# yaml-language-server: $schema=policy.schema.json\n"));
    let validator = validator();
    let errors: Vec<String> = validator
        .iter_errors(&yaml(&text))
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert_eq!(errors, [""; 0]);
}

/// Calls `each` with the reader's name for every mapping of the schema and the mapping.
fn each_mapping(schema: &Value, path: &str, each: &mut impl FnMut(&str, &Value)) {
    let root = self::schema();
    let schema = match schema["$ref"].as_str() {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    if let Some(properties) = schema["properties"].as_object() {
        each(path, schema);
        for (name, property) in properties {
            let path = format!("{path}/{name}");
            each_mapping(property, &path, each);
        }
    }
    if !schema["items"].is_null() {
        each_mapping(&schema["items"], &format!("{path}/-"), each);
    }
}

#[test]
fn every_field_of_the_reader_is_described() {
    let mut mappings = 0;
    each_mapping(&schema(), "", &mut |path, mapping| {
        mappings += 1;
        let properties = mapping["properties"].as_object().unwrap();
        for (name, property) in properties {
            assert!(property["description"].is_string(), "{path}/{name}");
            let is_typed = ["type", "enum", "$ref", "anyOf"]
                .iter()
                .any(|key| !property[*key].is_null());
            assert!(is_typed, "{path}/{name}");
        }
        // The reader names its fields in the error of one that it does not have.
        let mut document = json!({"no-field": 1});
        for step in path
            .split('/')
            .skip(1)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
        {
            document = match step {
                "-" => json!([document]),
                name => json!({name: document}),
            };
        }
        let errors = Policy::from_json(document.to_string().as_bytes()).unwrap_err();
        let error = errors
            .iter()
            .find(|error| error.path.ends_with("no-field"))
            .unwrap_or_else(|| panic!("{path}: {errors:?}"));
        let fields: Vec<&str> = properties.keys().map(String::as_str).collect();
        assert_eq!(
            error.hint,
            format!("the fields here are {}", fields.join(", ")),
            "{path}"
        );
    });
    assert_eq!(mappings, 24);
}

/// Where the schema and the reader must say the same: a document, and whether it is a policy.
fn documents() -> Vec<(bool, String)> {
    let mut documents: Vec<(bool, String)> = Vec::new();
    let mut add = |good: bool, template: &str, texts: &[&str]| {
        documents.extend(
            texts
                .iter()
                .map(|text| (good, template.replace("TEXT", text))),
        );
    };
    add(
        true,
        "TEXT",
        &[
            "{}",
            "mesh: null",
            "hosts: {ingress: null}",
            "sni: {}",
            "components: {system: {}}",
        ],
    );
    add(
        false,
        "TEXT",
        &[
            "[]",
            "a",
            "1",
            "mesh: []",
            "extra: 1",
            "hosts: {ingres: {}}",
            "hosts: {ingress: []}",
        ],
    );
    add(
        true,
        "mesh: {TEXT}",
        &[
            "serviceDomain: Cluster.Local",
            "trustDomains: []",
            "trustDomains: [a, b.c]",
            "cidrs: [10.0.0.0/8, '2001:db8::/32', 10.1.2.3, '::1']",
            "hosts: ['*.mesh.internal', '*', a, 'a:80']",
            "namespaces: [a-1]",
            "gateways: {}",
            "cidrs: null",
            "gateways: {ingress: [{principal: a/ns/b/sa/c, filtered: true}, {principal: 'spiffe://a/ns/b/sa/c'}]}",
            "gateways: {egress: [{principal: a/ns/b/sa/c, hosts: [gate.example]}]}",
            "gateways: {ingress: [{principal: a/ns/b/sa/c, name: public, namespace: b, labels: {istio: ingress}}]}",
            "gateways: {egress: [{principal: a/ns/b/sa/c, name: null, namespace: null, labels: null}]}",
            "gateways: {egress: [{principal: a/ns/b/sa/c, labels: {gateway.networking.k8s.io/gateway-name: A_b.1, a: ''}}]}",
        ],
    );
    add(
        false,
        "mesh: {TEXT}",
        &[
            "serviceDomain: 1",
            "serviceDomain: '*.a'",
            "trustDomains: ['']",
            "trustDomains: [a/b]",
            "trustDomains: [A]",
            "trustDomains: ['a:1']",
            "trustDomains: a",
            "cidrs: [a]",
            "cidrs: [10.0.0.0/08]",
            "cidrs: [1]",
            "hosts: ['a*']",
            "namespaces: [A]",
            "namespaces: ['']",
            "gateways: {ingress: {}}",
            "gateways: {ingress: [{}]}",
            "gateways: {ingress: [{principal: a}]}",
            "gateways: {ingress: [{principal: a/ns/*/sa/c}]}",
            "gateways: {ingress: [{principal: a/ns/B/sa/c}]}",
            "gateways: {egress: [{principal: a/ns/b/sa/c, filtered: true}]}",
            "gateways: {ingress: [{principal: a/ns/b/sa/c, filtered: yes it is}]}",
            "gateways: {ingress: [{principal: a/ns/b/sa/c, name: ''}]}",
            "gateways: {ingress: [{principal: a/ns/b/sa/c, name: Public}]}",
            "gateways: {ingress: [{principal: a/ns/b/sa/c, name: 1}]}",
            "gateways: {ingress: [{principal: a/ns/b/sa/c, namespace: B}]}",
            "gateways: {egress: [{principal: a/ns/b/sa/c, labels: {}}]}",
            "gateways: {egress: [{principal: a/ns/b/sa/c, labels: [a]}]}",
            "gateways: {egress: [{principal: a/ns/b/sa/c, labels: {a: 1}}]}",
            "gateways: {egress: [{principal: a/ns/b/sa/c, labels: {a: -a}}]}",
            "gateways: {egress: [{principal: a/ns/b/sa/c, labels: {a b: c}}]}",
            "gateways: {egress: [{principal: a/ns/b/sa/c, labels: {A/b: c}}]}",
            "gateways: {egress: [{principal: a/ns/b/sa/c, labels: {a/: c}}]}",
        ],
    );
    add(
        true,
        "hosts: {ingress: {TEXT}}",
        &[
            "default: deny",
            "mode: dryRun",
            "rules: []",
            "default: null",
            "rules: null",
        ],
    );
    add(
        false,
        "hosts: {ingress: {TEXT}}",
        &[
            "default: maybe",
            "default: Deny",
            "mode: dry-run",
            "rules: {}",
            "rules: [null]",
            "rules: [{}]",
            "rules: [a]",
        ],
    );
    add(
        true,
        "hosts: {egress: {rules: [{name: a, action: allow, hosts: ['TEXT']}]}}",
        &[
            "a",
            "A.Example.com.",
            "*.example.com",
            "*",
            "*:443",
            "*.example.com:8443",
            "a:1",
            "a:",
            "10.0.0.0/8",
            "0x7f.1",
            "1.2.3.4:80",
            "[::1]",
            "[2001:db8::1]:443",
            "2001:db8::/32",
            "b\u{fc}cher.example",
            "*.\u{65e5}\u{672c}.example:443",
            "a_b.example",
        ],
    );
    add(
        false,
        "hosts: {egress: {rules: [{name: a, action: allow, hosts: ['TEXT']}]}}",
        &[
            "",
            "a b",
            "https://a.example",
            "*a.example",
            "a.*",
            "a*",
            "**",
            "a,b",
            "u@a",
            "a%41",
            "a?b",
            "*.*.a",
        ],
    );
    add(
        true,
        "hosts: {egress: {rules: [{name: 'TEXT', action: deny, hosts: [a]}]}}",
        &["a", "0", "-", "a-b-9"],
    );
    add(
        false,
        "hosts: {egress: {rules: [{name: 'TEXT', action: deny, hosts: [a]}]}}",
        &[
            "",
            "A",
            "a.b",
            "default",
            "invalid-host",
            "sni-mismatch",
            "\u{fc}",
        ],
    );
    add(
        true,
        "hosts: {egress: {rules: [{name: a, action: deny, hosts: [a], TEXT}]}}",
        &[
            "ports: [1, 65535]",
            "directions: [north-south, east-west, unknown]",
            "notHosts: ['*.a']",
            "dryRun: true",
            "dryRun: null",
            "from: {principals: [a/ns/b/sa/c, '*', 'a/*', '*/c']}",
            "from: {notPrincipals: ['a/ns/b/sa/*']}",
            "from: {namespaces: [a, 'a*', '*a', '*'], notNamespaces: [b]}",
            "from: {cidrs: [10.0.0.0/8], notCidrs: [10.1.2.3]}",
        ],
    );
    add(
        false,
        "hosts: {egress: {rules: [{name: a, action: deny, hosts: [a], TEXT}]}}",
        &[
            "gateways: []",
            "gateways: null",
            "gateways: a",
            "gateways: [A]",
            "ports: []",
            "ports: [0]",
            "ports: [65536]",
            "ports: ['80']",
            "ports: 80",
            "ports: null",
            "directions: []",
            "directions: [up]",
            "notHosts: []",
            "notHosts: null",
            "notHosts: ['a*']",
            "dryRun: 1",
            "from: {}",
            "from: null",
            "from: {principals: []}",
            "from: {principals: [a]}",
            "from: {principals: ['a*b']}",
            "from: {principals: ['**']}",
            "from: {principals: ['spiffe://a/ns/b/sa/c']}",
            "from: {principals: ['a/ns/B/*']}",
            "from: {principals: ['* c']}",
            "from: {namespaces: [a/b]}",
            "from: {namespaces: ['A*']}",
            "from: {notNamespaces: ['*_b']}",
            "from: {namespaces: ['']}",
            "from: {cidrs: [a]}",
            "from: {cidrs: null}",
            "from: {who: [a]}",
            "extra: 1",
        ],
    );
    add(
        false,
        "hosts: {egress: {rules: [{TEXT}]}}",
        &[
            "action: deny, hosts: [a]",
            "name: a, hosts: [a]",
            "name: a, action: deny",
            "name: a, action: deny, hosts: []",
            "name: a, action: deny, hosts: null",
            "name: a, action: deny, hosts: a",
            "name: a, action: deny, hosts: [1]",
            "name: a, action: drop, hosts: [a]",
        ],
    );
    add(
        true,
        "sni: {TEXT}",
        &[
            "mismatch: ignore",
            "mismatch: dryRun, status: 400",
            "status: 599",
            "status: null",
        ],
    );
    add(
        false,
        "sni: {TEXT}",
        &[
            "mismatch: allow",
            "status: 399",
            "status: 600",
            "status: '421'",
            "status: 421.5",
            "body: a",
        ],
    );
    add(
        true,
        "deny: {TEXT}",
        &["status: 404, body: ''", "body: null"],
    );
    add(
        false,
        "deny: {TEXT}",
        &["status: 200", "body: 1", "headers: {}"],
    );
    add(
        true,
        "tags: {TEXT}",
        &[
            "directionHeader: X-Dir",
            "componentHeader: null, evidenceHeader: null",
            "componentHeader: a, evidenceHeader: b",
        ],
    );
    add(
        false,
        "tags: {TEXT}",
        &[
            "directionHeader: null",
            "directionHeader: ''",
            "directionHeader: ':path'",
            "directionHeader: a_b",
            "directionHeader: Host",
            "componentHeader: X-Forwarded-For",
            "componentHeader: 9a",
            "evidenceHeader: x-envoy-a",
            "evidenceHeader: [a]",
            "other: a",
        ],
    );
    add(
        true,
        "revision: TEXT",
        &["0123456789ab", "'012345678901'", "null"],
    );
    add(
        false,
        "revision: TEXT",
        &["0123456789aB", "0123456789a", "0123456789abc", "''", "1"],
    );
    let gateway = "mesh: {gateways: {egress: [{name: a-1, principal: a/ns/b/sa/c}]}}\n";
    let rule = "hosts: {egress: {rules: [{name: a, action: deny, hosts: [a], gateways: [a-1]}]}}";
    documents.push((true, format!("{gateway}{rule}")));
    let long = "a".repeat(64);
    documents.extend([
        (true, format!("tags: {{directionHeader: {long}}}")),
        (false, format!("tags: {{directionHeader: {long}a}}")),
        (
            true,
            format!("components: {{system: {{namespaces: [{}]}}}}", &long[1..]),
        ),
        (
            false,
            format!("components: {{system: {{namespaces: [{long}]}}}}"),
        ),
        (
            true,
            format!(
                "hosts: {{egress: {{rules: [{{name: {}, action: deny, hosts: [a]}}]}}}}",
                &long[1..]
            ),
        ),
        (
            false,
            format!("hosts: {{egress: {{rules: [{{name: {long}, action: deny, hosts: [a]}}]}}}}"),
        ),
    ]);
    documents
}

#[test]
fn schema_and_reader_agree() {
    let validator = validator();
    let documents = documents();
    assert!(documents.len() > 160, "{}", documents.len());
    let mut wrong = Vec::new();
    for (good, text) in documents {
        let by_reader = PolicyFile::parse(text.as_bytes()).map(|_| ());
        let by_schema = validator.is_valid(&yaml(&text));
        if by_reader.is_ok() != good || by_schema != good {
            wrong.push(format!("{text}: reader {by_reader:?}, schema {by_schema}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What only the reader can tell. An editor shows no error, `meridian check` does.
#[test]
fn the_schema_is_never_stricter_than_the_reader() {
    let validator = validator();
    for text in [
        "mesh: {cidrs: [10.0.0.1/8]}",
        "mesh: {cidrs: ['::ffff:10.0.0.0/104']}",
        "hosts: {egress: {rules: [{name: a, action: deny, hosts: [a..b]}]}}",
        "hosts: {egress: {rules: [{name: a, action: deny, hosts: ['1.2.3.4.5']}]}}",
        "hosts: {egress: {rules: [{name: a, action: deny, hosts: [a]}, {name: a, action: deny, hosts: [b]}]}}",
        "tags: {componentHeader: x-traffic-direction}",
        "hosts: {egress: {rules: [{name: a, action: deny, hosts: [a], gateways: [a]}]}}",
        "mesh: {gateways: {ingress: [{principal: a/ns/b/sa/c, name: a}, {principal: a/ns/b/sa/d, name: a}]}}",
    ] {
        assert!(PolicyFile::parse(text.as_bytes()).is_err(), "{text}");
        assert!(validator.is_valid(&yaml(text)), "{text}");
    }
    let vectors = repository().join("tests/vectors/policies");
    for entry in std::fs::read_dir(vectors).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(Policy::from_document(&yaml_serde::from_str::<Document>(&text).unwrap()).is_ok());
        assert!(validator.is_valid(&yaml(&text)), "{}", path.display());
    }
}
