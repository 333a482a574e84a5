//! Who is who in the mesh: gateways as Istio's Helm chart labels them, two applications, a system
//! component behind NGINX, and a client and servers outside.

use std::net::Ipv4Addr;

/// The machine that everything but the pods runs on, as the pods see it.
pub const NODE: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
/// Pods have addresses in this network.
pub const PODS: &str = "10.244.0.0/16";
/// Services have addresses in this network.
pub const SERVICES: &str = "10.96.0.0/16";
/// A client outside the mesh.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
/// The servers outside the mesh.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// The node, as the client and the servers outside see it.
pub const NODE_OUTSIDE: [Ipv4Addr; 2] = [
    Ipv4Addr::new(198, 51, 100, 1),
    Ipv4Addr::new(203, 0, 113, 1),
];
/// The hosts of the servers outside.
pub const OUTSIDE_HOSTS: [&str; 2] = ["api.partner.example", "tracker.example"];
/// The OCI registry, by the name that the node and every agent know it by. It speaks plain HTTP.
pub const REGISTRY: &str = "registry.mesh.example:5000";
/// The namespace of istiod, which is the mesh's root namespace.
pub const ROOT_NAMESPACE: &str = "istio-system";
/// The port that an application listens on.
pub const APPLICATION_PORT: u16 = 8080;
/// The port that an application serves TLS on.
pub const APPLICATION_TLS_PORT: u16 = 8443;

/// What a pod is, and what its proxy does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A proxy alone: an ingress or egress gateway.
    Gateway,
    /// An application and its sidecar.
    Application,
    /// NGINX and its sidecar, which NGINX' callers go around.
    Nginx,
}

/// A port of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name, whose beginning tells Istio the protocol.
    pub name: &'static str,
    /// Its number.
    pub port: u16,
    /// The port of the pod.
    pub target: u16,
}

/// A pod, its service account and its service, whose name is the label `app`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Role {
    /// The service's name; the pod's is `NAME-1`.
    pub name: &'static str,
    /// The namespace.
    pub namespace: &'static str,
    /// The service account.
    pub account: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The pod's address.
    pub address: Ipv4Addr,
    /// The service's address.
    pub service: Ipv4Addr,
    /// The label `istio` of a gateway.
    pub istio: Option<&'static str>,
    /// The service's ports.
    pub ports: &'static [ServicePort],
}

impl Role {
    /// The pod's name.
    pub fn pod(&self) -> String {
        format!("{}-1", self.name)
    }

    /// Its identity, as `TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT`.
    pub fn principal(&self) -> String {
        format!("cluster.local/ns/{}/sa/{}", self.namespace, self.account)
    }

    /// The service's full name.
    pub fn host(&self) -> String {
        format!("{}.{}.svc.cluster.local", self.name, self.namespace)
    }
}

const fn port(name: &'static str, port: u16, target: u16) -> ServicePort {
    ServicePort { name, port, target }
}

const GATEWAY_PORTS: &[ServicePort] = &[
    port("status-port", 15021, 15021),
    port("http2", 80, 80),
    port("https", 443, 443),
];
const APPLICATION_PORTS: &[ServicePort] = &[
    port("http", 80, APPLICATION_PORT),
    port("grpc", 9090, APPLICATION_PORT),
    port("tls", 443, APPLICATION_TLS_PORT),
];

/// The ingress gateway for everybody: the Helm release `istio-ingress`.
pub const INGRESS: Role = Role {
    name: "istio-ingress",
    namespace: "istio-ingress",
    account: "istio-ingress",
    kind: Kind::Gateway,
    address: Ipv4Addr::new(10, 244, 1, 2),
    service: Ipv4Addr::new(10, 96, 1, 2),
    istio: Some("ingress"),
    ports: GATEWAY_PORTS,
};
/// The ingress gateway for the company's own: the release `istio-ingress-internal`.
pub const INTERNAL_INGRESS: Role = Role {
    name: "istio-ingress-internal",
    account: "istio-ingress-internal",
    address: Ipv4Addr::new(10, 244, 1, 3),
    service: Ipv4Addr::new(10, 96, 1, 3),
    istio: Some("ingress-internal"),
    ..INGRESS
};
/// The egress gateway: the release `istio-egress`.
pub const EGRESS: Role = Role {
    name: "istio-egress",
    namespace: "istio-egress",
    account: "istio-egress",
    address: Ipv4Addr::new(10, 244, 1, 4),
    service: Ipv4Addr::new(10, 96, 1, 4),
    istio: Some("egress"),
    ..INGRESS
};
/// NGINX, the ingress of system components.
pub const NGINX: Role = Role {
    name: "ingress-nginx",
    namespace: "ingress-nginx",
    account: "ingress-nginx",
    kind: Kind::Nginx,
    address: Ipv4Addr::new(10, 244, 1, 5),
    service: Ipv4Addr::new(10, 96, 1, 5),
    istio: None,
    ports: &[port("http", 80, 80)],
};
/// An application.
pub const SHOP: Role = Role {
    name: "shop",
    namespace: "shop",
    account: "shop",
    kind: Kind::Application,
    address: Ipv4Addr::new(10, 244, 2, 2),
    service: Ipv4Addr::new(10, 96, 2, 2),
    istio: None,
    ports: APPLICATION_PORTS,
};
/// Another application.
pub const ORDERS: Role = Role {
    name: "orders",
    namespace: "orders",
    account: "orders",
    address: Ipv4Addr::new(10, 244, 2, 3),
    service: Ipv4Addr::new(10, 96, 2, 3),
    ..SHOP
};
/// A system component.
pub const CONSOLE: Role = Role {
    name: "console",
    namespace: "verrazzano-system",
    account: "console",
    address: Ipv4Addr::new(10, 244, 2, 4),
    service: Ipv4Addr::new(10, 96, 2, 4),
    ..SHOP
};

/// Every pod.
pub const PODS_AND_SERVICES: [Role; 7] = [
    INGRESS,
    INTERNAL_INGRESS,
    EGRESS,
    NGINX,
    SHOP,
    ORDERS,
    CONSOLE,
];
