//! What the policy knows of the mesh: its names, addresses, identities and gateways.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::document::reader::{Errors, Node};
use crate::host::pattern::{contains, parse_network};
use crate::istio::gateway_service;
use crate::model::names::{is_of_principal, read_namespaces};
use crate::{Host, HostMap, HostPattern, Name, Pattern, Principal, Vantage};

/// Namespaces that every Kubernetes cluster has.
const BUILT_IN_NAMESPACES: [&str; 2] = ["default", "kube-system"];

/// The section `mesh`.
#[derive(Debug, Clone)]
pub struct Mesh {
    /// The cluster's DNS domain, `cluster.local` by default.
    pub service_domain: Name,
    /// The trust domains whose identities are workloads of this mesh.
    pub trust_domains: Vec<String>,
    /// The networks of pods and services.
    pub cidrs: Vec<IpNet>,
    /// Further names that live inside.
    pub hosts: HostMap,
    /// Namespaces whose short names `name.namespace` are inside, beside the ones that the policy
    /// names elsewhere.
    pub namespaces: Vec<String>,
    /// The ingress gateways.
    pub ingress_gateways: Vec<Gateway>,
    /// The egress gateways.
    pub egress_gateways: Vec<Gateway>,
}

/// A gateway of the mesh.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// What rules, manifests and explanations call it. Like its namespace and its labels it is
    /// read by [`crate::Policy::from_document`] alone.
    pub name: Option<Box<str>>,
    /// The namespace of its pods, where that is not its identity's.
    pub namespace: Option<Box<str>>,
    /// The labels of its pods, keys and values in the order of the document; empty if none are
    /// written.
    pub labels: Box<[(Box<str>, Box<str>)]>,
    /// Its identity.
    pub principal: Principal,
    /// True for an ingress gateway that runs the ingress filter: its tag can be believed.
    pub filtered: bool,
    /// The names of its service; requests routed there are judged by their authority.
    pub hosts: HostMap,
}

impl Mesh {
    pub(crate) fn read(errors: &mut Errors, node: Option<Node<'_>>) -> Option<Self> {
        let mut mesh = Self {
            service_domain: name("cluster.local")?,
            trust_domains: vec!["cluster.local".to_owned()],
            cidrs: Vec::new(),
            hosts: HostMap::default(),
            namespaces: Vec::new(),
            ingress_gateways: Vec::new(),
            egress_gateways: Vec::new(),
        };
        let Some(node) = node else { return Some(mesh) };
        let fields = node.fields(errors, crate::fields::MESH)?;
        if let Some(node) = fields.get("serviceDomain")
            && let Some(text) = node.string(errors)
        {
            match Pattern::parse(text) {
                Ok(Pattern {
                    host: HostPattern::Exact(domain),
                    port: None,
                }) => {
                    mesh.service_domain = domain;
                }
                _ => errors.add_quoted(
                    &node.path,
                    text,
                    "is not a domain",
                    "write the cluster's DNS domain, such as cluster.local",
                ),
            }
        }
        if let Some(node) = fields.get("trustDomains") {
            mesh.trust_domains.clear();
            node.each_string(errors, |errors, path, text| {
                if text.is_empty() || text.contains('/') || !text.bytes().all(is_of_principal) {
                    errors.add_quoted(
                        path,
                        text,
                        "is not a trust domain",
                        "write its name alone, in lower case, such as cluster.local",
                    );
                } else {
                    mesh.trust_domains.push(text.to_owned());
                }
            });
        }
        if let Some(node) = fields.get("cidrs") {
            mesh.cidrs = read_networks(errors, node);
        }
        if let Some(node) = fields.get("hosts") {
            mesh.hosts = read_hosts(errors, node);
        }
        if let Some(node) = fields.get("namespaces") {
            mesh.namespaces = read_namespaces(errors, node);
        }
        if let Some(node) = fields.get("gateways")
            && let Some(fields) = node.fields(errors, crate::fields::GATEWAYS)
        {
            if let Some(node) = fields.get("ingress") {
                node.each(errors, |errors, node| {
                    mesh.ingress_gateways
                        .extend(Gateway::read(errors, node, true));
                });
            }
            if let Some(node) = fields.get("egress") {
                node.each(errors, |errors, node| {
                    mesh.egress_gateways
                        .extend(Gateway::read(errors, node, false));
                });
            }
        }
        for gateway in &mut mesh.egress_gateways {
            if gateway.hosts.is_empty()
                && let Some(pattern) = gateway_service(&gateway.principal, &mesh.service_domain)
            {
                let _: bool = gateway.hosts.insert(&pattern, 0);
            }
        }
        Some(mesh)
    }

    /// Makes the short names of these namespaces known as inside.
    pub(crate) fn know_namespaces<'n>(&mut self, namespaces: impl IntoIterator<Item = &'n str>) {
        let gateways = self.ingress_gateways.iter().chain(&self.egress_gateways);
        let of_gateways: Vec<String> = gateways
            .map(|gateway| gateway.principal.namespace().to_owned())
            .collect();
        self.namespaces.extend(of_gateways);
        let others = namespaces.into_iter().chain(BUILT_IN_NAMESPACES);
        self.namespaces.extend(others.map(str::to_owned));
    }

    /// True if the address, in its canonical form, is in `mesh.cidrs`.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.cidrs.iter().any(|network| contains(network, address))
    }

    /// True if the identity is of a trust domain of the mesh.
    pub fn has_identity(&self, principal: &Principal) -> bool {
        self.trust_domains
            .iter()
            .any(|domain| domain == principal.trust_domain())
    }

    /// The ingress gateway of this identity.
    pub fn ingress_gateway(&self, principal: &Principal) -> Option<&Gateway> {
        self.ingress_gateways
            .iter()
            .find(|gateway| gateway.principal == *principal)
    }

    /// The gateways of a vantage point; none at a sidecar.
    pub fn gateways(&self, vantage: Vantage) -> &[Gateway] {
        match vantage {
            Vantage::Ingress => &self.ingress_gateways,
            Vantage::Egress => &self.egress_gateways,
            Vantage::Inbound | Vantage::Outbound => &[],
        }
    }

    /// The service of a gateway by Istio's convention, `NAME.NAMESPACE.svc.DOMAIN`: the account is
    /// named after it, with or without `-service-account`. `None` where that is no name.
    ///
    /// An egress gateway without hosts of its own is known by it.
    pub fn gateway_service(&self, principal: &Principal) -> Option<Name> {
        match gateway_service(principal, &self.service_domain)?.host {
            HostPattern::Exact(name) => Some(name),
            HostPattern::Any | HostPattern::Suffix(_) | HostPattern::Network(_) => None,
        }
    }

    /// True if `host` is the service of an egress gateway.
    pub fn is_egress_gateway(&self, host: &Host) -> bool {
        // A service's port says nothing about which service it is.
        self.egress_gateways
            .iter()
            .any(|gateway| gateway.hosts.contains(host, &mut || 0))
    }

    /// True if the host lives inside the mesh.
    ///
    /// `name.namespace` looks like `example.com`, so that form counts only for namespaces that the
    /// policy knows: a host outside must never pass for one inside.
    pub fn has_host(&self, host: &Host, port: &mut dyn FnMut() -> u16) -> bool {
        let Host::Name(name) = host else {
            let Host::Address(address) = host else {
                return false;
            };
            return self.has_address(*address) || self.hosts.contains(host, port);
        };
        let text = name.as_str();
        let below_domain = text
            .strip_suffix(self.service_domain.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        if below_domain || !text.contains('.') {
            return true;
        }
        let mut labels = text.split('.');
        let short = match (labels.next(), labels.next(), labels.next(), labels.next()) {
            (Some(_), Some(_), Some("svc"), None) => true,
            (Some(_), Some(namespace), None, _) => {
                self.namespaces.iter().any(|known| known == namespace)
            }
            _ => false,
        };
        short || self.hosts.contains(host, port)
    }
}

impl Gateway {
    fn read(errors: &mut Errors, node: Node<'_>, ingress: bool) -> Option<Self> {
        let known: &[&str] = if ingress {
            crate::fields::INGRESS_GATEWAY
        } else {
            crate::fields::EGRESS_GATEWAY
        };
        let fields = node.fields(errors, known)?;
        let example = "write the gateway's identity, cluster.local/ns/NAMESPACE/sa/ACCOUNT";
        let principal = fields
            .require(errors, "principal", example)
            .and_then(|node| {
                let text = node.string(errors)?;
                let principal = Principal::parse(text)
                    .filter(|principal| principal.as_str().bytes().all(is_of_principal));
                if principal.is_none() {
                    errors.add_quoted(&node.path, text, "is not an identity", example);
                }
                principal
            });
        let filtered = match fields.get("filtered") {
            Some(node) => node.boolean(errors),
            // Without a word from the operator nothing is believed.
            None => Some(false),
        };
        let hosts = fields
            .get("hosts")
            .map_or_else(HostMap::default, |node| read_hosts(errors, node));
        Some(Self {
            name: None,
            namespace: None,
            labels: Box::default(),
            principal: principal?,
            filtered: filtered?,
            hosts,
        })
    }
}

fn name(text: &str) -> Option<Name> {
    match crate::Authority::parse(text.as_bytes()).ok()?.host {
        Host::Name(name) => Some(name),
        Host::Address(_) => None,
    }
}

pub(crate) fn read_networks(errors: &mut Errors, node: Node<'_>) -> Vec<IpNet> {
    let mut networks = Vec::new();
    node.each_string(errors, |errors, path, text| match parse_network(text) {
        Ok(network) => networks.push(network),
        Err(error) => errors.add(path, &error.message, &error.hint),
    });
    networks
}

pub(crate) fn read_hosts(errors: &mut Errors, node: Node<'_>) -> HostMap {
    let mut hosts = errors.host_map();
    errors.read_hosts(node, &mut hosts, 0);
    hosts
}
