//! The decision over one request.

use std::net::IpAddr;
use std::ops::ControlFlow;

use crate::direction::direction;
use crate::{
    Action, Authority, ComponentType, Direction, DirectionEvidence, Evidence, Gateway, Host,
    InvalidHost, Mesh, Mode, Policy, Principal, Rule, Section, SniMode, TagWrite, Vantage,
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
        let parsed = Authority::parse(&facts.evidence.authority());
        let authority = parsed.as_ref().ok();
        let (direction, evidence) = direction(authority, &mut facts);
        let component = self.component(vantage, authority, &mut facts);
        let (decision, reason, dry_run) = match parsed {
            Err(invalid) => (Action::Deny, Reason::InvalidHost(invalid), None),
            Ok(authority) => self.judge(vantage, &authority, direction, &mut facts),
        };
        Verdict {
            decision,
            reason,
            direction,
            evidence,
            component,
            authority: authority.copied(),
            dry_run,
            tags: TagWrite::of(vantage, direction),
        }
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
                // A namespace of another mesh's trust domain may have the same name.
                let peer = if facts.has_mesh_peer() {
                    facts.peer()
                } else {
                    None
                };
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
        if self.sni_mismatch(vantage, authority, facts) {
            if self.sni.mismatch == SniMode::Deny {
                return (Action::Deny, Reason::SniMismatch, None);
            }
            dry_run = Some(DryRun {
                decision: Action::Deny,
                reason: Reason::SniMismatch,
            });
        }
        let section = self.section(vantage);
        let mut decided = None;
        section.hosts.visit(&authority.host, |rank, only_port| {
            let Some((index, rule)) = section.rule(rank) else {
                return ControlFlow::Continue(());
            };
            if only_port.is_some_and(|port| port != facts.port(authority))
                || !rule_holds(rule, authority, direction, facts)
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

    /// True if the client opened its TLS connection for another host than it now asks for.
    ///
    /// Only at ingress: inside the mesh Istio's SNI names the service that is dialled, not the
    /// request's authority, and the peer's identity says more.
    fn sni_mismatch<E: Evidence>(
        &self,
        vantage: Vantage,
        authority: &Authority,
        facts: &mut Facts<'_, E>,
    ) -> bool {
        if vantage != Vantage::Ingress
            || self.sni.mismatch == SniMode::Ignore
            || facts.has_mesh_peer()
        {
            return false;
        }
        let Some(sni) = facts.evidence.sni().filter(|sni| !sni.is_empty()) else {
            return false;
        };
        Authority::parse(&sni).map(|sni| sni.host) != Ok(authority.host)
    }
}

fn rule_holds<E: Evidence>(
    rule: &Rule,
    authority: &Authority,
    direction: Direction,
    facts: &mut Facts<'_, E>,
) -> bool {
    if !rule.directions.is_empty() && !rule.directions.contains(&direction) {
        return false;
    }
    if !rule.ports.is_empty() && !rule.ports.contains(&facts.port(authority)) {
        return false;
    }
    if rule
        .not_hosts
        .contains(&authority.host, &mut || facts.port(authority))
    {
        return false;
    }
    match &rule.from {
        None => true,
        Some(from) => {
            let facts = std::cell::RefCell::new(facts);
            from.holds(
                rule.action,
                || facts.borrow_mut().peer().cloned(),
                || facts.borrow_mut().source(),
            )
        }
    }
}

/// The evidence of one request, each piece asked for at most once.
pub(crate) struct Facts<'e, E> {
    pub(crate) mesh: &'e Mesh,
    pub(crate) vantage: Vantage,
    evidence: &'e mut E,
    source: Option<Option<IpAddr>>,
    peer: Option<Option<Principal>>,
    forwarded: Option<bool>,
    tls: Option<bool>,
}

impl<'e, E: Evidence> Facts<'e, E> {
    fn new(mesh: &'e Mesh, vantage: Vantage, evidence: &'e mut E) -> Self {
        Self {
            mesh,
            vantage,
            evidence,
            source: None,
            peer: None,
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
        *self
            .source
            .insert(source.map(|source| source.to_canonical()))
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

    /// The port of the request: as written, else the scheme's. Only at ingress does TLS tell the
    /// scheme; inside the mesh every connection is TLS, whatever the client's scheme was.
    pub(crate) fn port(&mut self, authority: &Authority) -> u16 {
        if let Some(port) = authority.port {
            return port;
        }
        if self.vantage == Vantage::Ingress
            && *self.tls.get_or_insert_with(|| self.evidence.is_tls())
        {
            443
        } else {
            80
        }
    }
}
