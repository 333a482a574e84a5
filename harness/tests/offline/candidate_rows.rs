//! The candidates that `meridian explain` shows: every rule whose hosts match, and why each lost.

use meridian::policy::PolicyFile;
use meridian::verbs::explain::candidate_rows::{Row, rows, to_text};
use meridian_policy::{Principal, Request, Subject, Vantage};

const POLICY: &str = r#"
mesh: {cidrs: [10.0.0.0/8]}
hosts:
  egress:
    rules:
    - {name: anyone, action: allow, hosts: ["*"]}
    - {name: shop, action: allow, hosts: ["*.partner.example"], from: {namespaces: [shop]}}
    - {name: not-ops, action: allow, hosts: ["*.partner.example"], from: {notPrincipals: ["cluster.local/ns/ops/*"]}}
    - {name: port, action: allow, hosts: ["api.partner.example:8443", "*.partner.example"]}
    - {name: first, action: allow, hosts: ["api.partner.example"]}
    - {name: second, action: allow, hosts: ["api.partner.example"]}
    - {name: inside, action: deny, hosts: ["api.partner.example"], directions: [east-west]}
    - {name: trial, action: deny, hosts: ["api.partner.example"], dryRun: true}
    - {name: cut, action: deny, hosts: ["*.partner.example"], notHosts: ["api.partner.example"]}
    - {name: net, action: deny, hosts: ["*"], from: {cidrs: [10.9.0.0/16]}, ports: [443]}
  inbound:
    rules:
    - {name: near, action: allow, hosts: ["*"], from: {cidrs: [10.9.0.0/16]}}
    - {name: far, action: allow, hosts: ["*"], from: {notCidrs: [10.9.0.0/16]}}
  ingress:
    mode: dryRun
    rules:
    - {name: shop, action: allow, hosts: [shop.example.com]}
    - {name: closed, action: deny, hosts: [shop.example.com]}
"#;

fn file() -> PolicyFile {
    PolicyFile::parse(POLICY.as_bytes()).unwrap()
}

fn told(rows: &[Row]) -> Vec<(&str, &str, &str, &str)> {
    rows.iter()
        .map(|row| {
            let (rule, pattern) = (row.rule.as_str(), row.pattern.as_str());
            (rule, pattern, row.outcome, row.reason.as_str())
        })
        .collect()
}

#[test]
fn a_request_without_an_identity() {
    let mut request = Request::new(b"API.partner.example");
    let rows = rows(&file(), Vantage::Egress, Subject::Request, &mut request);
    let (exact, suffix) = ("api.partner.example", "*.partner.example");
    assert_eq!(
        told(&rows),
        [
            (
                "inside",
                exact,
                "condition",
                "the direction is north-south, which is not in directions"
            ),
            (
                "trial",
                exact,
                "dry-run",
                "the rule is in dry run: it would deny"
            ),
            (
                "port",
                "api.partner.example:8443",
                "condition",
                "its host is for port 8443 alone"
            ),
            (
                "first",
                exact,
                "wins",
                "the first of those whose conditions hold"
            ),
            (
                "second",
                exact,
                "lost",
                "at a tie rule \"first\" wins, because it comes earlier"
            ),
            ("cut", suffix, "condition", "the host is in notHosts"),
            (
                "shop",
                suffix,
                "condition",
                "from.namespaces needs an identity, and the connection has none"
            ),
            (
                "not-ops",
                suffix,
                "condition",
                "from.notPrincipals needs an identity, and the connection has none"
            ),
            (
                "port",
                suffix,
                "lost",
                "its host is less specific than that of rule \"first\""
            ),
            (
                "net",
                "*",
                "condition",
                "the request's port is not in ports"
            ),
            (
                "anyone",
                "*",
                "lost",
                "its host is less specific than that of rule \"first\""
            ),
        ]
    );
    let table = to_text(&rows);
    assert!(
        table.contains("\n  first    api.partner.example       allow  wins       the first of"),
        "{table}"
    );
}

#[test]
fn the_caller_is_named_where_it_does_not_fit() {
    let mut request = Request::new(b"cdn.partner.example:443");
    request.peer = Principal::parse("cluster.local/ns/ops/sa/bot");
    request.source = "10.1.2.3".parse().ok();
    let rows = rows(&file(), Vantage::Egress, Subject::Request, &mut request);
    let reasons: Vec<(&str, &str)> = rows
        .iter()
        .map(|row| (row.rule.as_str(), row.reason.as_str()))
        .collect();
    assert_eq!(
        reasons,
        [
            ("cut", "the first of those whose conditions hold"),
            ("shop", "the peer's namespace ops is not in from.namespaces"),
            (
                "not-ops",
                "the peer cluster.local/ns/ops/sa/bot is in from.notPrincipals"
            ),
            ("port", "at a tie rule \"cut\" wins, because it denies"),
            ("net", "the source 10.1.2.3 is not in from.cidrs"),
            (
                "anyone",
                "its host is less specific than that of rule \"cut\""
            ),
        ]
    );
}

#[test]
fn an_address_that_may_be_made_up_is_said_to_be() {
    let mut request = Request::new(b"a.b");
    request.source = "10.9.2.3".parse().ok();
    request.forwarded = true;
    let of_inbound = rows(&file(), Vantage::Inbound, Subject::Request, &mut request);
    for (row, field) in of_inbound.iter().zip(["from.cidrs", "from.notCidrs"]) {
        assert_eq!(
            row.reason,
            format!(
                "{field} needs a source address, and this one may be the client's own claim in x-forwarded-for"
            )
        );
    }
    request.source = None;
    request.forwarded = false;
    let of_inbound = rows(&file(), Vantage::Inbound, Subject::Request, &mut request);
    assert_eq!(
        of_inbound[1].reason,
        "from.notCidrs needs a source address, and the connection has none"
    );
}

#[test]
fn a_section_in_dry_run_decides_nothing() {
    let mut request = Request::new(b"shop.example.com");
    let rows = rows(&file(), Vantage::Ingress, Subject::Request, &mut request);
    assert_eq!(
        told(&rows),
        [
            (
                "closed",
                "shop.example.com",
                "dry-run",
                "hosts.ingress is in dry run: it would deny"
            ),
            (
                "shop",
                "shop.example.com",
                "lost",
                "at a tie rule \"closed\" wins, because it denies"
            ),
        ]
    );
}

#[test]
fn a_connection_for_another_host_is_refused_before_any_rule() {
    let mut file = PolicyFile::load(None).unwrap();
    let mut request = Request::new(b"shop.example.com");
    request.sni = Some(b"other.example.com");
    request.tls = true;
    let refused = rows(&file, Vantage::Ingress, Subject::Request, &mut request);
    assert_eq!(refused[0].outcome, "lost");
    assert!(refused[0].reason.contains("not opened for this host"));
    file.policy.sni.mismatch = meridian_policy::SniMode::DryRun;
    assert_eq!(
        rows(&file, Vantage::Ingress, Subject::Request, &mut request)[0].outcome,
        "wins"
    );
}

const CONNECTIONS: &str = r#"
hosts:
  egress:
    rules:
    - {name: anyone, action: allow, hosts: ["*"]}
    - {name: web, action: allow, hosts: ["*.web.example"], ports: [443]}
    - {name: no-web, action: deny, hosts: ["a.web.example:8443"]}
    - {name: inside, action: deny, hosts: ["*"], directions: [east-west]}
"#;

#[test]
fn a_connection_by_its_server_name() {
    let file = PolicyFile::parse(CONNECTIONS.as_bytes()).unwrap();
    let mut request = Request {
        sni: Some(b"A.web.example"),
        destination: "192.0.2.1".parse().ok(),
        destination_port: Some(8443),
        ..Request::default()
    };
    let direction = "the direction is north-south, which is not in directions";
    assert_eq!(
        told(&rows(
            &file,
            Vantage::Egress,
            Subject::Connection,
            &mut request
        )),
        [
            (
                "no-web",
                "a.web.example:8443",
                "wins",
                "the first of those whose conditions hold"
            ),
            (
                "web",
                "*.web.example",
                "condition",
                "the request's port is not in ports"
            ),
            ("inside", "*", "condition", direction),
            (
                "anyone",
                "*",
                "lost",
                "its host is less specific than that of rule \"no-web\""
            ),
        ]
    );
    // Whose port nobody knows a rule that denies takes for its own.
    request.destination = None;
    let unknown = rows(&file, Vantage::Egress, Subject::Connection, &mut request);
    assert_eq!(
        told(&unknown)[..2],
        [
            (
                "no-web",
                "a.web.example:8443",
                "wins",
                "the first of those whose conditions hold"
            ),
            ("web", "*.web.example", "condition", "the port is not known"),
        ]
    );
}

#[test]
fn a_connection_that_does_not_say_where_it_goes() {
    let file = PolicyFile::parse(CONNECTIONS.as_bytes()).unwrap();
    let told_rows = rows(
        &file,
        Vantage::Egress,
        Subject::Connection,
        &mut Request::default(),
    );
    assert_eq!(
        told(&told_rows),
        [
            (
                "inside",
                "*",
                "condition",
                "the direction is unknown, which is not in directions"
            ),
            (
                "anyone",
                "*",
                "condition",
                "where the connection is to go is not known, which never allows it"
            ),
        ]
    );
    let mut invalid = Request {
        sni: Some(b"192.0.2.1"),
        ..Request::default()
    };
    assert!(rows(&file, Vantage::Egress, Subject::Connection, &mut invalid).is_empty());
}

#[test]
fn a_long_table_ends_early() {
    let rules: Vec<String> = (0..30)
        .map(|index| format!("{{name: r{index}, action: allow, hosts: ['*']}}"))
        .collect();
    let policy = format!("hosts: {{egress: {{rules: [{}]}}}}", rules.join(", "));
    let file = PolicyFile::parse(policy.as_bytes()).unwrap();
    let rows = rows(
        &file,
        Vantage::Egress,
        Subject::Request,
        &mut Request::new(b"a.b"),
    );
    assert_eq!(rows.len(), 30);
    let table = to_text(&rows);
    assert_eq!(table.lines().count(), 22);
    assert!(table.ends_with("  and 10 more; --json has them all\n"));
}
