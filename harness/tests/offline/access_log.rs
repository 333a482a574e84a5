//! Access logs as they are found: in several formats, compressed, mixed with other output.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use meridian::access_log::{Entry, Log, LoggedCaller, Problem, Summary, read, read_lines};
use meridian_policy::{Action, Vantage};

fn entry(json: &str) -> Entry<'_> {
    serde_json::from_str(json).unwrap()
}

/// The hosts of a log's entries, and what else was in it.
fn hosts(log: &[u8]) -> (Vec<String>, Summary) {
    let mut hosts = Vec::new();
    let mut summary = Summary::default();
    read_lines(log, "a.log", &mut summary, |entry| {
        hosts.push(entry.host().unwrap_or_default().into_owned());
    });
    (hosts, summary)
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn what_the_log_says_is_taken_as_it_is() {
    let entry = entry(
        r#"{"time": "2026-11-24T10:00:00.123Z", "reporter": "egress", "decision": "allow",
            "rule": "partners", "dry_run": "deny{default}", "host": "api.partner.example",
            "port": 8443, "method": "GET", "authority": "API.partner.example:8443", "status": 200,
            "details": "meridian_deny{other}", "direction": "north-south", "duration_ms": 12,
            "source": "[2001:db8::1]:5000", "peer": "spiffe://cluster.local/ns/shop/sa/cart"}"#,
    );
    assert_eq!(entry.vantage(), Some(Vantage::Egress));
    assert_eq!(entry.decision(), Some(Action::Allow));
    assert_eq!(entry.rule(), Some("partners"));
    let dry_run = entry.dry_run().unwrap();
    assert_eq!((dry_run.decision, dry_run.rule), (Action::Deny, "default"));
    assert_eq!(entry.host().as_deref(), Some("api.partner.example"));
    assert_eq!(entry.port(), Some(8443));
    assert_eq!(entry.duration_ms, Some(12));
    assert_eq!(entry.source_ip().unwrap().to_string(), "2001:db8::1");
    assert_eq!(
        entry.timestamp().unwrap().as_millisecond(),
        1_795_514_400_123
    );
    let caller = LoggedCaller::Workload {
        namespace: "shop",
        account: "cart",
    };
    assert_eq!(entry.caller(), caller);
    assert!(!entry.is_connection());
}

#[test]
fn what_the_log_does_not_say_comes_from_what_it_says() {
    for (json, decision, rule, host, port) in [
        (
            r#"{"method": "GET", "authority": "Shop.Example.com.:80", "details": "meridian_deny{default}"}"#,
            Some(Action::Deny),
            Some("default"),
            Some("shop.example.com"),
            Some(80),
        ),
        (
            r#"{"method": "GET", "authority": "a,b", "details": "meridian_invalid_host"}"#,
            Some(Action::Deny),
            Some("invalid-host"),
            None,
            None,
        ),
        (
            r#"{"method": "GET", "authority": "0x7f.1", "details": "meridian_sni_mismatch"}"#,
            Some(Action::Deny),
            Some("sni-mismatch"),
            Some("127.0.0.1"),
            None,
        ),
        // Istio's default format, with what it writes for nothing.
        (
            r#"{"authority": "a.example", "method": "GET", "response_code": 200,
                "response_code_details": "via_upstream", "downstream_remote_address": "10.0.0.1:4000",
                "requested_server_name": null, "start_time": "2026-11-24T10:00:00.123Z",
                "upstream_cluster": "outbound|80||a.example", "connection_termination_details": null}"#,
            Some(Action::Allow),
            None,
            Some("a.example"),
            None,
        ),
        (
            r#"{"authority": null, "method": null, "protocol": null, "response_code": 0,
                "response_code_details": null, "requested_server_name": "outbound_.8443_._.A.example",
                "downstream_local_address": "10.0.0.1:15443"}"#,
            Some(Action::Allow),
            None,
            Some("a.example"),
            Some(8443),
        ),
        (
            r#"{"sni": "-", "destination": "[::ffff:198.51.100.7]:443", "details": "meridian_deny{default}"}"#,
            Some(Action::Deny),
            Some("default"),
            Some("198.51.100.7"),
            None,
        ),
        // As the rendered mesh configuration has Istio write it, with the registry's metadata.
        (
            r#"{"method": "GET", "authority": "cart.shop", "status": 200, "details": "via_upstream",
                "termination": null, "destination": "10.96.0.7:80", "received_bytes": 0, "sent_bytes": 9,
                "cluster": "outbound|80||cart.shop.svc.cluster.local", "external": true, "services":
                [{"host": "cart.shop.svc.cluster.local", "name": "cart", "namespace": "shop"}]}"#,
            Some(Action::Allow),
            None,
            Some("cart.shop"),
            None,
        ),
        (
            r#"{"method": null, "authority": null, "protocol": null, "status": 0, "sni": "a.example",
                "details": "meridian_deny{default}", "destination": "10.96.0.7:443", "services": null}"#,
            Some(Action::Deny),
            Some("default"),
            Some("a.example"),
            None,
        ),
        // A request that Envoy could not read is no connection, whatever its SNI says.
        (
            r#"{"sni": "a.example", "status": 400, "details": "http1.codec_error"}"#,
            Some(Action::Allow),
            None,
            None,
            None,
        ),
    ] {
        let entry = entry(json);
        assert_eq!(entry.decision(), decision, "{json}");
        assert_eq!(entry.rule(), rule, "{json}");
        assert_eq!(entry.host().as_deref(), host, "{json}");
        assert_eq!(entry.port(), port, "{json}");
    }
}

#[test]
fn wrong_types_and_repeated_keys_are_no_errors() {
    let entry = entry(
        r#"{"status": "403", "response_code": 200, "port": 70000, "path": ["/"], "method": {"a": [1]},
            "duration_ms": -1, "host": 7, "flags": true, "listener": "a", "listener": "b"}"#,
    );
    let expected = Entry {
        status: Some(403),
        host: Some("7".into()),
        listener: Some("a".into()),
        ..Entry::default()
    };
    assert_eq!(entry, expected);
}

#[test]
fn a_caller_is_a_workload_or_an_address() {
    for (json, caller) in [
        (
            r#"{"peer": "spiffe://cluster.local/ns/shop", "source": "192.0.2.1:9"}"#,
            "Source(192.0.2.1)",
        ),
        (
            r#"{"peer": "cluster.local/ns/shop/sa/a", "source": "x"}"#,
            "Unknown",
        ),
        (r#"{"source": "@pipe"}"#, "Unknown"),
    ] {
        assert_eq!(format!("{:?}", entry(json).caller()), caller, "{json}");
    }
}

#[test]
fn lines_are_read_behind_what_a_container_runtime_writes() {
    let log = concat!(
        "2026-11-24T10:00:00.1Z stdout F {\"authority\": \"a.example\", \"method\": \"GET\"}\n",
        "[pod/shop-1/istio-proxy] {\"authority\": \"b.example\", \"method\": \"GET\"}\r\n",
        "\n",
        "{\"authority\": \"c.example\", \"method\": \"GET\"}",
    );
    let (hosts, summary) = hosts(log.as_bytes());
    assert_eq!(hosts, ["a.example", "b.example", "c.example"]);
    assert_eq!((summary.entries, summary.malformed), (3, 0));
}

#[test]
fn an_object_in_the_text_of_a_line_is_no_entry() {
    const ENTRY: &str = r#"{"authority": "a.example", "method": "GET"}"#;
    for (prefix, is_entry) in [
        ("", true),
        ("2026-11-24T10:00:00.123456789Z stderr F ", true),
        ("2026-11-24T10:00:00+01:00 ", true),
        ("[pod/shop-1/istio-proxy] 2026-11-24T10:00:00Z ", true),
        ("ingress_1   | ", true),
        ("ingress-1  | 2026-11-24T10:00:00.1Z ", true),
        ("2026-11-24T10:00:00.1Z stdout F user said ", false),
        ("user said ", false),
        ("[error] ", false),
        ("a b | ", false),
        ("[pod/a/b] c | ", false),
        ("stdout F ", false),
        ("\u{fffd}", false),
    ] {
        let line = format!("{prefix}{ENTRY}\n");
        let (_, summary) = hosts(line.as_bytes());
        assert_eq!(summary.entries == 1, is_entry, "{prefix}");
        assert_eq!(summary.malformed == 0, is_entry, "{prefix}");
    }
}

#[test]
fn malformed_lines_are_counted_and_the_first_are_named() {
    let mut log = concat!(
        "{\"authority\": \"a.example\"}\n",
        "2026-11-24T10:00:00Z info Envoy proxy is ready\n",
        "{\"level\": \"info\", \"msg\": \"hello\"}\n",
        "{\"authority\": \"b.exa\n",
    )
    .as_bytes()
    .to_vec();
    log.extend(b"{\"authority\": \"\xff\"}\n");
    log.extend(vec![b'{'; 3 << 20]);
    log.extend(b"\n{\"authority\": \"z.example\"}\n7\n7\n7\n");
    let (hosts, summary) = hosts(&log);
    assert_eq!(hosts, ["a.example", "z.example"]);
    assert_eq!((summary.entries, summary.malformed), (2, 8));
    let lines: Vec<u64> = summary
        .first
        .iter()
        .map(|malformed| malformed.line)
        .collect();
    assert_eq!(lines, [2, 3, 4, 5, 6]);
    assert_eq!(summary.first[0].to_string(), "a.log:2: has no JSON object");
    assert!(matches!(summary.first[1].problem, Problem::NoEntry));
    assert!(matches!(summary.first[2].problem, Problem::Json(_)));
    assert!(matches!(summary.first[3].problem, Problem::Json(_)));
    assert!(matches!(summary.first[4].problem, Problem::TooLong));
}

#[test]
fn gzip_is_seen_by_its_content_and_may_have_several_members() {
    let folder = tempfile::tempdir().unwrap();
    let (plain, packed) = (folder.path().join("a.log"), folder.path().join("b.log"));
    std::fs::write(&plain, "{\"authority\": \"a.example\"}\n").unwrap();
    let mut members = gzip("{\"authority\": \"b.example\"}\n{\"autho");
    members.extend(gzip("rity\": \"c.example\"}\n"));
    std::fs::write(&packed, &members).unwrap();
    let mut hosts = Vec::new();
    let logs = [Log::File(plain), Log::File(packed.clone())];
    let summary = read(&logs, |entry| hosts.extend(entry.host().map(String::from))).unwrap();
    assert_eq!(hosts, ["a.example", "b.example", "c.example"]);
    assert_eq!((summary.entries, summary.malformed), (3, 0));

    // A log that is still being written ends in the middle of a member.
    std::fs::write(&packed, &members[..members.len() - 12]).unwrap();
    hosts.clear();
    let summary = read(&logs, |entry| hosts.extend(entry.host().map(String::from))).unwrap();
    assert_eq!(hosts[..2], ["a.example", "b.example"]);
    let last = summary.first.last().unwrap();
    assert!(matches!(last.problem, Problem::Unreadable(_)), "{last}");
    assert_eq!(last.log, packed.display().to_string());
}

#[test]
fn a_folder_stands_for_the_logs_in_it_by_name_and_each_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("b.access.log"), "{\"authority\": \"b.example\"}\n").unwrap();
    let packed = gzip("{\"authority\": \"a.example\"}\n");
    std::fs::write(path("a.access.log.gz"), packed).unwrap();
    std::fs::write(path("envoy.log"), "[info] no access log\n").unwrap();
    let logs = [
        Log::File(folder.path().into()),
        Log::File(path("b.access.log")),
    ];
    let mut hosts = Vec::new();
    let summary = read(&logs, |entry| hosts.extend(entry.host().map(String::from))).unwrap();
    assert_eq!(hosts, ["a.example", "b.example"]);
    assert_eq!((summary.entries, summary.malformed), (2, 0));
}

#[test]
fn a_log_that_cannot_be_opened_or_has_nothing_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let missing = read(&[Log::File(folder.path().join("none"))], |_| {}).unwrap_err();
    assert!(
        missing.to_string().contains("cannot open the log"),
        "{missing}"
    );
    let no_logs = read(&[Log::File(folder.path().into())], |_| {}).unwrap_err();
    assert!(
        no_logs.to_string().contains("has no *.access.log"),
        "{no_logs}"
    );
    let other = folder.path().join("other");
    std::fs::write(&other, "hello\n").unwrap();
    let nothing = read(&[Log::File(other.clone())], |_| {}).unwrap_err();
    assert!(
        nothing.to_string().contains("not one of 1 lines"),
        "{nothing}"
    );
    // No traffic is no error.
    std::fs::write(&other, "\n").unwrap();
    assert_eq!(read(&[Log::File(other)], |_| {}).unwrap().entries, 0);
}
