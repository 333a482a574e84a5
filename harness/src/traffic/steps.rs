//! What one hop says of the map: who called whom. Joins what several proxies logged of one request.

use std::collections::{BTreeMap, BTreeSet};

use meridian_policy::{Direction, Vantage};

use super::model::{Destination, LoggedHop, Place, Source, Traffic};

pub(super) const CLIENTS: usize = 0;
pub(super) const INGRESS: usize = 1;
pub(super) const WORKLOADS: usize = 2;
pub(super) const EGRESS: usize = 3;
pub(super) const HOSTS: usize = 4;

/// What tells nodes apart; the order is that of the table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum NodeKey {
    Outside,
    Unknown,
    Place(usize, Place),
    /// A host or an address.
    Named(usize, String),
    Others(usize),
}

/// An edge that a hop is evidence of.
pub(super) struct Step {
    pub(super) from: NodeKey,
    pub(super) to: NodeKey,
    /// True if this is the edge that the filter decided on.
    pub(super) decided: bool,
}

/// What the logs tell of the proxies that wrote them.
pub(super) struct Proxies<'t> {
    ingress: BTreeSet<&'t Place>,
    egress: BTreeSet<&'t Place>,
    workloads: BTreeSet<&'t Place>,
    /// Ingress gateways whose requests are seen to arrive: their targets are workloads, not hosts.
    arrived_from: BTreeSet<NodeKey>,
    /// Callers and hosts that an egress gateway saw.
    at_egress: BTreeMap<(NodeKey, &'t Destination), &'t Place>,
}

impl<'t> Proxies<'t> {
    pub(super) fn of(traffic: &'t Traffic) -> Self {
        let mut proxies = Self {
            ingress: BTreeSet::new(),
            egress: BTreeSet::new(),
            workloads: BTreeSet::new(),
            arrived_from: BTreeSet::new(),
            at_egress: BTreeMap::new(),
        };
        for hop in traffic.hops.keys() {
            let of = match hop.vantage {
                Some(Vantage::Ingress) => &mut proxies.ingress,
                Some(Vantage::Egress) => &mut proxies.egress,
                _ => &mut proxies.workloads,
            };
            of.insert(&hop.proxy);
        }
        for hop in traffic.hops.keys() {
            match hop.vantage {
                Some(Vantage::Inbound) => {
                    let from = proxies.caller(hop);
                    proxies.arrived_from.insert(from);
                }
                Some(Vantage::Egress) => {
                    let from = proxies.caller(hop);
                    proxies
                        .at_egress
                        .insert((from, &hop.destination), &hop.proxy);
                }
                _ => {}
            }
        }
        proxies
    }

    /// The edges that a hop is evidence of.
    pub(super) fn steps(&self, hop: &LoggedHop) -> Vec<Step> {
        let is_refused = hop.refused.is_some();
        let step = |from: &NodeKey, to: &NodeKey, decided| Step {
            from: from.clone(),
            to: to.clone(),
            decided,
        };
        let from = self.caller(hop);
        match hop.vantage {
            Some(Vantage::Ingress) => {
                let gateway = NodeKey::Place(INGRESS, hop.proxy.clone());
                let mut steps = vec![step(&from, &gateway, true)];
                if !is_refused && !self.arrived_from.contains(&gateway) {
                    steps.push(step(&gateway, &self.inside(&hop.destination), false));
                }
                steps
            }
            Some(Vantage::Inbound) | None => {
                vec![step(
                    &from,
                    &NodeKey::Place(WORKLOADS, hop.proxy.clone()),
                    true,
                )]
            }
            Some(Vantage::Outbound) => {
                let gateway = self
                    .at_egress
                    .get(&(from.clone(), &hop.destination))
                    .filter(|_| !is_refused)
                    .map(|gateway| NodeKey::Place(EGRESS, (*gateway).clone()));
                let to = gateway.unwrap_or_else(|| self.destination(hop));
                vec![step(&from, &to, true)]
            }
            Some(Vantage::Egress) => {
                let gateway = NodeKey::Place(EGRESS, hop.proxy.clone());
                vec![
                    step(&from, &gateway, false),
                    step(&gateway, &self.destination(hop), true),
                ]
            }
        }
    }

    fn caller(&self, hop: &LoggedHop) -> NodeKey {
        match (hop.vantage, &hop.source) {
            (Some(Vantage::Outbound), _) => NodeKey::Place(WORKLOADS, hop.proxy.clone()),
            (_, Source::Workload(account)) if hop.from_gateway => self.gateway(account),
            (_, Source::Workload(account)) => self.account(account),
            (Some(Vantage::Egress), Source::Unknown) => {
                NodeKey::Named(WORKLOADS, "unknown".to_owned())
            }
            (Some(Vantage::Egress), Source::Address(address)) => {
                NodeKey::Named(WORKLOADS, address.to_string())
            }
            (Some(Vantage::Ingress), Source::Unknown) if hop.direction == Direction::NorthSouth => {
                NodeKey::Outside
            }
            (_, Source::Unknown) => NodeKey::Unknown,
            (_, Source::Address(address)) => match hop.direction {
                Direction::NorthSouth => NodeKey::Outside,
                Direction::EastWest => NodeKey::Named(WORKLOADS, address.to_string()),
                Direction::Unknown => NodeKey::Named(CLIENTS, address.to_string()),
            },
        }
    }

    /// The ingress gateway that runs as `account`: the one that logs in its namespace, or else one
    /// that runs no filter.
    fn gateway(&self, account: &Place) -> NodeKey {
        NodeKey::Place(
            INGRESS,
            one_of(&self.ingress, account).unwrap_or(account).clone(),
        )
    }

    /// Whoever runs as `account`. Workloads have their name from it as a rule.
    fn account(&self, account: &Place) -> NodeKey {
        let nameless = Place {
            namespace: String::new(),
            ..account.clone()
        };
        // An older log does not tell the namespace.
        if let Some(workload) = [account, &nameless]
            .into_iter()
            .find(|place| self.workloads.contains(place))
        {
            return NodeKey::Place(WORKLOADS, workload.clone());
        }
        let gateways = [(INGRESS, &self.ingress), (EGRESS, &self.egress)];
        for (layer, gateways) in gateways {
            let word = if layer == INGRESS {
                "ingress"
            } else {
                "egress"
            };
            if account.name.contains(word)
                && let Some(gateway) = one_of(gateways, account)
            {
                return NodeKey::Place(layer, gateway.clone());
            }
        }
        NodeKey::Place(WORKLOADS, account.clone())
    }

    fn destination(&self, hop: &LoggedHop) -> NodeKey {
        match hop.direction {
            Direction::EastWest => self.inside(&hop.destination),
            _ => NodeKey::Named(HOSTS, name(&hop.destination)),
        }
    }

    /// The workload whose service is `name.namespace…`, else the host by its name.
    fn inside(&self, destination: &Destination) -> NodeKey {
        if let Destination::Host(host) = destination {
            let mut labels = host.split('.');
            let (name, namespace) = (labels.next(), labels.next());
            let is_service = matches!(labels.next(), None | Some("svc"));
            let workload = self.workloads.iter().find(|place| {
                is_service
                    && Some(place.name.as_str()) == name
                    && Some(place.namespace.as_str()) == namespace
            });
            if let Some(workload) = workload {
                return NodeKey::Place(WORKLOADS, (*workload).clone());
            }
        }
        NodeKey::Named(WORKLOADS, name(destination))
    }
}

/// The one proxy that logs in the namespace of `account`, or in one that its log does not tell.
fn one_of<'t>(proxies: &BTreeSet<&'t Place>, account: &Place) -> Option<&'t Place> {
    let mut same = proxies
        .iter()
        .filter(|proxy| proxy.namespace == account.namespace || proxy.namespace.is_empty());
    match (same.next(), same.next()) {
        (Some(proxy), None) => Some(proxy),
        _ => None,
    }
}

fn name(destination: &Destination) -> String {
    match destination {
        Destination::Host(host) => host.clone(),
        Destination::Invalid => "(invalid host)".to_owned(),
        Destination::None => "(no host)".to_owned(),
        Destination::Other => "(other hosts)".to_owned(),
    }
}
