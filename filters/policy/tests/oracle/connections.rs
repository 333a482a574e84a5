//! Connections whose bytes pass unread, TLS passthrough and plain TCP, at the two gateways.
//!
//! A scan as that over requests, whose conditions it shares: what the README says otherwise of
//! connections is their host, their port and, at egress, their direction.

use std::cmp::Reverse;
use std::net::IpAddr;

use meridian_policy::{
    Action, Authority, Date, Direction, DirectionEvidence, Host, Policy, Principal, Request,
    Subject, Vantage, Verdict,
};

use crate::matching::{matches, specificity};
use crate::scan::{Candidate, Scan, Why, choose};
use crate::world::{
    DAYS, Dice, INVALID, PORTS, PlainHost, PlainHosts, PlainPattern, PlainPolicy, PlainRequest,
    PlainRule, mapped, principal,
};

/// Server names that only look like Istio's.
const HALF_ISTIO: [&[u8]; 6] = [
    b"outbound_.443.a.com",
    b"outbound_.0_._.a.com",
    b"outbound_.65536_._.a.com",
    b"outbound_._._.a.com",
    b"outbound_.443_.a.com",
    b"outbound_.443_._.1.2.3.4",
];

/// What a server name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlainSni {
    /// A name, in Istio's form with a port.
    Name(String, Option<u16>),
    /// No name.
    Invalid,
}

/// A connection.
#[derive(Debug, Clone)]
pub struct PlainConnection {
    /// What it says, and its bytes.
    pub sni: Option<(PlainSni, Vec<u8>)>,
    pub source: Option<IpAddr>,
    pub peer: Option<String>,
    /// `None` is the proxy's own address.
    pub destination: Option<IpAddr>,
    pub destination_port: Option<u16>,
    pub today: Option<&'static str>,
}

impl PlainPolicy {
    /// A connection that one of the rules may be about.
    pub fn connection(&self, dice: &mut impl Dice) -> PlainConnection {
        let sni = match dice.below(12) {
            0..=1 => None,
            // Envoy tells no server name by an empty one.
            2 => Some((PlainSni::Invalid, dice.pick(&INVALID).to_vec())),
            3 => Some((PlainSni::Invalid, dice.pick(&HALF_ISTIO).to_vec())),
            _ => Some(server_name(self.aimed(dice), dice)),
        };
        let destination = match (dice.below(4), self.aimed(dice)) {
            (0, _) => None,
            (1, PlainHost::Address(address)) => Some(address),
            _ => Some(mapped(dice)),
        };
        PlainConnection {
            sni: sni.filter(|(_, bytes)| !bytes.is_empty()),
            source: (!dice.once_in(5)).then(|| mapped(dice)),
            peer: dice.once_in(2).then(|| principal(dice)),
            destination,
            destination_port: (!dice.once_in(8)).then(|| dice.pick(&PORTS)),
            today: (!dice.once_in(5)).then(|| dice.pick(&DAYS)),
        }
    }
}

fn server_name(host: PlainHost, dice: &mut impl Dice) -> (PlainSni, Vec<u8>) {
    let spelled = host.spell(dice);
    let PlainHost::Name(name) = host else {
        return (PlainSni::Invalid, spelled.into_bytes());
    };
    if !dice.once_in(3) {
        return (PlainSni::Name(name, None), spelled.into_bytes());
    }
    let port = dice.pick(&PORTS);
    let prefix = dice.pick(&["outbound", "Outbound", "OUTBOUND"]);
    let text = format!("{prefix}_.{port}_.{}_.{spelled}", dice.pick(&["", "v1"]));
    // Longer than names can be.
    let said = if text.trim_end_matches('.').len() > 253 {
        PlainSni::Invalid
    } else {
        PlainSni::Name(name, Some(port))
    };
    (said, text.into_bytes())
}

/// What should become of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedConnection {
    pub decision: Action,
    pub why: Why,
    pub direction: Direction,
    pub evidence: DirectionEvidence,
    pub host: Option<(PlainHost, Option<u16>)>,
    pub dry_run: Option<(Action, Why)>,
}

impl ExpectedConnection {
    /// The same parts of what the policy said.
    pub fn of(verdict: &Verdict) -> Self {
        let plain = |authority: &Authority| {
            let host = match &authority.host {
                Host::Name(name) => PlainHost::Name(name.as_str().to_owned()),
                Host::Address(address) => PlainHost::Address(*address),
            };
            (host, authority.port)
        };
        Self {
            decision: verdict.decision,
            why: Why::of(verdict.reason),
            direction: verdict.direction,
            evidence: verdict.evidence,
            host: verdict.authority.as_ref().map(plain),
            dry_run: verdict
                .dry_run
                .map(|would| (would.decision, Why::of(would.reason))),
        }
    }
}

/// What the compiled policy says of the connection.
pub fn decide_connection(
    policy: &Policy,
    vantage: Vantage,
    connection: &PlainConnection,
) -> Verdict {
    decide_connection_at(policy, vantage, None, connection)
}

/// The same of one of several gateways.
pub fn decide_connection_at(
    policy: &Policy,
    vantage: Vantage,
    gateway: Option<&str>,
    connection: &PlainConnection,
) -> Verdict {
    let mut asked = Request {
        gateway,
        source: connection.source,
        destination: connection.destination,
        destination_port: connection.destination_port,
        peer: connection.peer.as_deref().and_then(Principal::parse),
        sni: connection.sni.as_ref().map(|(_, bytes)| bytes.as_slice()),
        today: connection.today.and_then(Date::parse),
        ..Request::default()
    };
    policy.decide(vantage, Subject::Connection, &mut asked)
}

/// What the README says of the connection.
pub fn expect_connection(policy: &PlainPolicy, connection: &PlainConnection) -> ExpectedConnection {
    // Who calls, from where and when, as a request has it.
    let request = PlainRequest {
        host: None,
        port: None,
        authority: Vec::new(),
        source: connection.source,
        destination: None,
        peer: connection.peer.clone(),
        sni: None,
        tls: false,
        cluster: None,
        tag: None,
        forwarded: false,
        namespace: None,
        today: connection.today,
    };
    let scan = ConnectionScan {
        caller: Scan {
            policy,
            request: &request,
        },
        connection,
    };
    let (direction, evidence) = scan.direction();
    let is_invalid = matches!(connection.sni, Some((PlainSni::Invalid, _)));
    let (decision, why, dry_run) = if is_invalid {
        (Action::Deny, Why::InvalidHost, None)
    } else {
        let rules = policy.rules.iter().enumerate();
        let candidates = rules.filter_map(|(index, rule)| {
            let best = scan.candidate(rule, direction)?;
            Some((best, !rule.allow, Reverse(index)))
        });
        choose(policy, candidates.collect::<Vec<Candidate>>(), None)
    };
    ExpectedConnection {
        decision,
        why,
        direction,
        evidence,
        host: scan.host().map(|host| (host, scan.claimed_port())),
        dry_run,
    }
}

struct ConnectionScan<'s> {
    caller: Scan<'s>,
    connection: &'s PlainConnection,
}

impl ConnectionScan<'_> {
    /// The server name; without one the dialled address.
    fn host(&self) -> Option<PlainHost> {
        match &self.connection.sni {
            Some((PlainSni::Name(name, _), _)) => Some(PlainHost::Name(name.clone())),
            Some((PlainSni::Invalid, _)) => None,
            None => {
                let address = self.connection.destination?;
                Some(PlainHost::Address(address.to_canonical()))
            }
        }
    }

    /// The port of Istio's form, which the client need not mean.
    fn claimed_port(&self) -> Option<u16> {
        match self.connection.sni {
            Some((PlainSni::Name(_, port), _)) => port,
            _ => None,
        }
    }

    /// The port that was dialled, unless it is one of the proxy's own.
    fn dialled_port(&self) -> Option<u16> {
        self.connection.destination?;
        self.connection.destination_port
    }

    /// What the port may be, the client's word first; `None` where it is not known.
    fn ports(&self) -> Vec<Option<u16>> {
        let claimed = self.claimed_port().map(Some);
        claimed.into_iter().chain([self.dialled_port()]).collect()
    }

    /// A rule that allows ports believes the client, and no unknown port; one that denies them
    /// holds for the dialled port too, and for an unknown one.
    fn port_holds(&self, allow: bool, wants: &dyn Fn(u16) -> bool) -> bool {
        let ports = self.ports();
        if allow {
            ports[0].is_some_and(wants)
        } else {
            ports.iter().any(|port| port.is_none_or(wants))
        }
    }

    /// An exclusion from a rule that allows is taken for any port that it may be; one from a rule
    /// that denies must hold for all.
    fn is_excluded(&self, rule: &PlainRule, host: Option<&PlainHost>) -> bool {
        let excludes = |port: Option<u16>| {
            rule.not_hosts.iter().any(|hosts| match port {
                Some(port) => is_named(hosts, host, port),
                None => hosts.port.map_or(is_named(hosts, host, 0), |any| {
                    rule.allow && is_named(hosts, host, any)
                }),
            })
        };
        let ports = self.ports();
        if rule.allow {
            ports.into_iter().any(excludes)
        } else {
            ports.into_iter().all(excludes)
        }
    }

    /// How specific the rule's host is, where the rule holds.
    fn candidate(&self, rule: &PlainRule, direction: Direction) -> Option<usize> {
        let host = self.host();
        // Without a host nothing is allowed by a rule.
        if host.is_none() && rule.allow {
            return None;
        }
        let host = host.as_ref();
        let matching = rule.hosts.iter().filter(|hosts| match hosts.port {
            None => is_named(hosts, host, 0),
            Some(only) => {
                is_named(hosts, host, only) && self.port_holds(rule.allow, &|port| port == only)
            }
        });
        let best = matching.map(|hosts| specificity(&hosts.pattern)).max()?;
        let holds = (rule.ports.is_empty()
            || self.port_holds(rule.allow, &|port| rule.ports.contains(&port)))
            && (rule.directions.is_empty() || rule.directions.contains(&direction))
            && self.caller.is_in_time(rule)
            && !self.is_excluded(rule, host)
            && rule
                .from
                .as_ref()
                .is_none_or(|from| self.caller.calls(from, rule.allow));
        holds.then_some(best)
    }

    fn direction(&self) -> (Direction, DirectionEvidence) {
        use {Direction as D, DirectionEvidence as E};
        let either = |inside, yes, no| {
            if inside {
                (D::EastWest, yes)
            } else {
                (D::NorthSouth, no)
            }
        };
        if self.caller.policy.vantage == Vantage::Ingress {
            return match self.connection.source {
                _ if self.caller.is_of_mesh() => (D::EastWest, E::MeshIdentity),
                Some(source) => either(
                    self.caller.is_mesh_address(source),
                    E::MeshSource,
                    E::OutsideSource,
                ),
                None => (D::Unknown, E::NoSource),
            };
        }
        // An unknown port is none that `mesh.hosts` names.
        let port = self.ports()[0].unwrap_or(0);
        let inside = |host: &PlainHost| self.caller.is_inside(host, port);
        match (&self.connection.sni, self.host()) {
            (Some((PlainSni::Invalid, _)), _) => (D::Unknown, E::InvalidHost),
            (Some(_), Some(host)) => either(inside(&host), E::MeshSni, E::OutsideSni),
            (None, Some(host)) => either(inside(&host), E::MeshDestination, E::OutsideDestination),
            (_, None) => (D::Unknown, E::NoDestination),
        }
    }
}

/// True if the pattern names the host; where that is not known only `*` does.
fn is_named(hosts: &PlainHosts, host: Option<&PlainHost>, port: u16) -> bool {
    match host {
        Some(host) => matches(hosts, host, port),
        None => hosts.pattern == PlainPattern::Any && hosts.port.is_none_or(|only| only == port),
    }
}
