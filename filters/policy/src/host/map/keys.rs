//! The keys of patterns: what a table's slot points to.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::array::Array;
use super::kind::Kind;
use super::slot::{self, Slot};
use super::values::List;

/// A key on its way into the table.
pub(super) struct Key<'k> {
    pub(super) kind: Kind,
    pub(super) bytes: &'k [u8],
    /// Where it stands in the source, if it does.
    pub(super) start: Option<usize>,
}

/// Several values of one pattern.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chain {
    /// The pattern as it would be with one value.
    pub(super) slot: Slot,
    pub(super) values: List,
}

/// The bytes of a [`Chain`].
pub(super) type ChainBytes = [slot::Bytes; 2];

impl Chain {
    pub(super) fn from_bytes([slot, values]: ChainBytes) -> Self {
        Self {
            slot: Slot::from_bytes(slot),
            values: List::from_bytes(values),
        }
    }

    pub(super) fn bytes(self) -> ChainBytes {
        [self.slot.bytes(), self.values.bytes()]
    }
}

/// Where the keys of slots are.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys {
    /// The text of the policy, and behind it, in the same space of offsets, keys that are not in it.
    pub(super) source: Arc<Vec<u8>>,
    pub(super) extra: Array<u8>,
    pub(super) chains: Array<ChainBytes>,
}

impl Keys {
    /// A chain of a slot that says which.
    pub(super) fn chain(&self, slot: Slot) -> Option<Chain> {
        self.chains.get(slot.at()).copied().map(Chain::from_bytes)
    }

    pub(super) fn key(&self, slot: Slot) -> &[u8] {
        let slot = match slot.grant() {
            Some(_) => slot,
            None => self.chain(slot).map_or(slot, |chain| chain.slot),
        };
        let start = slot.at();
        let (text, start) = match start.checked_sub(self.source.len()) {
            Some(start) => (&*self.extra, start),
            None => (self.source.as_slice(), start),
        };
        text.get(start..start + slot.length()).unwrap_or_default()
    }

    /// The hash of a slot's key.
    pub(super) fn hash(&self, slot: Slot) -> u64 {
        slot.kind().hash(self.key(slot))
    }
}

/// The key of a network, its prefix length and its octets, and how long the key is.
pub(super) fn network_key(network: IpNet) -> ([u8; 17], usize) {
    let mut key = [0; 17];
    let mut length = 0;
    let mut push = |byte| {
        if let Some(slot) = key.get_mut(length) {
            *slot = byte;
            length += 1;
        }
    };
    push(network.prefix_len());
    match network.addr() {
        IpAddr::V4(address) => address.octets().into_iter().for_each(&mut push),
        IpAddr::V6(address) => address.octets().into_iter().for_each(&mut push),
    }
    (key, length)
}
