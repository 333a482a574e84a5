//! Requests at a sidecar, inbound and outbound.

use super::{Case, SAMPLE, SHOP, mtls, plaintext, routed};
use crate::policies::SMALL;

/// The identity of the ingress gateway.
const GATEWAY: &str = "spiffe://cluster.local/ns/istio-system/sa/ingress";

pub const CASES: &[Case] = &[
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
];
