//! What a policy says of a request or connection, and what a refused client is told.

use crate::{
    Action, Authority, ComponentType, Direction, DirectionEvidence, Host, InvalidHost, Policy,
    Section, TagWrite,
};

/// What a policy says of a request or connection.
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
    /// Whom a request serves; `None` for a connection.
    pub component: Option<ComponentType>,
    /// The canonical authority of a request, or where a connection goes, with the port only where
    /// its server name had one. `None` where that is invalid or not known.
    pub authority: Option<Authority>,
    /// What a dry run would have done.
    pub dry_run: Option<DryRun>,
    /// What becomes of a request's tag headers when it goes on; `None` for a connection.
    pub tags: Option<TagWrite>,
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
    /// The authority, or a connection's server name, is not a host.
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

/// What the client of a refused request is told.
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
    /// What to tell the client of a request; `None` when it goes on.
    pub fn refusal(&self, verdict: &Verdict) -> Option<Refusal<'_>> {
        (verdict.decision == Action::Deny).then(|| self.refusal_for(verdict.reason))
    }

    /// What to tell the client of a request that is refused for this reason.
    pub fn refusal_for(&self, reason: Reason) -> Refusal<'_> {
        match reason {
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
        }
    }
}
