//! Filter state is one protobuf message, `google.protobuf.Struct`, that any reader of protobuf takes.

use std::collections::BTreeMap;

use crate::host::{Answers, Host};

/// The fields of a message, all of which have a length in this one.
///
/// # Panics
/// At anything that is not such a field, or that goes past the end.
fn fields(mut message: &[u8]) -> Vec<(u64, &[u8])> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let (key, rest) = varint(message);
        assert_eq!(key & 7, 2, "a field with a length");
        let (length, rest) = varint(rest);
        let (value, rest) = rest.split_at(usize::try_from(length).unwrap());
        fields.push((key >> 3, value));
        message = rest;
    }
    fields
}

fn varint(bytes: &[u8]) -> (u64, &[u8]) {
    let end = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap();
    let number = bytes[..=end].iter().rev();
    let number = number.fold(0, |number, byte| number << 7 | u64::from(byte & 0x7f));
    (number, &bytes[end + 1..])
}

/// The text under each key of a Struct of strings.
fn decode(state: &[u8]) -> BTreeMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut object = BTreeMap::new();
    for (number, entry) in fields(state) {
        assert_eq!(number, 1, "Struct.fields");
        let entry = fields(entry);
        let [(1, key), (2, value)] = entry[..] else {
            panic!("{entry:?} is no entry of a map");
        };
        let value = fields(value);
        let [(3, value)] = value[..] else {
            panic!("{value:?} is no Value.string_value");
        };
        assert_eq!(object.insert(text(key), text(value)), None, "a key once");
    }
    object
}

fn told(policy: &str, root_id: &str, answers: &Answers) -> BTreeMap<String, String> {
    let mut host = Host::with_policy(root_id, policy);
    assert_eq!(host.world().calls[4], "function declare_property");
    match root_id.ends_with(".tcp") {
        true => host.connection(answers),
        false => host.request(answers),
    };
    decode(&host.world().state["meridian"])
}

fn expected(fields: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = fields
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    owned.collect()
}

#[test]
fn filter_state_holds_the_whole_decision_of_a_request() {
    let policy = crate::policies::sample();
    let mut request = Answers::request("Shop.example.com:8443");
    request.property("source.address", "192.0.2.7:4711");
    assert_eq!(
        told(&policy, "ingress", &request),
        expected(&[
            ("reporter", "ingress"),
            ("direction", "north-south"),
            ("evidence", "outside-source"),
            ("component_type", "application"),
            ("decision", "allow"),
            ("rule", "storefront"),
            ("host", "shop.example.com"),
            ("port", "8443"),
        ])
    );
    assert_eq!(
        told(&policy, "ingress", &Answers::request("a.example,b.example")),
        expected(&[
            ("reporter", "ingress"),
            ("direction", "unknown"),
            ("evidence", "no-source"),
            ("component_type", "application"),
            ("decision", "deny"),
            ("rule", "invalid-host"),
        ])
    );
}

#[test]
fn a_connection_has_no_component_type() {
    let mut connection = Answers::default();
    connection.property("connection.requested_server_name", "evil.example.com");
    assert_eq!(
        told(&crate::policies::sample(), "egress.tcp", &connection),
        expected(&[
            ("reporter", "egress"),
            ("direction", "north-south"),
            ("evidence", "outside-sni"),
            ("decision", "deny"),
            ("rule", "default"),
            ("host", "evil.example.com"),
        ])
    );
}

/// The longest that there is, past the lengths that one byte holds.
#[test]
fn filter_state_holds_the_longest_names_whole() {
    let label = "a".repeat(63);
    let host = format!("{label}.{label}.{label}.{}", "b".repeat(61));
    let rule = "r".repeat(63);
    let policy = format!(
        r#"{{"hosts": {{"ingress": {{"default": "allow", "rules": [{{"name": "{rule}", "hosts": ["{host}"],
            "action": "deny", "dryRun": true}}]}}}}, "tags": {{"filterState": true}}}}"#
    );
    let told = told(&policy, "ingress", &Answers::request(&host));
    assert_eq!(told["host"], host);
    assert_eq!(told["dry_run"], format!("deny{{{rule}}}"));
    assert_eq!(told["rule"], "default");
}
