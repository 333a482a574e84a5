//! The cost of a request, or a connection, at each vantage point and for each outcome.
//!
//! A file for each vantage point holds its part of the table. The host calls are listed in order, so
//! that one more fails, as does one that moved. The instructions are a budget: what was measured and
//! about a tenth more, because another compiler makes slightly other code. A module that needs much
//! less should have its budget lowered.

mod connections;
mod egress;
mod ingress;
mod ports;
mod sidecar;

use crate::host::{Action, Answers, Host, Seen, is_lean};
use crate::policies::{PLAIN, sample, with_hosts};

/// A vantage point's policy and a request.
pub struct Case {
    pub name: &'static str,
    pub root_id: &'static str,
    policy: Option<&'static str>,
    pub request: fn() -> Answers,
    /// The host calls, in order.
    calls: &'static [&'static str],
    /// Bytes that the host returned in buffers.
    returned: usize,
    /// The most instructions.
    instructions: u64,
}

/// The sample policy.
const SAMPLE: Option<&str> = None;

/// Callbacks of a request without trailers.
const CALLBACKS: [&str; 4] = [
    "proxy_on_context_create",
    "proxy_on_request_headers",
    "proxy_on_log",
    "proxy_on_delete",
];

const SHOP: &str = "spiffe://cluster.local/ns/shop/sa/shop";

/// A request from outside.
pub fn plaintext(authority: &str) -> Answers {
    let mut answers = Answers::request(authority);
    answers
        .property("source.address", "192.0.2.7:4711")
        .property("destination.address", "10.0.0.9:8080")
        // As Envoy has it without TLS: there, and empty.
        .property("connection.requested_server_name", "")
        .property("xds.node.metadata.NAMESPACE", "shop")
        .number("response.code", 200)
        .number("request.duration", 2_000_000);
    answers
}

/// The same over TLS.
pub fn tls(authority: &str, sni: &str) -> Answers {
    let mut answers = plaintext(authority);
    answers
        .property("connection.tls_version", "TLSv1.3")
        .property("connection.requested_server_name", sni);
    answers
}

/// A request of a workload with this identity.
pub fn mtls(authority: &str, peer: &str) -> Answers {
    let mut answers = tls(authority, "outbound_.80_._.shop.shop.svc.cluster.local");
    answers
        .property("connection.uri_san_peer_certificate", peer)
        .property("source.address", "10.0.0.7:4711");
    answers
}

/// A request that is routed to this cluster.
fn routed(authority: &str, cluster: &str) -> Answers {
    let mut answers = plaintext(authority);
    answers.property("xds.cluster_name", cluster);
    answers
}

/// The whole table.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    [
        ingress::CASES,
        egress::CASES,
        sidecar::CASES,
        connections::CASES,
    ]
    .into_iter()
    .flatten()
}

/// A host with the case's policy, and what the case's request costs there.
pub fn send(case: &Case) -> (Host, Seen) {
    let mut host = Host::with_policy(case.root_id, &policy_of(case));
    // The first ones let the structures of streams and of the allocator grow.
    for _ in 0..10 {
        ask(&mut host, case);
    }
    let seen = ask(&mut host, case);
    (host, seen)
}

fn policy_of(case: &Case) -> String {
    case.policy.map_or_else(sample, str::to_owned)
}

/// The case's request or connection.
pub fn ask(host: &mut Host, case: &Case) -> Seen {
    let request = (case.request)();
    match case.root_id.ends_with(".tcp") {
        true => host.connection(&request),
        false => host.request(&request),
    }
}

#[test]
fn requests_and_connections_cost_what_the_table_says() {
    for case in cases() {
        let (_, seen) = send(case);
        println!("{:>6} instructions: {}", seen.instructions, case.name);
        assert_eq!(seen.calls, case.calls, "{}", case.name);
        assert_eq!(seen.returned, case.returned, "{}", case.name);
        let mut callbacks = CALLBACKS.to_vec();
        if is_lean(case.root_id, &policy_of(case)) {
            callbacks.retain(|callback| *callback != "proxy_on_log");
        }
        if case.root_id.ends_with(".tcp") {
            callbacks[1] = "proxy_on_new_connection";
        }
        assert_eq!(seen.callbacks, callbacks, "{}", case.name);
        assert!(
            seen.instructions <= case.instructions,
            "{}: {} instructions, and {} is the budget",
            case.name,
            seen.instructions,
            case.instructions
        );
    }
}

/// The budget: authority, source, tag and counter.
#[test]
fn a_policy_that_needs_no_more_evidence_takes_four_host_calls() {
    let mut host = Host::with_policy("ingress", PLAIN);
    let seen = host.request(&plaintext("shop.example.com"));
    assert_eq!((seen.action, seen.calls.len()), (Action::Continue, 4));
    assert_eq!(seen.callbacks.len(), 3);
    assert_eq!(seen.buffers, 2);
    let counted = [
        "direction=.=north-south;",
        "decision=.=allow;",
        "rule=.=shop;",
    ];
    assert_eq!(host.world().total(&counted), 1);
}

/// Whoever takes the lean module for a policy that measures hears of it, and not by its metrics missing.
#[test]
fn a_lean_module_refuses_a_policy_that_measures() {
    for root_id in ["ingress", "egress", "inbound"] {
        let mut host = Host::start_lean(root_id);
        assert!(!host.configure(&sample()), "{root_id}");
        let logged = format!("{:?}", host.world().calls);
        assert!(logged.contains("_lean"), "{logged}");
        let mut host = Host::start_lean(root_id);
        assert!(host.configure(PLAIN), "{root_id}");
    }
}

/// What a client sends under a tag's name goes, from headers and from trailers.
#[test]
fn trailers_cost_a_callback_and_a_host_call_a_tag() {
    let mut host = Host::with_policy("ingress", &sample());
    let mut request = plaintext("shop.example.com");
    request
        .header("x-traffic-direction", "east-west")
        .trailer("x-traffic-direction", "east-west")
        .trailer("checksum", "1");
    let seen = host.request(&request);
    assert_eq!(seen.callbacks[2], "proxy_on_request_trailers");
    let removed: Vec<&String> = seen
        .calls
        .iter()
        .filter(|call| call.starts_with("remove"))
        .collect();
    assert_eq!(
        removed,
        [
            "remove trailer x-traffic-direction",
            "remove trailer x-component-type",
            "remove trailer x-traffic-evidence"
        ]
    );
    let sent = seen.sent;
    assert_eq!(sent.values("x-traffic-direction"), ["north-south"]);
    assert_eq!(sent.trailers, [("checksum".to_owned(), "1".to_owned())]);
}

/// The allocator returns what it was given: nothing is left behind by a request.
#[test]
fn memory_stays_as_it_is_over_ten_thousand_requests() {
    let interesting = ["plain, allowed", "SNI mismatch", "sample, denied by rule"];
    for case in cases().filter(|case| interesting.contains(&case.name)) {
        let (mut host, first) = send(case);
        let pages = host.pages();
        let request = (case.request)();
        for _ in 0..10_000 {
            host.request(&request);
        }
        assert_eq!(host.pages(), pages, "{}", case.name);
        // Nor does a request get dearer with the number of those before it.
        let last = host.request(&request).instructions;
        assert!(
            last.abs_diff(first.instructions) * 100 <= first.instructions,
            "{}: {last} after {}",
            case.name,
            first.instructions
        );
    }
}

/// One lookup: what it costs does not depend on how many hosts there are.
#[test]
fn many_hosts_cost_what_few_do() {
    let costs = |hosts: usize| {
        let mut host = Host::with_policy("ingress", &with_hosts(hosts));
        ["shop.example.com", "h7.fill.example", "evil.example.com"].map(|authority| {
            let request = plaintext(authority);
            host.request(&request);
            host.request(&request).instructions
        })
    };
    let few = costs(10);
    for hosts in [1_000, 100_000] {
        for (many, few) in costs(hosts).into_iter().zip(few) {
            assert!(
                many.abs_diff(few) * 100 <= few * 3,
                "{many} instructions with {hosts} hosts, {few} with 10"
            );
        }
    }
}
