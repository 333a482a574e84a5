//! Who is who on the loopback network: 127.1.0.0/16 is the cluster, 127.9.0.0/16 the outside.

use std::net::{IpAddr, Ipv4Addr};

/// The ingress gateway.
pub const INGRESS: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 10);
/// NGINX, the ingress of system components.
pub const NGINX: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 11);
/// The egress gateway.
pub const EGRESS: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 20);
/// A client outside the cluster.
pub const OUTSIDE_CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 9, 1, 1));

/// The principal of the ingress gateway.
pub const INGRESS_PRINCIPAL: &str = "cluster.local/ns/istio-ingress/sa/istio-ingress";
/// The principal of the egress gateway.
pub const EGRESS_PRINCIPAL: &str = "cluster.local/ns/istio-egress/sa/istio-egress";
/// The principal of NGINX.
pub const NGINX_PRINCIPAL: &str = "cluster.local/ns/ingress-nginx/sa/ingress-nginx";

/// A workload with a sidecar. Its pod has one address, which both share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    /// Its name, also that of its service and service account.
    pub name: &'static str,
    /// Its namespace.
    pub namespace: &'static str,
    /// The pod's address.
    pub address: Ipv4Addr,
    /// The virtual host at the ingress gateway that leads to it.
    pub ingress_domain: &'static str,
}

impl Workload {
    /// Its identity, as `TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT`.
    pub fn principal(&self) -> String {
        format!("cluster.local/ns/{}/sa/{}", self.namespace, self.name)
    }
}

/// An application.
pub const SHOP: Workload = Workload {
    name: "shop",
    namespace: "shop",
    address: Ipv4Addr::new(127, 1, 1, 1),
    ingress_domain: "*",
};
/// Another application.
pub const ORDERS: Workload = Workload {
    name: "orders",
    namespace: "orders",
    address: Ipv4Addr::new(127, 1, 2, 1),
    ingress_domain: "*.apps.example.com",
};
/// A system component, which NGINX serves too.
pub const CONSOLE: Workload = Workload {
    name: "console",
    namespace: "verrazzano-system",
    address: Ipv4Addr::new(127, 1, 3, 1),
    ingress_domain: "*.system.example.com",
};
/// Every workload.
pub const WORKLOADS: [Workload; 3] = [SHOP, ORDERS, CONSOLE];

/// A server outside the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutsideServer {
    /// Its host name, or `*` for the one that answers for all others.
    pub host: &'static str,
    /// Its address.
    pub address: Ipv4Addr,
}

/// Every server outside.
pub const OUTSIDE: [OutsideServer; 4] = [
    OutsideServer {
        host: "api.partner.example",
        address: Ipv4Addr::new(127, 9, 0, 10),
    },
    OutsideServer {
        host: "mirror.partner.example",
        address: Ipv4Addr::new(127, 9, 0, 11),
    },
    OutsideServer {
        host: "tracker.example",
        address: Ipv4Addr::new(127, 9, 0, 12),
    },
    OutsideServer {
        host: "*",
        address: Ipv4Addr::new(127, 9, 0, 99),
    },
];
