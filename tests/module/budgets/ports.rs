//! What rules with ports cost: the host is asked for each piece of evidence once, however many rules
//! look at it.

use std::collections::BTreeSet;

use super::{routed, tls};
use crate::host::{Action, Answers, Host};

/// The host of every rule and request.
const HOST: &str = "api.partner.example";
/// The port that the requests are for.
const PORT: u16 = 443;

/// Where a rule has its port.
#[derive(Debug, Clone, Copy)]
enum At {
    /// In `ports`.
    Ports,
    /// In `hosts`.
    Hosts,
    /// In `notHosts`.
    NotHosts,
}

/// A policy with this many rules for [`HOST`], each with a port, none of which decides.
fn policy(section: &str, rules: u16, at: At, action: &str) -> String {
    let rule = |index: u16| {
        let other = 10_000 + index;
        let condition = match at {
            At::Ports => format!(r#""hosts": ["{HOST}"], "ports": [{other}]"#),
            At::Hosts => format!(r#""hosts": ["{HOST}:{other}"]"#),
            At::NotHosts => format!(r#""hosts": ["{HOST}"], "notHosts": ["{HOST}:{PORT}"]"#),
        };
        format!(r#"{{"name": "r{index}", "action": "{action}", {condition}}}"#)
    };
    let rules: Vec<String> = (0..rules).map(rule).collect();
    format!(
        r#"{{"mesh": {{"cidrs": ["10.0.0.0/8"]}},
            "hosts": {{"{section}": {{"default": "allow", "rules": [{}]}}}}}}"#,
        rules.join(",")
    )
}

/// A case: the plugin's root id, the actions of its rules, a request or connection, and a piece of
/// evidence that the port comes from.
struct Case {
    root_id: &'static str,
    actions: &'static [&'static str],
    request: fn() -> Answers,
    evidence: &'static str,
}

/// A connection that dials a server outside, which is not the proxy itself.
fn dialled(sni: &str) -> Answers {
    let mut answers = tls("", sni);
    answers
        .property("destination.address", "203.0.113.9:443")
        .property("xds.node.metadata.INSTANCE_IPS", "10.0.0.9");
    answers
}

const CASES: &[Case] = &[
    Case {
        root_id: "egress",
        actions: &["allow", "deny"],
        request: || routed(HOST, "outbound|443||api.partner.example"),
        evidence: "property xds.cluster_name",
    },
    Case {
        root_id: "outbound",
        actions: &["allow", "deny"],
        request: || routed(HOST, "outbound|443||api.partner.example"),
        evidence: "property xds.cluster_name",
    },
    // The cluster has not Istio's form: the port as it is written counts.
    Case {
        root_id: "egress",
        actions: &["allow", "deny"],
        request: || routed(&format!("{HOST}:{PORT}"), "somewhere"),
        evidence: "property xds.cluster_name",
    },
    // Only TLS tells the scheme of a request from outside.
    Case {
        root_id: "ingress",
        actions: &["allow", "deny"],
        request: || tls(HOST, HOST),
        evidence: "property connection.tls_version",
    },
    // The port of Istio's server name is a claim: a rule that denies looks at the dialled one too.
    Case {
        root_id: "ingress.tcp",
        actions: &["deny"],
        request: || dialled("outbound_.443_._.api.partner.example"),
        evidence: "property destination.address",
    },
    Case {
        root_id: "egress.tcp",
        actions: &["deny"],
        request: || dialled("outbound_.443_._.api.partner.example"),
        evidence: "property destination.address",
    },
    Case {
        root_id: "egress.tcp",
        actions: &["allow", "deny"],
        request: || dialled(HOST),
        evidence: "property destination.address",
    },
];

/// What a request or connection of the case asks the host, with this many rules.
fn calls(case: &Case, rules: u16, at: At, action: &str) -> Vec<String> {
    let (section, is_connection) = match case.root_id.strip_suffix(".tcp") {
        Some(section) => (section, true),
        None => (case.root_id, false),
    };
    let policy = policy(section, rules, at, action);
    let mut host = Host::with_policy(case.root_id, &policy);
    let request = (case.request)();
    let seen = match is_connection {
        true => host.connection(&request),
        false => host.request(&request),
    };
    assert_eq!(seen.action, Action::Continue, "a rule decided: {policy}");
    seen.calls
}

/// Each case with each place of the port and each action, as `calls` takes them.
fn each(mut check: impl FnMut(&Case, At, &str)) {
    for case in CASES {
        for at in [At::Ports, At::Hosts, At::NotHosts] {
            for action in case.actions {
                check(case, at, action);
            }
        }
    }
}

#[test]
fn a_hundred_rules_with_ports_take_the_host_calls_of_one() {
    let mut wrong = Vec::new();
    each(|case, at, action| {
        let one = calls(case, 1, at, action);
        assert!(
            one.iter().any(|call| call == case.evidence),
            "{}, {at:?}: no port was looked for: {one:?}",
            case.root_id
        );
        for rules in [10, 100] {
            let many = calls(case, rules, at, action).len();
            if many != one.len() {
                let calls = one.len();
                wrong.push(format!(
                    "{}, {at:?}, {action}: {calls} host calls with one rule, {many} with {rules}",
                    case.root_id
                ));
            }
        }
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_evidence_is_asked_for_twice() {
    let mut wrong = Vec::new();
    each(|case, at, action| {
        let calls = calls(case, 10, at, action);
        let mut seen = BTreeSet::new();
        let twice: BTreeSet<&String> = calls.iter().filter(|call| !seen.insert(*call)).collect();
        if !twice.is_empty() {
            wrong.push(format!("{}, {at:?}, {action}: {twice:?}", case.root_id));
        }
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
}
