//! The cost of a request, or a connection, at each vantage point and for each outcome.
//!
//! The host calls are listed in order, so that one more fails, as does one that moved. The instructions are a budget: what was measured
//! and about a tenth more, because another compiler makes slightly other code. A module that needs
//! much less should have its budget lowered.

use crate::host::{Action, Answers, Host, Seen, is_lean};
use crate::policies::{PLAIN, SMALL, sample, with_hosts};

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

const GATEWAY: &str = "spiffe://cluster.local/ns/istio-system/sa/ingress";
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

pub const CASES: &[Case] = &[
    // At the ingress gateway, a policy that needs no more evidence than the budget's four calls.
    Case {
        name: "plain, allowed",
        root_id: "ingress",
        policy: Some(PLAIN),
        request: || plaintext("shop.example.com"),
        calls: &[
            "header :authority",
            "property source.address",
            "count meridian_requests_total",
            "replace x-traffic-direction: north-south",
        ],
        returned: 30,
        instructions: 9_000,
    },
    Case {
        name: "plain, denied by default",
        root_id: "ingress",
        policy: Some(PLAIN),
        request: || plaintext("evil.example.com"),
        calls: &[
            "header :authority",
            "property source.address",
            "count meridian_requests_total",
            "reply 403 meridian_deny{default}",
        ],
        returned: 30,
        instructions: 9_500,
    },
    Case {
        name: "plain, invalid host",
        root_id: "ingress",
        policy: Some(PLAIN),
        request: || plaintext("a.example,b.example"),
        calls: &[
            "header :authority",
            "property source.address",
            "count meridian_requests_total",
            "reply 400 meridian_invalid_host",
        ],
        returned: 33,
        instructions: 11_500,
    },
    // The peer and the server name are asked for, because the policy can use them.
    Case {
        name: "plaintext, allowed",
        root_id: "ingress",
        policy: Some(SMALL),
        request: || plaintext("shop.example.com"),
        calls: &[
            "header :authority",
            "property connection.tls_version",
            "property source.address",
            "count meridian_requests_total",
            "replace x-traffic-direction: north-south",
        ],
        returned: 30,
        instructions: 9_500,
    },
    Case {
        name: "TLS, allowed",
        root_id: "ingress",
        policy: Some(SMALL),
        request: || tls("shop.example.com", "shop.example.com"),
        calls: &[
            "header :authority",
            "property connection.uri_san_peer_certificate",
            "property source.address",
            "property connection.requested_server_name",
            "count meridian_requests_total",
            "replace x-traffic-direction: north-south",
        ],
        returned: 46,
        instructions: 12_000,
    },
    Case {
        name: "a workload of the mesh, allowed",
        root_id: "ingress",
        policy: Some(SMALL),
        request: || mtls("shop.example.com", SHOP),
        calls: &[
            "header :authority",
            "property connection.uri_san_peer_certificate",
            "count meridian_requests_total",
            "replace x-traffic-direction: east-west",
        ],
        returned: 54,
        instructions: 14_500,
    },
    Case {
        name: "denied by rule",
        root_id: "ingress",
        policy: Some(SMALL),
        request: || plaintext("old.example.com"),
        calls: &[
            "header :authority",
            "property connection.tls_version",
            "property source.address",
            "count meridian_requests_total",
            "reply 403 meridian_deny{old}",
        ],
        returned: 29,
        instructions: 10_500,
    },
    Case {
        name: "denied by default",
        root_id: "ingress",
        policy: Some(SMALL),
        request: || plaintext("evil.example.com"),
        calls: &[
            "header :authority",
            "property connection.tls_version",
            "property source.address",
            "count meridian_requests_total",
            "reply 403 meridian_deny{default}",
        ],
        returned: 30,
        instructions: 10_000,
    },
    Case {
        name: "dry run",
        root_id: "ingress",
        policy: Some(SMALL),
        request: || plaintext("trial.example.com"),
        calls: &[
            "header :authority",
            "property connection.tls_version",
            "property source.address",
            "count meridian_requests_total",
            "count meridian_dry_run_total",
            "state meridian_dry_run",
            "reply 403 meridian_deny{default}",
        ],
        returned: 31,
        instructions: 13_500,
    },
    Case {
        name: "invalid host",
        root_id: "ingress",
        policy: Some(SMALL),
        request: || plaintext("a.example,b.example"),
        calls: &[
            "header :authority",
            "property connection.uri_san_peer_certificate",
            "property source.address",
            "count meridian_requests_total",
            "reply 400 meridian_invalid_host",
        ],
        returned: 33,
        instructions: 12_000,
    },
    Case {
        name: "SNI mismatch",
        root_id: "ingress",
        policy: Some(SMALL),
        request: || tls("shop.example.com", "other.example.com"),
        calls: &[
            "header :authority",
            "property connection.uri_san_peer_certificate",
            "property source.address",
            "property connection.requested_server_name",
            "count meridian_requests_total",
            "reply 421 meridian_sni_mismatch",
        ],
        returned: 47,
        instructions: 10_000,
    },
    // The sample policy: three tags, filter state, responses and durations.
    Case {
        name: "sample, allowed",
        root_id: "ingress",
        policy: SAMPLE,
        request: || plaintext("shop.example.com"),
        calls: &[
            "header :authority",
            "property connection.tls_version",
            "property source.address",
            "count meridian_requests_total",
            "state meridian",
            "replace x-traffic-direction: north-south",
            "replace x-component-type: application",
            "replace x-traffic-evidence: outside-source",
            "property response.code",
            "count meridian_responses_total",
            "property request.duration",
            "record meridian_request_duration_milliseconds",
        ],
        returned: 46,
        instructions: 18_000,
    },
    Case {
        name: "sample, denied by rule",
        root_id: "ingress",
        policy: SAMPLE,
        request: || plaintext("admin.apps.example.com"),
        calls: &[
            "header :authority",
            "property connection.tls_version",
            "property source.address",
            "count meridian_requests_total",
            "state meridian",
            "reply 403 meridian_deny{no-admin}",
            "property response.code",
            "count meridian_responses_total",
            "property request.duration",
            "record meridian_request_duration_milliseconds",
        ],
        returned: 52,
        instructions: 21_500,
    },
    Case {
        name: "sample, denied by default",
        root_id: "ingress",
        policy: SAMPLE,
        request: || plaintext("evil.example.com"),
        calls: &[
            "header :authority",
            "property connection.tls_version",
            "property source.address",
            "count meridian_requests_total",
            "state meridian",
            "reply 403 meridian_deny{default}",
            "property response.code",
            "count meridian_responses_total",
            "property request.duration",
            "record meridian_request_duration_milliseconds",
        ],
        returned: 46,
        instructions: 18_000,
    },
    // At the egress gateway.
    Case {
        name: "a caller that is named, allowed",
        root_id: "egress",
        policy: Some(SMALL),
        request: || mtls("api.partner.example", SHOP),
        calls: &[
            "header :authority",
            "property connection.uri_san_peer_certificate",
            "count meridian_requests_total",
            "count meridian_caller_requests_total",
            "remove x-traffic-direction",
        ],
        returned: 57,
        instructions: 23_500,
    },
    Case {
        name: "no identity, allowed",
        root_id: "egress",
        policy: Some(SMALL),
        request: || plaintext("api.partner.example"),
        calls: &[
            "header :authority",
            "property connection.uri_san_peer_certificate",
            "count meridian_requests_total",
            "count meridian_caller_requests_total",
            "remove x-traffic-direction",
        ],
        returned: 19,
        instructions: 11_000,
    },
    Case {
        name: "egress, denied by default",
        root_id: "egress",
        policy: Some(SMALL),
        request: || mtls("evil.example.com", SHOP),
        calls: &[
            "header :authority",
            "property connection.uri_san_peer_certificate",
            "count meridian_requests_total",
            "count meridian_caller_requests_total",
            "reply 403 meridian_deny{default}",
        ],
        returned: 54,
        instructions: 23_000,
    },
    Case {
        name: "egress, invalid host",
        root_id: "egress",
        policy: Some(SMALL),
        request: || mtls("a.example,b.example", SHOP),
        calls: &[
            "header :authority",
            "property connection.uri_san_peer_certificate",
            "count meridian_requests_total",
            "count meridian_caller_requests_total",
            "reply 400 meridian_invalid_host",
        ],
        returned: 57,
        instructions: 22_500,
    },
    Case {
        name: "egress, sample, allowed",
        root_id: "egress",
        policy: SAMPLE,
        request: || mtls("api.partner.example", SHOP),
        calls: &[
            "header :authority",
            "property connection.uri_san_peer_certificate",
            "count meridian_requests_total",
            "count meridian_caller_requests_total",
            "state meridian",
            "remove x-traffic-direction",
            "remove x-component-type",
            "remove x-traffic-evidence",
            "property response.code",
            "count meridian_responses_total",
            "property request.duration",
            "record meridian_request_duration_milliseconds",
        ],
        returned: 73,
        instructions: 33_500,
    },
    // At a sidecar.
    Case {
        name: "inbound, from the ingress gateway",
        root_id: "inbound",
        policy: Some(SMALL),
        request: || {
            let mut answers = mtls("shop.example.com", GATEWAY);
            answers.header("x-traffic-direction", "north-south");
            answers
        },
        calls: &[
            "header :authority",
            "property connection.uri_san_peer_certificate",
            "property request.headers.x-traffic-direction",
            "count meridian_requests_total",
            "replace x-traffic-direction: north-south",
        ],
        returned: 76,
        instructions: 12_000,
    },
    Case {
        name: "inbound, from a workload",
        root_id: "inbound",
        policy: Some(SMALL),
        request: || mtls("shop.shop", SHOP),
        calls: &[
            "header :authority",
            "property connection.uri_san_peer_certificate",
            "count meridian_requests_total",
            "replace x-traffic-direction: east-west",
        ],
        returned: 47,
        instructions: 10_500,
    },
    Case {
        name: "inbound, plaintext",
        root_id: "inbound",
        policy: Some(SMALL),
        request: || plaintext("shop.shop"),
        calls: &[
            "header :authority",
            "property connection.uri_san_peer_certificate",
            "header x-forwarded-for",
            "property source.address",
            "count meridian_requests_total",
            "replace x-traffic-direction: north-south",
        ],
        returned: 23,
        instructions: 7_000,
    },
    Case {
        name: "inbound, sample",
        root_id: "inbound",
        policy: SAMPLE,
        request: || mtls("shop.shop", SHOP),
        calls: &[
            "header :authority",
            "property connection.uri_san_peer_certificate",
            "count meridian_requests_total",
            "state meridian",
            "replace x-traffic-direction: east-west",
            "replace x-component-type: application",
            "replace x-traffic-evidence: mesh-identity",
            "property response.code",
            "count meridian_responses_total",
            "property request.duration",
            "record meridian_request_duration_milliseconds",
        ],
        returned: 63,
        instructions: 17_500,
    },
    Case {
        name: "outbound, inside",
        root_id: "outbound",
        policy: Some(SMALL),
        request: || routed("cart.shop", "outbound|80||cart.shop.svc.cluster.local"),
        calls: &[
            "header :authority",
            "property xds.cluster_name",
            "count meridian_requests_total",
            "replace x-traffic-direction: east-west",
        ],
        returned: 49,
        instructions: 12_500,
    },
    Case {
        name: "outbound, outside",
        root_id: "outbound",
        policy: Some(SMALL),
        request: || routed("api.example.com", "outbound|443||api.example.com"),
        calls: &[
            "header :authority",
            "property xds.cluster_name",
            "count meridian_requests_total",
            "remove x-traffic-direction",
        ],
        returned: 44,
        instructions: 14_000,
    },
    Case {
        name: "outbound, passthrough",
        root_id: "outbound",
        policy: Some(SMALL),
        request: || routed("api.example.com", "PassthroughCluster"),
        calls: &[
            "header :authority",
            "property xds.cluster_name",
            "property destination.address",
            "count meridian_requests_total",
            "replace x-traffic-direction: east-west",
        ],
        returned: 46,
        instructions: 9_000,
    },
    Case {
        name: "outbound, denied by rule",
        root_id: "outbound",
        policy: Some(SMALL),
        request: || routed("tracker.example", "outbound|443||tracker.example"),
        calls: &[
            "header :authority",
            "property xds.cluster_name",
            "count meridian_requests_total",
            "reply 403 meridian_deny{no-tracker}",
        ],
        returned: 44,
        instructions: 15_500,
    },
    Case {
        name: "outbound, sample",
        root_id: "outbound",
        policy: SAMPLE,
        request: || routed("cart.shop", "outbound|80||cart.shop.svc.cluster.local"),
        calls: &[
            "header :authority",
            "property xds.cluster_name",
            "count meridian_requests_total",
            "state meridian",
            "replace x-traffic-direction: east-west",
            "replace x-component-type: application",
            "replace x-traffic-evidence: mesh-cluster",
            "property response.code",
            "count meridian_responses_total",
            "property request.duration",
            "record meridian_request_duration_milliseconds",
        ],
        returned: 65,
        instructions: 20_000,
    },
    Case {
        name: "no root id: the listener tells the vantage point",
        root_id: "",
        policy: Some(SMALL),
        request: || {
            let mut answers = routed("cart.shop", "outbound|80||cart.shop.svc.cluster.local");
            answers.number("xds.listener_direction", 2);
            answers
        },
        calls: &[
            "property xds.listener_direction",
            "header :authority",
            "property xds.cluster_name",
            "count meridian_requests_total",
            "replace x-traffic-direction: east-west",
        ],
        returned: 57,
        instructions: 13_000,
    },
    // Connections whose bytes pass unread.
    Case {
        name: "ingress connection, allowed",
        root_id: "ingress.tcp",
        policy: Some(SMALL),
        request: || tls("", "shop.example.com"),
        calls: &[
            "property connection.requested_server_name",
            "property connection.uri_san_peer_certificate",
            "property source.address",
            "count meridian_connections_total",
        ],
        returned: 30,
        instructions: 10_000,
    },
    Case {
        name: "ingress connection, denied by default",
        root_id: "ingress.tcp",
        policy: Some(SMALL),
        request: || tls("", "evil.example.com"),
        calls: &[
            "property connection.requested_server_name",
            "property connection.uri_san_peer_certificate",
            "property source.address",
            "count meridian_connections_total",
            "state meridian_details",
            "close",
        ],
        returned: 30,
        instructions: 10_500,
    },
    Case {
        name: "egress connection, allowed",
        root_id: "egress.tcp",
        policy: Some(SMALL),
        request: || tls("", "api.partner.example"),
        calls: &[
            "property connection.requested_server_name",
            "count meridian_connections_total",
        ],
        returned: 19,
        instructions: 11_500,
    },
    Case {
        name: "egress connection, sample, denied by default",
        root_id: "egress.tcp",
        policy: SAMPLE,
        request: || tls("", "evil.example.com"),
        calls: &[
            "property connection.requested_server_name",
            "count meridian_connections_total",
            "state meridian",
            "state meridian_details",
            "close",
        ],
        returned: 16,
        instructions: 18_000,
    },
];

/// A host with the case's policy, and what the case's request costs there.
pub fn send(case: &Case) -> (Host, Seen) {
    let mut host = Host::with_policy(case.root_id, &policy_of(case));
    // The first ones let the SDK's and the allocator's own structures grow.
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
    for case in CASES {
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
    for case in CASES.iter().filter(|case| interesting.contains(&case.name)) {
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
