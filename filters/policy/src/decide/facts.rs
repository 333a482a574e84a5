//! The evidence of one request or connection, each piece asked for at most once.

use std::net::IpAddr;

use crate::istio::Cluster;
use crate::{
    Action, Authority, Direction, Evidence, Gateway, Host, Mesh, Principal, Rule, Subject, Vantage,
};

/// What is known of a request or connection. Every answer of [`Evidence`] that can be needed twice
/// is kept, because inside a proxy each is a crossing of the sandbox.
pub(crate) struct Facts<'e, E> {
    pub(crate) mesh: &'e Mesh,
    pub(crate) vantage: Vantage,
    pub(crate) subject: Subject,
    pub(crate) evidence: &'e mut E,
    source: Option<Option<IpAddr>>,
    destination: Option<Option<(IpAddr, u16)>>,
    peer: Option<Option<Principal>>,
    route: Option<Route>,
    forwarded: Option<bool>,
    tls: Option<bool>,
}

/// Where the route of a request leads, as far as its cluster tells.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// To the address that the client dialled.
    Passthrough,
    /// To a service, in the mesh or outside.
    Service {
        /// The service's name in the registry.
        host: Host,
        /// The service's port.
        port: u16,
    },
    /// To the egress gateway, or nowhere that is known: the authority tells more.
    Untold,
}

impl<'e, E: Evidence> Facts<'e, E> {
    pub(crate) fn new(
        mesh: &'e Mesh,
        vantage: Vantage,
        subject: Subject,
        evidence: &'e mut E,
    ) -> Self {
        Self {
            mesh,
            vantage,
            subject,
            evidence,
            source: None,
            destination: None,
            peer: None,
            route: None,
            forwarded: None,
            tls: None,
        }
    }

    /// The client's address; `None` where it would be the client's own claim.
    ///
    /// A sidecar's Envoy takes the source address from `x-forwarded-for` unless it is told
    /// otherwise (`use_remote_address`), so with that header any caller chooses its address. Only
    /// an ingress gateway is believed, which writes the header itself.
    pub(crate) fn source(&mut self) -> Option<IpAddr> {
        if let Some(source) = self.source {
            return source;
        }
        let is_claim = match self.vantage {
            Vantage::Ingress | Vantage::Egress => false,
            Vantage::Inbound | Vantage::Outbound => {
                self.is_forwarded() && self.ingress_gateway().is_none()
            }
        };
        let source = if is_claim {
            None
        } else {
            self.evidence.source()
        };
        let source = match source {
            Some(IpAddr::V6(address)) => Some(address.to_canonical()),
            other => other,
        };
        *self.source.insert(source)
    }

    pub(crate) fn peer(&mut self) -> Option<&Principal> {
        self.peer
            .get_or_insert_with(|| self.evidence.peer())
            .as_ref()
    }

    /// True if the peer has an identity of the mesh.
    pub(crate) fn has_mesh_peer(&mut self) -> bool {
        let mesh = self.mesh;
        // Without a trust domain no identity can be of the mesh: nothing to ask for.
        !mesh.trust_domains.is_empty() && self.peer().is_some_and(|peer| mesh.has_identity(peer))
    }

    /// The peer, if its identity is of the mesh: a namespace of another trust domain may have the
    /// same name.
    pub(crate) fn mesh_peer(&mut self) -> Option<&Principal> {
        if self.has_mesh_peer() {
            self.peer()
        } else {
            None
        }
    }

    /// The ingress gateway that the peer is.
    pub(crate) fn ingress_gateway(&mut self) -> Option<&'e Gateway> {
        let mesh = self.mesh;
        self.peer().and_then(|peer| mesh.ingress_gateway(peer))
    }

    /// The address and port that the client dialled.
    pub(crate) fn destination(&mut self) -> Option<(IpAddr, u16)> {
        let evidence = &mut self.evidence;
        *self.destination.get_or_insert_with(|| {
            let (address, port) = evidence.destination()?;
            Some((address.to_canonical(), port))
        })
    }

    /// The server name of TLS, if there is one. Not kept: no decision needs it twice.
    pub(crate) fn sni(&mut self) -> Option<Vec<u8>> {
        self.evidence.sni().filter(|sni| !sni.is_empty())
    }

    /// Where a request leads that leaves the workload or the mesh here.
    pub(crate) fn route(&mut self) -> &Route {
        let (evidence, mesh) = (&mut self.evidence, self.mesh);
        self.route
            .get_or_insert_with(|| match evidence.cluster().map(Cluster::parse) {
                Some(Cluster::Passthrough) => Route::Passthrough,
                Some(Cluster::Outbound { host, port }) if !mesh.is_egress_gateway(&host) => {
                    Route::Service { host, port }
                }
                Some(Cluster::Outbound { .. } | Cluster::Other) | None => Route::Untold,
            })
    }

    pub(crate) fn is_forwarded(&mut self) -> bool {
        *self
            .forwarded
            .get_or_insert_with(|| self.evidence.is_forwarded())
    }

    /// The direction in the tag header; `None` unless it is exactly one of the words. Not kept: no
    /// decision needs it twice.
    pub(crate) fn tag(&mut self) -> Option<Direction> {
        let tag = self.evidence.tag()?;
        Direction::from_word(std::str::from_utf8(&tag).ok()?)
    }

    /// True if Envoy terminated TLS.
    pub(crate) fn is_tls(&mut self) -> bool {
        *self.tls.get_or_insert_with(|| self.evidence.is_tls())
    }

    /// The port of the request; 0 where it is not known, which no condition names.
    ///
    /// On its way out of the mesh it is the port of the route's cluster, where that has Istio's form;
    /// else the port as written, else the scheme's. Of a connection it is the port of Istio's server
    /// name, else the one that was dialled.
    pub(crate) fn port(&mut self, authority: &Authority) -> u16 {
        if let Some(port) = self.routed_port().or(authority.port) {
            return port;
        }
        self.unwritten_port()
    }

    /// The port of the route's cluster, unless it only leads to the egress gateway.
    fn routed_port(&mut self) -> Option<u16> {
        let is_routed = matches!(self.vantage, Vantage::Egress | Vantage::Outbound)
            && self.subject == Subject::Request;
        if !is_routed {
            return None;
        }
        match self.route() {
            Route::Service { port, .. } => Some(*port),
            Route::Passthrough | Route::Untold => None,
        }
    }

    /// The port where none is written. Only at ingress does TLS tell the scheme; inside the mesh
    /// every connection is TLS, whatever the client's scheme was.
    fn unwritten_port(&mut self) -> u16 {
        if self.subject == Subject::Connection {
            // Dialled to the proxy itself, it is a port of the proxy's.
            return self.destination().map_or(0, |(_, port)| port);
        }
        if self.vantage == Vantage::Ingress && self.is_tls() {
            443
        } else {
            80
        }
    }

    /// True if the port is what the client wrote, where nothing says that it goes there: routes to
    /// workloads ignore it, and a server name of Istio's form is what it is only behind a proxy of
    /// Istio's.
    fn is_claimed_port(&self, authority: &Authority) -> bool {
        let is_ignored = matches!(self.vantage, Vantage::Ingress | Vantage::Inbound)
            || self.subject == Subject::Connection;
        is_ignored && authority.port.is_some()
    }

    /// True if the request's port is one that a rule of this action `wants`.
    ///
    /// A port that the client only claims may be any: a rule that denies holds for the one that it
    /// would have without the claim too. It also holds where the port is not known.
    pub(crate) fn port_holds(
        &mut self,
        action: Action,
        authority: &Authority,
        wants: &dyn Fn(u16) -> bool,
    ) -> bool {
        let denies = action == Action::Deny;
        let holds = |port| wants(port) || (denies && port == 0);
        holds(self.port(authority))
            || (denies && self.is_claimed_port(authority) && holds(self.unwritten_port()))
    }

    /// True if the rule's `notHosts` name the host.
    ///
    /// Where the port is not known, or only claimed by the client, they are read against the
    /// caller: an exclusion on some port holds for a rule that allows and does not for one that
    /// denies.
    pub(crate) fn is_excluded(&mut self, rule: &Rule, authority: &Authority) -> bool {
        let Some(not_hosts) = &rule.not_hosts else {
            return false;
        };
        let mut is_unknown = false;
        let by_port = not_hosts.contains(&authority.host, &mut || {
            let port = self.port(authority);
            // Only a connection's port can be unknown.
            is_unknown = port == 0 && self.subject == Subject::Connection;
            port
        });
        let by_other = if self.is_claimed_port(authority) {
            not_hosts.contains(&authority.host, &mut || {
                let port = self.unwritten_port();
                is_unknown = port == 0;
                port
            })
        } else {
            by_port
        };
        match rule.action {
            Action::Allow => by_port || by_other || is_unknown,
            Action::Deny => by_port && by_other,
        }
    }
}
