//! Connections whose bytes pass unread, at both gateways.

use super::{Case, SAMPLE, tls};
use crate::policies::SMALL;

pub const CASES: &[Case] = &[
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
