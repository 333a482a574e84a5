//! The keys of patterns: what a table's slot points to.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::hash::{finish, hash_name};
use super::values::List;

/// What a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name.
    Exact,
    /// A name, for those below it.
    Suffix,
    /// A network, as of [`network_key`].
    Network,
}

impl Kind {
    /// The hash of a key of this kind whose bytes have this hash.
    pub(super) const fn finish(self, hash: u64) -> u64 {
        finish(hash, self as u64)
    }

    pub(super) fn hash(self, key: &[u8]) -> u64 {
        self.finish(hash_name(key).0)
    }
}

/// A key on its way into the table.
pub(super) struct Key<'k> {
    pub(super) kind: Kind,
    pub(super) bytes: &'k [u8],
    /// Where it stands in the source, if it does.
    pub(super) start: Option<u32>,
}

/// A pattern in a table: with one value, or for a [`Chain`] which of [`Keys::chains`] it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    /// Where its key starts, or which chain it is.
    pub(super) at: u32,
    /// How long its key is. No key has length 0: that is a chain.
    pub(super) length: u8,
    pub(super) kind: Kind,
    /// The number of its only value, see [`super::values::Values::get`].
    pub(super) grant: u16,
}

const _: () = assert!(size_of::<Slot>() == 8);

/// Several values of one pattern.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chain {
    /// The pattern as it would be with one value.
    pub(super) slot: Slot,
    pub(super) values: List,
}

/// Where the keys of slots are.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys {
    /// The text of the policy, and behind it, in the same space of offsets, keys that are not in it.
    pub(super) source: Arc<Vec<u8>>,
    pub(super) extra: Vec<u8>,
    pub(super) chains: Vec<Chain>,
}

impl Keys {
    /// The slot that says where the key is, also for a pattern with several values.
    fn unchained(&self, slot: Slot) -> Slot {
        let chain = match slot.length {
            0 => self.chains.get(slot.at as usize),
            _ => None,
        };
        chain.map_or(slot, |chain| chain.slot)
    }

    pub(super) fn key(&self, slot: Slot) -> &[u8] {
        let start = slot.at as usize;
        let (text, start) = match start.checked_sub(self.source.len()) {
            Some(start) => (&self.extra, start),
            None => (&*self.source, start),
        };
        text.get(start..start + usize::from(slot.length))
            .unwrap_or_default()
    }

    /// Finds the slot of a key.
    pub(super) fn is(&self, kind: Kind, key: &[u8]) -> impl Fn(&Slot) -> bool {
        move |slot| {
            let slot = match slot.length {
                0 => self.unchained(*slot),
                _ => *slot,
            };
            usize::from(slot.length) == key.len() && slot.kind == kind && self.key(slot) == key
        }
    }

    /// Hashes the keys of slots. A single named hasher, so that hashbrown's grow path is
    /// monomorphised once.
    pub(super) fn hasher(&self) -> impl Fn(&Slot) -> u64 {
        |slot| self.hash(*slot)
    }

    #[inline(never)]
    fn hash(&self, slot: Slot) -> u64 {
        let slot = self.unchained(slot);
        slot.kind.hash(self.key(slot))
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
