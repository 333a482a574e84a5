//! The decision over one request.

use std::net::IpAddr;
use std::ops::ControlFlow;

use crate::decide::direction::{cluster_host, direction};
use crate::{
    Action, Authority, ComponentType, Direction, DirectionEvidence, Evidence, Gateway, Host,
    InvalidHost, Mesh, Mode, Policy, Principal, Rule, Section, Sni, SniMode, TagWrite, Unmet,
    Vantage,
};

/// What a policy says of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What is done.
    pub decision: Action,
    /// Why.
    pub reason: Reason,
    /// The direction.
    pub direction: Direction,
    /// What the direction was concluded from.
    pub evidence: DirectionEvidence,
    /// Whom the request serves.
    pub component: ComponentType,
    /// The canonical authority; `None` when it is invalid.
    pub authority: Option<Authority>,
    /// What a dry run would have done.
    pub dry_run: Option<DryRun>,
    /// What becomes of the tag headers when the request goes on.
    pub tags: TagWrite,
    /// Whose request it is, at the egress gateway of a policy that names namespaces.
    pub caller: Option<Caller>,
}

/// The namespace of a caller, as far as the policy names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// The namespace of this index in [`Policy::callers`].
    Named(usize),
    /// An identity of the mesh, in a namespace that the policy does not name.
    Other,
    /// No identity of the mesh.
    Unknown,
}

/// Why a decision was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The rule of this index in [`Section::rules`].
    Rule(usize),
    /// No rule matched.
    Default,
    /// The authority is not a host.
    InvalidHost(InvalidHost),
    /// The connection was opened for another name.
    SniMismatch,
}

impl Reason {
    /// The metric label `rule`.
    pub fn label(self, section: &Section) -> &str {
        match self {
            Self::Rule(index) => section
                .rules
                .get(index)
                .map_or("default", |rule| &rule.name),
            Self::Default => "default",
            Self::InvalidHost(_) => "invalid-host",
            Self::SniMismatch => "sni-mismatch",
        }
    }
}

/// What a rule or section in dry run would have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DryRun {
    /// What would have been done.
    pub decision: Action,
    /// Why.
    pub reason: Reason,
}

/// What a refused client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal<'p> {
    /// The HTTP status.
    pub status: u16,
    /// The body. It never names a rule.
    pub body: &'p str,
}

impl Verdict {
    /// The canonical host; `None` when it is invalid.
    pub fn host(&self) -> Option<&Host> {
        self.authority.as_ref().map(|authority| &authority.host)
    }
}

impl Policy {
    /// Decides over one request.
    pub fn decide<E: Evidence>(&self, vantage: Vantage, evidence: &mut E) -> Verdict {
        let mut facts = Facts::new(&self.mesh, vantage, evidence);
        let parsed = Authority::from_bytes(facts.evidence.authority());
        let authority = parsed.as_ref().ok();
        let (direction, evidence) = direction(authority, &mut facts);
        let component = self.component(vantage, authority, &mut facts);
        let (decision, reason, dry_run) = match &parsed {
            Err(invalid) => (Action::Deny, Reason::InvalidHost(*invalid), None),
            Ok(authority) => self.judge(vantage, authority, direction, &mut facts),
        };
        let caller = (vantage == Vantage::Egress && !self.callers.is_empty())
            .then(|| self.caller(&mut facts));
        Verdict {
            decision,
            reason,
            direction,
            evidence,
            component,
            authority: parsed.ok(),
            dry_run,
            tags: TagWrite::of(vantage, direction),
            caller,
        }
    }

    fn caller<E: Evidence>(&self, facts: &mut Facts<'_, E>) -> Caller {
        let Some(peer) = facts.mesh_peer() else {
            return Caller::Unknown;
        };
        let named = self
            .callers
            .binary_search_by(|name| name.as_str().cmp(peer.namespace()));
        named.map_or(Caller::Other, Caller::Named)
    }

    /// What to tell the client; `None` when the request goes on.
    pub fn refusal(&self, verdict: &Verdict) -> Option<Refusal<'_>> {
        if verdict.decision == Action::Allow {
            return None;
        }
        Some(match verdict.reason {
            Reason::InvalidHost(_) => Refusal {
                status: 400,
                body: "invalid host\n",
            },
            Reason::SniMismatch => Refusal {
                status: self.sni.status,
                body: "misdirected request\n",
            },
            Reason::Rule(_) | Reason::Default => Refusal {
                status: self.deny.status,
                body: &self.deny.body,
            },
        })
    }

    fn component<E: Evidence>(
        &self,
        vantage: Vantage,
        authority: Option<&Authority>,
        facts: &mut Facts<'_, E>,
    ) -> ComponentType {
        match vantage {
            Vantage::Ingress => authority.map_or(ComponentType::Application, |authority| {
                self.components
                    .of_host(&authority.host, &mut || facts.port(authority))
            }),
            Vantage::Inbound | Vantage::Outbound => {
                self.components.of_namespace(facts.evidence.namespace())
            }
            Vantage::Egress => {
                let peer = facts.mesh_peer();
                self.components.of_namespace(peer.map(Principal::namespace))
            }
        }
    }

    fn judge<E: Evidence>(
        &self,
        vantage: Vantage,
        authority: &Authority,
        direction: Direction,
        facts: &mut Facts<'_, E>,
    ) -> (Action, Reason, Option<DryRun>) {
        let mut dry_run = None;
        match self.sni_mismatch(vantage, authority, facts) {
            SniMode::Deny => return (Action::Deny, Reason::SniMismatch, None),
            SniMode::DryRun => {
                dry_run = Some(DryRun {
                    decision: Action::Deny,
                    reason: Reason::SniMismatch,
                });
            }
            SniMode::Ignore => {}
        }
        self.by_rules(vantage, authority, direction, facts, dry_run)
    }

    /// What the rules of a section say; `dry_run` is what an earlier check would have done.
    pub(crate) fn by_rules<E: Evidence>(
        &self,
        vantage: Vantage,
        authority: &Authority,
        direction: Direction,
        facts: &mut Facts<'_, E>,
        mut dry_run: Option<DryRun>,
    ) -> (Action, Reason, Option<DryRun>) {
        let section = self.section(vantage);
        let mut decided = None;
        section.hosts.visit(&authority.host, |rank, only_port| {
            let Some((index, rule)) = section.rule(rank) else {
                return ControlFlow::Continue(());
            };
            let is_other_port = only_port.is_some_and(|only| {
                !facts.port_holds(rule.action, authority, &|port| port == only)
            });
            if is_other_port
                || unmet(rule, authority, direction, facts).is_some()
                // Not to be known never helps the caller.
                || (rule.action == Action::Allow && authority.host.is_none())
            {
                return ControlFlow::Continue(());
            }
            if rule.dry_run {
                let would = DryRun {
                    decision: rule.action,
                    reason: Reason::Rule(index),
                };
                dry_run.get_or_insert(would);
                return ControlFlow::Continue(());
            }
            decided = Some((rule.action, Reason::Rule(index)));
            ControlFlow::Break(())
        });
        let (decision, reason) = decided.unwrap_or((section.default, Reason::Default));
        match section.mode {
            Mode::Enforce => (decision, reason, dry_run),
            // A section in dry run is itself the dry run; what is done is to let pass.
            Mode::DryRun => {
                let would = dry_run.filter(|would| would.reason == Reason::SniMismatch);
                (
                    Action::Allow,
                    Reason::Default,
                    would.or(Some(DryRun { decision, reason })),
                )
            }
        }
    }

    /// What becomes of a request whose TLS connection the client opened for another host, or for
    /// none; [`SniMode::Ignore`] when it was opened for this one.
    ///
    /// Only at ingress: inside the mesh Istio's SNI names the service that is dialled, not the
    /// request's authority, and the peer's identity says more.
    pub(crate) fn sni_mismatch<E: Evidence>(
        &self,
        vantage: Vantage,
        authority: &Authority,
        facts: &mut Facts<'_, E>,
    ) -> SniMode {
        let Sni {
            mismatch, missing, ..
        } = self.sni;
        if vantage != Vantage::Ingress
            || (mismatch == SniMode::Ignore && missing == SniMode::Ignore)
            || facts.has_mesh_peer()
        {
            return SniMode::Ignore;
        }
        match facts.sni() {
            Some(_) if mismatch == SniMode::Ignore => SniMode::Ignore,
            Some(sni) => match Authority::from_bytes(sni) {
                Ok(sni) if sni.host == authority.host => SniMode::Ignore,
                _ => mismatch,
            },
            None if missing != SniMode::Ignore && facts.is_tls() => missing,
            None => SniMode::Ignore,
        }
    }
}

/// The first condition that keeps the rule from taking part, beside its hosts and their ports;
/// `None` when all hold.
pub(crate) fn unmet<E: Evidence>(
    rule: &Rule,
    authority: &Authority,
    direction: Direction,
    facts: &mut Facts<'_, E>,
) -> Option<Unmet> {
    if !rule.directions.is_empty() && !rule.directions.contains(&direction) {
        return Some(Unmet::Directions);
    }
    if let Some(last) = rule.expires {
        let is_past = facts.evidence.today().map(|today| today > last);
        // Not to know the day never helps the caller.
        if is_past.unwrap_or(rule.action == Action::Allow) {
            return Some(Unmet::Expires);
        }
    }
    if !rule.ports.is_empty()
        && !facts.port_holds(rule.action, authority, &|port| rule.ports.contains(&port))
    {
        return Some(Unmet::Ports);
    }
    if facts.is_excluded(rule, authority) {
        return Some(Unmet::NotHosts);
    }
    let from = rule.from.as_ref()?;
    from.unmet(rule.action, facts)
}

/// The evidence of one request, each piece asked for at most once.
pub(crate) struct Facts<'e, E> {
    pub(crate) mesh: &'e Mesh,
    pub(crate) vantage: Vantage,
    pub(crate) evidence: &'e mut E,
    source: Option<Option<IpAddr>>,
    peer: Option<Option<Principal>>,
    forwarded: Option<bool>,
    tls: Option<bool>,
    /// True if a port was asked for that is not known.
    missed_port: bool,
    /// True if the evidence is of a connection whose bytes pass unread.
    pub(crate) is_connection: bool,
}

impl<'e, E: Evidence> Facts<'e, E> {
    pub(crate) fn new(mesh: &'e Mesh, vantage: Vantage, evidence: &'e mut E) -> Self {
        Self {
            mesh,
            vantage,
            evidence,
            source: None,
            peer: None,
            forwarded: None,
            tls: None,
            missed_port: false,
            is_connection: false,
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

    pub(crate) fn destination(&mut self) -> Option<IpAddr> {
        self.evidence
            .destination()
            .map(|destination| destination.to_canonical())
    }

    /// The server name of TLS, if there is one.
    pub(crate) fn sni(&mut self) -> Option<Vec<u8>> {
        self.evidence.sni().filter(|sni| !sni.is_empty())
    }

    pub(crate) fn cluster(&mut self) -> Option<String> {
        self.evidence.cluster()
    }

    pub(crate) fn is_forwarded(&mut self) -> bool {
        *self
            .forwarded
            .get_or_insert_with(|| self.evidence.is_forwarded())
    }

    /// The direction in the tag header; `None` unless it is exactly one of the words.
    pub(crate) fn tag(&mut self) -> Option<Direction> {
        let tag = self.evidence.tag()?;
        Direction::from_word(std::str::from_utf8(&tag).ok()?)
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
        let routes = matches!(self.vantage, Vantage::Egress | Vantage::Outbound);
        if !routes || self.is_connection {
            return None;
        }
        let (host, port) = cluster_host(self.cluster()?)?;
        (!self.mesh.is_egress_gateway(&host)).then_some(port)
    }

    /// The port where none is written. Only at ingress does TLS tell the scheme; inside the mesh
    /// every connection is TLS, whatever the client's scheme was.
    fn unwritten_port(&mut self) -> u16 {
        if self.is_connection {
            // Dialled to the proxy itself, it is a port of the proxy's.
            let port = match self.destination() {
                Some(_) => self.evidence.destination_port().unwrap_or(0),
                None => 0,
            };
            self.missed_port = port == 0;
            return port;
        }
        if self.vantage == Vantage::Ingress && self.is_tls() {
            443
        } else {
            80
        }
    }

    /// True if Envoy terminated TLS.
    fn is_tls(&mut self) -> bool {
        *self.tls.get_or_insert_with(|| self.evidence.is_tls())
    }

    /// True if the rule's `notHosts` name the host. Of a port that the client need not mean, as in
    /// [`Facts::port_holds`], an exclusion from a rule that allows is taken, and one from a rule that
    /// denies is not; likewise where the port is not known.
    fn is_excluded(&mut self, rule: &Rule, authority: &Authority) -> bool {
        self.missed_port = false;
        let Some(not_hosts) = &rule.not_hosts else {
            return false;
        };
        let by_port = not_hosts.contains(&authority.host, &mut || self.port(authority));
        let by_other = if self.is_claimed_port(authority) {
            not_hosts.contains(&authority.host, &mut || self.unwritten_port())
        } else {
            by_port
        };
        match rule.action {
            Action::Allow => by_port || by_other || self.missed_port,
            Action::Deny => by_port && by_other,
        }
    }

    /// True if the port is what the client wrote, where nothing says that it goes there: routes to
    /// workloads ignore it, and a server name of Istio's form is what it is only behind a proxy of
    /// Istio's.
    fn is_claimed_port(&self, authority: &Authority) -> bool {
        let ignored = matches!(self.vantage, Vantage::Ingress | Vantage::Inbound);
        (ignored || self.is_connection) && authority.port.is_some()
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Request;

    /// A trusted proxy's `x-forwarded-for` can hold that spelling; no client can connect from it.
    #[test]
    fn a_mapped_source_is_the_ipv4_address_that_it_is() {
        let policy = Policy::from_json(
            br#"{"hosts": {"ingress": {"default": "allow", "rules": [{"name": "a", "hosts": ["*"],
                "action": "deny", "from": {"cidrs": ["10.0.0.0/8"]}}]}}}"#,
        )
        .unwrap();
        let mut request = Request::new(b"shop.example.com");
        request.source = "::ffff:10.1.2.3".parse().ok();
        let verdict = policy.decide(Vantage::Ingress, &mut request);
        assert_eq!(verdict.decision, Action::Deny);
    }

    /// TLS libraries refuse to send such names, so no vector has one.
    #[test]
    fn a_server_name_that_is_no_host_is_a_mismatch() {
        let policy = Policy::from_json(br#"{"hosts": {"ingress": {"default": "allow"}}}"#).unwrap();
        for sni in [&b"shop..example.com"[..], b"shop.example.0x7f", b"\xff"] {
            let mut request = Request::new(b"shop.example.com");
            request.sni = Some(sni);
            let verdict = policy.decide(Vantage::Ingress, &mut request);
            assert_eq!(verdict.reason, Reason::SniMismatch, "{sni:?}");
        }
    }
}
