//! Requests at the egress gateway.

use super::{Case, SAMPLE, SHOP, mtls, plaintext};
use crate::policies::SMALL;

pub const CASES: &[Case] = &[
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
];
