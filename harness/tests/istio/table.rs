//! The requests that are sent in every form, and what must come of each.

use std::net::Ipv4Addr;

use meridian::lab::mesh::roles::{
    APPLICATION_PORT, CONSOLE, EGRESS, INGRESS, INTERNAL_INGRESS, NGINX, ORDERS, OUTSIDE, Role,
    SHOP,
};

/// The pods that the filters are attached to.
pub const FILTERED: [Role; 6] = [INGRESS, INTERNAL_INGRESS, EGRESS, SHOP, ORDERS, CONSOLE];

/// Who sends a request.
#[derive(Debug, Clone, Copy)]
pub enum Sender {
    /// The client outside.
    Client,
    /// A pod's application.
    Pod(Role),
}

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub enum Protocol {
    /// HTTP/1.1 in plaintext.
    Http,
    /// HTTP/1.1 in plaintext that asks for a WebSocket.
    WebSocket,
    /// HTTP/2 in plaintext, as a gRPC client does.
    Grpc,
    /// TLS with this server name, HTTP/1.1 inside.
    Tls,
}

/// What must come of a request.
#[derive(Debug, Clone, Copy)]
pub enum Outcome {
    /// It arrives at this server, with these tags: direction, evidence, component.
    Tagged(&'static str, [&'static str; 3]),
    /// It arrives at this server without any tag.
    Untagged(&'static str),
    /// It arrives at this server unread, so that nobody could have touched its headers.
    Unread(&'static str),
    /// It does not arrive, and this status is the answer.
    Refused(u16),
    /// It does not arrive, and a gRPC client is told so.
    GrpcRefused,
    /// The connection is closed.
    Closed,
}

/// A request of the table.
pub struct Row {
    pub what: &'static str,
    pub from: Sender,
    pub to: (Ipv4Addr, u16),
    pub host: &'static str,
    pub protocol: Protocol,
    pub outcome: Outcome,
}

const fn row(
    what: &'static str,
    from: Sender,
    to: (Ipv4Addr, u16),
    host: &'static str,
    protocol: Protocol,
    outcome: Outcome,
) -> Row {
    Row {
        what,
        from,
        to,
        host,
        protocol,
        outcome,
    }
}

const FROM_OUTSIDE: [&str; 3] = ["north-south", "gateway-tag", "application"];
const HAIRPIN: [&str; 3] = ["east-west", "gateway-tag", "application"];
const INSIDE: [&str; 3] = ["east-west", "mesh-identity", "application"];
const BY_NGINX: [&str; 3] = ["north-south", "ingress-gateway", "system"];

/// Everything that is sent once a form is attached, and what must come of it.
#[rustfmt::skip]
pub const TABLE: &[Row] = {
    use Outcome::{Closed, GrpcRefused, Refused, Tagged, Unread, Untagged};
    use Protocol::{Grpc, Http, Tls, WebSocket};
    use Sender::{Client, Pod};
    const PUBLIC: (Ipv4Addr, u16) = (INGRESS.address, 80);
    const PUBLIC_TLS: (Ipv4Addr, u16) = (INGRESS.address, 443);
    const INTERNAL: (Ipv4Addr, u16) = (INTERNAL_INGRESS.address, 80);
    const ORDERS_HTTP: (Ipv4Addr, u16) = (ORDERS.service, 80);
    const WORLD: (Ipv4Addr, u16) = (OUTSIDE, 80);
    const WORLD_TLS: (Ipv4Addr, u16) = (OUTSIDE, 443);
    &[
        row("outside to an allowed host", Client, PUBLIC, "shop.example.com", Http, Tagged("shop", FROM_OUTSIDE)),
        row("outside, in capitals and with a port", Client, PUBLIC, "SHOP.Example.com:80", Http, Tagged("shop", FROM_OUTSIDE)),
        row("outside to an unlisted host", Client, PUBLIC, "intranet.example.com", Http, Refused(403)),
        row("outside to an invalid host", Client, PUBLIC, "shop.example.com%2e", Http, Refused(400)),
        row("outside to the other gateway's host", Client, PUBLIC, "web.apps.example.com", Http, Refused(403)),
        row("outside by the internal gateway", Client, INTERNAL, "web.apps.example.com", Http, Tagged("shop", FROM_OUTSIDE)),
        row("outside by the internal gateway to the public one's host", Client, INTERNAL, "shop.example.com", Http, Refused(403)),
        row("outside, WebSocket", Client, PUBLIC, "shop.example.com", WebSocket, Tagged("shop", FROM_OUTSIDE)),
        row("outside, WebSocket to an unlisted host", Client, PUBLIC, "intranet.example.com", WebSocket, Refused(403)),
        row("outside, gRPC", Client, PUBLIC, "shop.example.com", Grpc, Tagged("shop", FROM_OUTSIDE)),
        row("outside, gRPC to an unlisted host", Client, PUBLIC, "intranet.example.com", Grpc, GrpcRefused),
        row("outside, TLS passthrough", Client, PUBLIC_TLS, "shop.example.com", Tls, Unread("shop")),
        row("outside, TLS passthrough to an unlisted host", Client, PUBLIC_TLS, "intranet.example.com", Tls, Closed),
        row("a hairpin where only the registry may be reached", Pod(ORDERS), PUBLIC, "shop.example.com", Http, Refused(502)),
        row("a hairpin by the ingress gateway", Pod(SHOP), PUBLIC, "shop.example.com", Http, Tagged("shop", HAIRPIN)),
        row("a service by name and namespace", Pod(SHOP), ORDERS_HTTP, "orders.orders", Http, Tagged("orders", INSIDE)),
        row("a service by name, namespace and svc", Pod(SHOP), ORDERS_HTTP, "orders.orders.svc", Http, Tagged("orders", INSIDE)),
        row("a service by its full name", Pod(SHOP), ORDERS_HTTP, "orders.orders.svc.cluster.local", Http, Tagged("orders", INSIDE)),
        row("a service by its full name and port", Pod(SHOP), ORDERS_HTTP, "orders.orders.svc.cluster.local:80", Http, Tagged("orders", INSIDE)),
        row("a service by its address", Pod(SHOP), ORDERS_HTTP, "10.96.2.3", Http, Tagged("orders", INSIDE)),
        row("a pod by its address, without mutual TLS", Pod(SHOP), (ORDERS.address, APPLICATION_PORT), "10.244.2.3:8080", Http, Closed),
        row("a service by gRPC", Pod(SHOP), (ORDERS.service, 9090), "orders.orders:9090", Grpc, Tagged("orders", INSIDE)),
        row("a system component", Pod(SHOP), (CONSOLE.service, 80), "console.verrazzano-system", Http, Tagged("console", ["east-west", "mesh-identity", "system"])),
        row("a system component by NGINX", Client, (NGINX.address, 80), "console.example.com", Http, Tagged("console", BY_NGINX)),
        row("the egress gateway to an allowed host", Pod(SHOP), WORLD, "api.partner.example", Http, Untagged("outside")),
        row("the egress gateway to a denied host", Pod(SHOP), WORLD, "tracker.example", Http, Refused(403)),
        row("the egress gateway by TLS passthrough", Pod(SHOP), WORLD_TLS, "api.partner.example", Tls, Unread("outside")),
        row("the egress gateway by TLS passthrough to a denied host", Pod(SHOP), WORLD_TLS, "tracker.example", Tls, Closed),
        row("directly to a registered host", Pod(SHOP), WORLD, "direct.example", Http, Untagged("outside")),
        row("directly to an unregistered host", Pod(SHOP), WORLD, "unlisted.example", Http, Untagged("outside")),
        row("directly to a host that the sidecar denies", Pod(SHOP), WORLD, "pool.example", Http, Refused(403)),
        row("directly under REGISTRY_ONLY", Pod(ORDERS), WORLD, "unlisted.example", Http, Refused(502)),
    ]
};
