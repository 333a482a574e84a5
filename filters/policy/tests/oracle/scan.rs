//! The oracle: a scan over the list of rules with plain string and bit operations.
//!
//! Written from the design alone, slow and simple on purpose. It shares no code with the matcher;
//! only the words of the vocabulary are the crate's.

use std::cmp::Reverse;
use std::net::IpAddr;

use meridian_policy::{
    Action, ComponentType, Date, Direction, DirectionEvidence, Policy, Principal, Reason, Request,
    Subject, TagWrite, Vantage, Verdict,
};

use crate::matching::{any_matches, is_in, is_like, matches, specificity};
use crate::world::{PlainCluster, PlainFrom, PlainHost, PlainPolicy, PlainRequest, PlainRule};

/// Why, as far as the oracle tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    Rule(usize),
    Default,
    InvalidHost,
    SniMismatch,
}

impl Why {
    pub fn of(reason: Reason) -> Self {
        match reason {
            Reason::Rule(index) => Self::Rule(index),
            Reason::Default => Self::Default,
            Reason::InvalidHost(_) => Self::InvalidHost,
            Reason::SniMismatch => Self::SniMismatch,
        }
    }
}

/// What should become of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    pub decision: Action,
    pub why: Why,
    pub direction: Direction,
    pub evidence: DirectionEvidence,
    pub component: ComponentType,
    pub dry_run: Option<(Action, Why)>,
    pub tags_stay: bool,
}

impl Expected {
    /// The same parts of what the policy said.
    pub fn of(verdict: &Verdict) -> Self {
        Self {
            decision: verdict.decision,
            why: Why::of(verdict.reason),
            direction: verdict.direction,
            evidence: verdict.evidence,
            component: verdict.component.unwrap(),
            dry_run: verdict
                .dry_run
                .map(|would| (would.decision, Why::of(would.reason))),
            tags_stay: verdict.tags == Some(TagWrite::Replace),
        }
    }
}

/// What the compiled policy says of the request.
pub fn decide(policy: &Policy, vantage: Vantage, request: &PlainRequest) -> Verdict {
    decide_at(policy, vantage, None, request)
}

/// The same of one of several gateways.
pub fn decide_at(
    policy: &Policy,
    vantage: Vantage,
    gateway: Option<&str>,
    request: &PlainRequest,
) -> Verdict {
    let cluster = request.cluster.as_ref().map(PlainCluster::name);
    let mut asked = Request::new(&request.authority);
    asked.source = request.source;
    asked.destination = request.destination;
    asked.peer = request.peer.as_deref().and_then(Principal::parse);
    asked.sni = request.sni.as_ref().map(|(_, bytes)| bytes.as_slice());
    asked.tls = request.tls;
    asked.cluster = cluster.as_deref();
    asked.tag = request.tag;
    asked.forwarded = request.forwarded;
    asked.namespace = request.namespace;
    asked.today = request.today.and_then(Date::parse);
    asked.gateway = gateway;
    policy.decide(vantage, Subject::Request, &mut asked)
}

/// What the design says of the request.
pub fn expect(policy: &PlainPolicy, request: &PlainRequest) -> Expected {
    let scan = Scan { policy, request };
    let (direction, evidence) = scan.direction();
    let (decision, why, dry_run) = scan.decision(direction);
    let leaves = matches!(policy.vantage, Vantage::Egress | Vantage::Outbound)
        && direction != Direction::EastWest;
    Expected {
        decision,
        why,
        direction,
        evidence,
        component: scan.component(),
        dry_run,
        tags_stay: !leaves,
    }
}

/// What can be told of one request.
pub struct Scan<'s> {
    pub policy: &'s PlainPolicy,
    pub request: &'s PlainRequest,
}

/// A rule that takes part: how specific its host is, whether it denies, its place.
pub type Candidate = (usize, bool, Reverse<usize>);

/// What is done, why, and what a dry run would have done.
pub type Decided = (Action, Why, Option<(Action, Why)>);

impl Scan<'_> {
    fn port(&self) -> u16 {
        let is_https = self.policy.vantage == Vantage::Ingress && self.request.tls;
        let written = self.request.port.unwrap_or(if is_https { 443 } else { 80 });
        self.routed_port().unwrap_or(written)
    }

    /// The port of a service's cluster, on the way out.
    fn routed_port(&self) -> Option<u16> {
        if !matches!(self.policy.vantage, Vantage::Egress | Vantage::Outbound) {
            return None;
        }
        let Some(PlainCluster::Service(below, host, port)) = &self.request.cluster else {
            return None;
        };
        let leads_to_gateway = self
            .policy
            .egress_gateway
            .is_some_and(|(_, service)| !below && *host == PlainHost::Name(service.to_owned()));
        (!leads_to_gateway).then_some(*port)
    }

    /// The port that the client wrote where it need not mean it, and the one of its scheme.
    fn claimed_ports(&self) -> Option<(u16, u16)> {
        let is_claimed = matches!(self.policy.vantage, Vantage::Ingress | Vantage::Inbound);
        let is_https = self.policy.vantage == Vantage::Ingress && self.request.tls;
        let scheme = if is_https { 443 } else { 80 };
        self.request
            .port
            .filter(|_| is_claimed)
            .map(|port| (port, scheme))
    }

    /// Where requests reach workloads a rule that denies holds for the written port and for the scheme's; one that
    /// allows for the written port.
    fn port_holds(&self, allow: bool, wants: &dyn Fn(u16) -> bool) -> bool {
        match self.claimed_ports() {
            None => wants(self.port()),
            Some((port, scheme)) => wants(port) || (!allow && wants(scheme)),
        }
    }

    fn is_excluded(&self, rule: &PlainRule, host: &PlainHost) -> bool {
        let excluded = |port| any_matches(&rule.not_hosts, host, port);
        match self.claimed_ports() {
            None => excluded(self.port()),
            Some((port, scheme)) if rule.allow => excluded(port) || excluded(scheme),
            Some((port, scheme)) => excluded(port) && excluded(scheme),
        }
    }

    fn peer_part(&self, index: usize) -> Option<&str> {
        self.request.peer.as_ref()?.split('/').nth(index)
    }

    pub fn is_of_mesh(&self) -> bool {
        self.peer_part(0).is_some_and(|domain| {
            self.policy
                .trust_domains
                .iter()
                .any(|known| known == domain)
        })
    }

    fn gateway(&self) -> Option<bool> {
        let peer = self.request.peer.as_ref()?;
        let known = self
            .policy
            .ingress_gateways
            .iter()
            .find(|(principal, _)| principal == peer);
        known.map(|(_, filtered)| *filtered)
    }

    /// A sidecar's source address is hearsay where the request was forwarded, unless by a gateway.
    fn source(&self) -> Option<IpAddr> {
        let at_sidecar = matches!(self.policy.vantage, Vantage::Inbound | Vantage::Outbound);
        if at_sidecar && self.request.forwarded && self.gateway().is_none() {
            return None;
        }
        self.request.source
    }

    pub fn is_mesh_address(&self, address: IpAddr) -> bool {
        self.policy
            .cidrs
            .iter()
            .any(|network| is_in(address, *network))
    }

    pub fn is_inside(&self, host: &PlainHost, port: u16) -> bool {
        if any_matches(&self.policy.mesh_hosts, host, port) {
            return true;
        }
        let name = match host {
            PlainHost::Address(address) => return self.is_mesh_address(*address),
            PlainHost::Name(name) => name.as_str(),
        };
        if !name.contains('.') || name == "cluster.local" || name.ends_with(".cluster.local") {
            return true;
        }
        match name.split('.').collect::<Vec<_>>().as_slice() {
            [_, _, "svc"] => true,
            [_, namespace] => self
                .known_namespaces()
                .iter()
                .any(|known| known == namespace),
            _ => false,
        }
    }

    fn known_namespaces(&self) -> Vec<String> {
        let policy = self.policy;
        let mut known = vec!["default".to_owned(), "kube-system".to_owned()];
        known.extend(policy.namespaces.iter().cloned());
        known.extend(policy.system_namespaces.iter().cloned());
        let gateways = policy
            .ingress_gateways
            .iter()
            .map(|(principal, _)| principal.as_str());
        for principal in gateways.chain(policy.egress_gateway.map(|(principal, _)| principal)) {
            known.push(principal.split('/').nth(2).unwrap().to_owned());
        }
        known
    }

    fn direction(&self) -> (Direction, DirectionEvidence) {
        use {Direction as D, DirectionEvidence as E};
        let request = self.request;
        let either = |inside, yes, no| {
            if inside {
                (D::EastWest, yes)
            } else {
                (D::NorthSouth, no)
            }
        };
        let by_authority = || match &request.host {
            None => (D::Unknown, E::InvalidHost),
            Some(host) => either(
                self.is_inside(host, self.port()),
                E::MeshHost,
                E::OutsideHost,
            ),
        };
        let by_source = || match self.source() {
            Some(source) => either(
                self.is_mesh_address(source),
                E::MeshSource,
                E::OutsideSource,
            ),
            None if self.policy.vantage == Vantage::Inbound && request.forwarded => {
                (D::Unknown, E::ForwardedSource)
            }
            None => (D::Unknown, E::NoSource),
        };
        match self.policy.vantage {
            Vantage::Ingress if self.is_of_mesh() => (D::EastWest, E::MeshIdentity),
            Vantage::Ingress => by_source(),
            Vantage::Inbound => match (self.gateway(), request.tag) {
                (Some(true), Some(b"north-south")) => (D::NorthSouth, E::GatewayTag),
                (Some(true), Some(b"east-west")) => (D::EastWest, E::GatewayTag),
                (Some(true), Some(b"unknown")) => (D::Unknown, E::GatewayTag),
                (Some(_), _) => (D::NorthSouth, E::IngressGateway),
                (None, _) if self.is_of_mesh() => (D::EastWest, E::MeshIdentity),
                (None, _) => by_source(),
            },
            Vantage::Egress => by_authority(),
            Vantage::Outbound => match &request.cluster {
                Some(PlainCluster::Passthrough) => match request.destination {
                    Some(address) => either(
                        self.is_mesh_address(address),
                        E::MeshDestination,
                        E::OutsideDestination,
                    ),
                    None => (D::Unknown, E::NoDestination),
                },
                Some(PlainCluster::Service(below, host, port)) => {
                    let host = match host {
                        PlainHost::Name(name) if *below => PlainHost::Name(format!("any.{name}")),
                        host => host.clone(),
                    };
                    let is_gateway =
                        |(_, service): (&str, &str)| host == PlainHost::Name(service.to_owned());
                    if self.policy.egress_gateway.is_some_and(is_gateway) {
                        by_authority()
                    } else {
                        either(
                            self.is_inside(&host, *port),
                            E::MeshCluster,
                            E::OutsideCluster,
                        )
                    }
                }
                Some(PlainCluster::Unknown) | None => by_authority(),
            },
        }
    }

    fn component(&self) -> ComponentType {
        let policy = self.policy;
        let is_known = |namespace: &str| {
            policy
                .system_namespaces
                .iter()
                .any(|known| known == namespace)
        };
        let is_system = match policy.vantage {
            Vantage::Ingress => {
                let host = self.request.host.as_ref();
                host.is_some_and(|host| any_matches(&policy.system_hosts, host, self.port()))
            }
            Vantage::Inbound | Vantage::Outbound => self.request.namespace.is_some_and(is_known),
            Vantage::Egress => self.is_of_mesh() && self.peer_part(2).is_some_and(is_known),
        };
        if is_system {
            ComponentType::System
        } else {
            ComponentType::Application
        }
    }

    /// `deny`, `dryRun` or `ignore`: what becomes of TLS that was opened for another host, or for none.
    fn sni(&self, host: &PlainHost) -> &'static str {
        if self.policy.vantage != Vantage::Ingress || self.is_of_mesh() {
            return "ignore";
        }
        match &self.request.sni {
            Some((sni, bytes)) if !bytes.is_empty() => {
                if sni.as_ref() == Some(host) {
                    "ignore"
                } else {
                    self.policy.sni
                }
            }
            _ if self.request.tls => self.policy.sni_missing,
            _ => "ignore",
        }
    }

    fn decision(&self, direction: Direction) -> Decided {
        let policy = self.policy;
        let Some(host) = &self.request.host else {
            return (Action::Deny, Why::InvalidHost, None);
        };
        let sni = self.sni(host);
        if sni == "deny" {
            return (Action::Deny, Why::SniMismatch, None);
        }
        let candidates = policy
            .rules
            .iter()
            .enumerate()
            .filter_map(|(index, rule)| {
                let best = rule
                    .hosts
                    .iter()
                    .filter(|hosts| match hosts.port {
                        None => matches(hosts, host, self.port()),
                        Some(_) => self.port_holds(rule.allow, &|port| matches(hosts, host, port)),
                    })
                    .map(|hosts| specificity(&hosts.pattern))
                    .max()?;
                self.holds(rule, host, direction)
                    .then_some((best, !rule.allow, Reverse(index)))
            })
            .collect();
        let would_mismatch = (sni == "dryRun").then_some((Action::Deny, Why::SniMismatch));
        choose(policy, candidates, would_mismatch)
    }

    fn holds(&self, rule: &PlainRule, host: &PlainHost, direction: Direction) -> bool {
        (rule.ports.is_empty() || self.port_holds(rule.allow, &|port| rule.ports.contains(&port)))
            && (rule.directions.is_empty() || rule.directions.contains(&direction))
            && self.is_in_time(rule)
            && !self.is_excluded(rule, host)
            && rule
                .from
                .as_ref()
                .is_none_or(|from| self.calls(from, rule.allow))
    }

    /// Without a clock no rule that allows is in time, and each that denies.
    pub fn is_in_time(&self, rule: &PlainRule) -> bool {
        match (rule.expires, self.request.today) {
            (None, _) => true,
            (Some(_), None) => !rule.allow,
            (Some(last), Some(today)) => today <= last,
        }
    }

    /// Missing evidence never helps the caller: without an identity a negative condition holds for
    /// rules that deny alone, a positive one for none; without a source both hold for those that deny.
    pub fn calls(&self, from: &PlainFrom, allow: bool) -> bool {
        let peer = self.request.peer.as_deref();
        let namespace = self.peer_part(2);
        let names = |patterns: &Vec<String>, text: &str| {
            patterns.iter().any(|pattern| is_like(pattern, text))
        };
        let positive = |patterns: &Option<Vec<String>>, text: Option<&str>| match (patterns, text) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(patterns), Some(text)) => names(patterns, text),
        };
        let negative = |patterns: &Option<Vec<String>>, text: Option<&str>| match (patterns, text) {
            (None, _) => true,
            (Some(_), None) => !allow,
            (Some(patterns), Some(text)) => !names(patterns, text),
        };
        let source = self.source();
        let is_among = |networks: &Vec<(IpAddr, u8)>, source| {
            networks.iter().any(|network| is_in(source, *network))
        };
        positive(&from.principals, peer)
            && negative(&from.not_principals, peer)
            && positive(&from.namespaces, namespace)
            && negative(&from.not_namespaces, namespace)
            && match (&from.cidrs, source) {
                (None, _) => true,
                (Some(_), None) => !allow,
                (Some(networks), Some(source)) => is_among(networks, source),
            }
            && match (&from.not_cidrs, source) {
                (None, _) => true,
                (Some(_), None) => !allow,
                (Some(networks), Some(source)) => !is_among(networks, source),
            }
    }
}

/// The most specific host wins; at a tie a rule that denies, then the earlier one. A rule or section in
/// dry run decides nothing.
pub fn choose(
    policy: &PlainPolicy,
    mut candidates: Vec<Candidate>,
    would_mismatch: Option<(Action, Why)>,
) -> Decided {
    candidates.sort_unstable();
    let said = |(_, denies, Reverse(index)): &Candidate| {
        (
            if *denies { Action::Deny } else { Action::Allow },
            Why::Rule(*index),
        )
    };
    let default = if policy.allow_by_default {
        Action::Allow
    } else {
        Action::Deny
    };
    let is_enforced = |(_, _, Reverse(index)): &&Candidate| !policy.rules[*index].dry_run;
    let decided = candidates
        .iter()
        .rev()
        .find(is_enforced)
        .map_or((default, Why::Default), said);
    if policy.dry_run {
        return (
            Action::Allow,
            Why::Default,
            would_mismatch.or(Some(decided)),
        );
    }
    let watched = candidates
        .last()
        .filter(|best| !is_enforced(best))
        .map(said);
    (decided.0, decided.1, would_mismatch.or(watched))
}
