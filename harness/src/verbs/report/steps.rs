//! What one hop says of the map: who called whom. Joins what several proxies logged of one request.

use std::collections::{BTreeMap, BTreeSet};

use meridian_policy::{Direction, Vantage};

use super::traffic::{From, Hop, Place, Target, Traffic};

pub(super) const CLIENTS: usize = 0;
pub(super) const INGRESS: usize = 1;
pub(super) const WORKLOADS: usize = 2;
pub(super) const EGRESS: usize = 3;
pub(super) const HOSTS: usize = 4;

/// What tells nodes apart; the order is that of the table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Outside,
    Unknown,
    Place(usize, Place),
    /// A host or an address.
    Named(usize, String),
    Others(usize),
}

/// An edge that a hop is evidence of.
pub(super) struct Step {
    pub(super) from: Key,
    pub(super) to: Key,
    /// True if this is the edge that the filter decided over.
    pub(super) decided: bool,
}

/// What the logs tell of the proxies that wrote them.
pub(super) struct Proxies<'t> {
    ingress: BTreeSet<&'t Place>,
    egress: BTreeSet<&'t Place>,
    workloads: BTreeSet<&'t Place>,
    /// Ingress gateways whose requests are seen to arrive: their targets are workloads, not hosts.
    arrived_from: BTreeSet<Key>,
    /// Callers and hosts that an egress gateway saw.
    at_egress: BTreeMap<(Key, &'t Target), &'t Place>,
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
                    proxies.at_egress.insert((from, &hop.target), &hop.proxy);
                }
                _ => {}
            }
        }
        proxies
    }

    /// The edges that a hop is evidence of.
    pub(super) fn steps(&self, hop: &Hop) -> Vec<Step> {
        let is_refused = hop.refused.is_some();
        let step = |from: &Key, to: &Key, decided| Step {
            from: from.clone(),
            to: to.clone(),
            decided,
        };
        let from = self.caller(hop);
        match hop.vantage {
            Some(Vantage::Ingress) => {
                let gateway = Key::Place(INGRESS, hop.proxy.clone());
                let mut steps = vec![step(&from, &gateway, true)];
                if !is_refused && !self.arrived_from.contains(&gateway) {
                    steps.push(step(&gateway, &self.inside(&hop.target), false));
                }
                steps
            }
            Some(Vantage::Inbound) | None => {
                vec![step(&from, &Key::Place(WORKLOADS, hop.proxy.clone()), true)]
            }
            Some(Vantage::Outbound) => {
                let gateway = self
                    .at_egress
                    .get(&(from.clone(), &hop.target))
                    .filter(|_| !is_refused)
                    .map(|gateway| Key::Place(EGRESS, (*gateway).clone()));
                let to = gateway.unwrap_or_else(|| self.target(hop));
                vec![step(&from, &to, true)]
            }
            Some(Vantage::Egress) => {
                let gateway = Key::Place(EGRESS, hop.proxy.clone());
                vec![
                    step(&from, &gateway, false),
                    step(&gateway, &self.target(hop), true),
                ]
            }
        }
    }

    fn caller(&self, hop: &Hop) -> Key {
        match (hop.vantage, &hop.from) {
            (Some(Vantage::Outbound), _) => Key::Place(WORKLOADS, hop.proxy.clone()),
            (_, From::Account(account)) if hop.from_gateway => self.gateway(account),
            (_, From::Account(account)) => self.account(account),
            (Some(Vantage::Egress), From::Unknown) => Key::Named(WORKLOADS, "unknown".to_owned()),
            (Some(Vantage::Egress), From::Address(address)) => {
                Key::Named(WORKLOADS, address.to_string())
            }
            (Some(Vantage::Ingress), From::Unknown) if hop.direction == Direction::NorthSouth => {
                Key::Outside
            }
            (_, From::Unknown) => Key::Unknown,
            (_, From::Address(address)) => match hop.direction {
                Direction::NorthSouth => Key::Outside,
                Direction::EastWest => Key::Named(WORKLOADS, address.to_string()),
                Direction::Unknown => Key::Named(CLIENTS, address.to_string()),
            },
        }
    }

    /// The ingress gateway that runs as `account`: the one that logs in its namespace, or else one
    /// that runs no filter.
    fn gateway(&self, account: &Place) -> Key {
        Key::Place(
            INGRESS,
            one_of(&self.ingress, account).unwrap_or(account).clone(),
        )
    }

    /// Whoever runs as `account`. Workloads have their name from it as a rule.
    fn account(&self, account: &Place) -> Key {
        let nameless = Place {
            namespace: String::new(),
            ..account.clone()
        };
        // An older log does not tell the namespace.
        if let Some(workload) = [account, &nameless]
            .into_iter()
            .find(|place| self.workloads.contains(place))
        {
            return Key::Place(WORKLOADS, workload.clone());
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
                return Key::Place(layer, gateway.clone());
            }
        }
        Key::Place(WORKLOADS, account.clone())
    }

    fn target(&self, hop: &Hop) -> Key {
        match hop.direction {
            Direction::EastWest => self.inside(&hop.target),
            _ => Key::Named(HOSTS, name(&hop.target)),
        }
    }

    /// The workload whose service is `name.namespace…`, else the host by its name.
    fn inside(&self, target: &Target) -> Key {
        if let Target::Host(host) = target {
            let mut labels = host.split('.');
            let (name, namespace) = (labels.next(), labels.next());
            let is_service = matches!(labels.next(), None | Some("svc"));
            let workload = self.workloads.iter().find(|place| {
                is_service
                    && Some(place.name.as_str()) == name
                    && Some(place.namespace.as_str()) == namespace
            });
            if let Some(workload) = workload {
                return Key::Place(WORKLOADS, (*workload).clone());
            }
        }
        Key::Named(WORKLOADS, name(target))
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

fn name(target: &Target) -> String {
    match target {
        Target::Host(host) => host.clone(),
        Target::Invalid => "(invalid host)".to_owned(),
        Target::None => "(no host)".to_owned(),
        Target::Other => "(other hosts)".to_owned(),
    }
}
