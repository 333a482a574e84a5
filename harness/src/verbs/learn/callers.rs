//! Who asked, each caller kept once: a log names the same few million times.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use meridian_policy::{Principal, is_namespace};

use crate::access_log::{Entry, LoggedCaller};
use crate::text::visible::excerpt;

/// How many callers are told apart.
const MAX_CALLERS: usize = 20_000;
/// The longest identity that is kept, in bytes.
const MAX_IDENTITY: usize = 512;

/// A caller in [`Callers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallerId(u32);

/// One caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// A workload of the mesh, by mutual TLS.
    Workload(Principal),
    /// Somebody in a network: an IPv4 /24, an IPv6 /64.
    Network {
        /// The network.
        network: IpNet,
        /// The first address that called from it.
        example: IpAddr,
    },
    /// The log does not tell, or there were too many callers to tell them apart.
    Unknown,
}

/// Every caller of a log.
#[derive(Debug)]
pub struct Callers {
    known: Vec<Known>,
    workloads: HashMap<Box<str>, CallerId>,
    networks: HashMap<IpNet, CallerId>,
}

impl Default for Callers {
    fn default() -> Self {
        Self {
            known: vec![Known::Unknown],
            workloads: HashMap::new(),
            networks: HashMap::new(),
        }
    }
}

impl Callers {
    const UNKNOWN: CallerId = CallerId(0);

    /// The caller of an entry.
    pub fn of(&mut self, entry: &Entry<'_>) -> CallerId {
        match (entry.caller(), entry.peer.as_deref()) {
            (LoggedCaller::Workload { .. }, Some(peer)) if peer.len() <= MAX_IDENTITY => {
                if let Some(id) = self.workloads.get(peer) {
                    return *id;
                }
                let Some(principal) = Principal::parse(peer) else {
                    return Self::UNKNOWN;
                };
                let id = self.add(Known::Workload(principal));
                if id != Self::UNKNOWN {
                    self.workloads.insert(peer.into(), id);
                }
                id
            }
            (LoggedCaller::Source(example), _) => {
                let network = network_of(example);
                if let Some(id) = self.networks.get(&network) {
                    return *id;
                }
                let id = self.add(Known::Network { network, example });
                if id != Self::UNKNOWN {
                    self.networks.insert(network, id);
                }
                id
            }
            _ => Self::UNKNOWN,
        }
    }

    /// What is known of a caller.
    pub fn get(&self, id: CallerId) -> &Known {
        let index = usize::try_from(id.0).unwrap_or_default();
        self.known.get(index).unwrap_or(&Known::Unknown)
    }

    fn add(&mut self, caller: Known) -> CallerId {
        if self.known.len() > MAX_CALLERS {
            return Self::UNKNOWN;
        }
        let id = u32::try_from(self.known.len()).map_or(Self::UNKNOWN, CallerId);
        self.known.push(caller);
        id
    }
}

impl Known {
    /// Its name, safe to print.
    pub fn name(&self) -> String {
        match self {
            Self::Workload(principal) => excerpt(&format!(
                "{}/{}",
                principal.namespace(),
                principal.service_account()
            )),
            Self::Network { network, .. } => network.to_string(),
            Self::Unknown => "unknown callers".to_owned(),
        }
    }

    /// The namespace, if it has one that a rule can name.
    pub fn namespace(&self) -> Option<&str> {
        let Self::Workload(principal) = self else {
            return None;
        };
        Some(principal.namespace()).filter(|namespace| is_namespace(namespace))
    }
}

fn network_of(address: IpAddr) -> IpNet {
    let prefix = match address {
        IpAddr::V4(_) => 24,
        IpAddr::V6(_) => 64,
    };
    let network = IpNet::new(address, prefix);
    network.map_or_else(|_| address.into(), |network| network.trunc())
}
