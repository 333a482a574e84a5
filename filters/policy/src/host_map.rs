//! Host patterns compiled for lookup at a cost that does not depend on their number.
//!
//! One hash pass over the host from its last byte to its first gives the hash of every suffix on
//! the way. Then each label boundary at which some pattern ends costs one probe, longest first.

use std::net::IpAddr;
use std::ops::ControlFlow;

use hashbrown::HashTable;
use ipnet::IpNet;

use crate::{Host, HostPattern, Pattern};

/// No further entry in a chain.
const END: u32 = u32::MAX;
/// A name of 253 bytes has at most 127 labels.
const MAX_LABELS: usize = 127;

/// Values under host patterns, found most specific first.
#[derive(Debug, Clone, Default)]
pub struct HostMap {
    /// The keys of all entries one after the other: names, and networks as of [`network_key`].
    keys: Vec<u8>,
    entries: Vec<Entry>,
    /// For each [`Kind`], the first entry of every chain.
    tables: [HashTable<u32>; 3],
    /// Bit n is set when a suffix pattern of n labels exists, so that the others cost no probe.
    suffix_labels: u128,
    /// The prefix lengths in use, longest first, IPv4 and IPv6 apart.
    prefixes: [Vec<u8>; 2],
    any: Option<u32>,
}

/// What a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Exact,
    Suffix,
    Network,
}

/// A value under a pattern. Entries of the same host form a chain in the order of their values.
#[derive(Debug, Clone, Copy)]
struct Entry {
    start: u32,
    length: u8,
    /// 0 is any port: no pattern can name port 0.
    port: u16,
    value: u32,
    next: u32,
}

impl HostMap {
    /// Adds `value` under a pattern; the same value under the same pattern is kept once.
    /// False when the map is full (4 GiB of names, or 2³² patterns).
    #[must_use]
    pub fn insert(&mut self, pattern: &Pattern, value: u32) -> bool {
        let port = pattern.port.unwrap_or(0);
        match &pattern.host {
            HostPattern::Any => {
                self.any = match self.any {
                    None => self.push(&[], port, value),
                    Some(head) => self.link(head, port, value),
                };
                self.any.is_some()
            }
            HostPattern::Network(network) => {
                let family = usize::from(network.addr().is_ipv6());
                if let Some(prefixes) = self.prefixes.get_mut(family)
                    && let Err(place) =
                        prefixes.binary_search_by(|prefix| network.prefix_len().cmp(prefix))
                {
                    prefixes.insert(place, network.prefix_len());
                }
                let (key, length) = network_key(*network);
                self.insert_key(
                    Kind::Network,
                    key.get(..length).unwrap_or_default(),
                    port,
                    value,
                )
            }
            HostPattern::Exact(name) => {
                self.insert_key(Kind::Exact, name.as_str().as_bytes(), port, value)
            }
            HostPattern::Suffix(name) => {
                self.suffix_labels |= 1 << name.as_str().split('.').count().min(MAX_LABELS);
                self.insert_key(Kind::Suffix, name.as_str().as_bytes(), port, value)
            }
        }
    }

    fn insert_key(&mut self, kind: Kind, key: &[u8], port: u16, value: u32) -> bool {
        let hash = hash_key(key);
        if let Some(head) = self.probe(kind, hash, key) {
            let Some(new_head) = self.link(head, port, value) else {
                return false;
            };
            if new_head != head
                && let Some(table) = self.tables.get_mut(kind as usize)
                && let Some(slot) = table.find_mut(hash, |&index| index == head)
            {
                *slot = new_head;
            }
            return true;
        }
        let Some(index) = self.push(key, port, value) else {
            return false;
        };
        let Self {
            keys,
            entries,
            tables,
            ..
        } = self;
        let Some(table) = tables.get_mut(kind as usize) else {
            return false;
        };
        table.insert_unique(hash, index, |&index| {
            hash_key(entry_key(keys, entries, index))
        });
        true
    }

    /// A new entry with nothing behind it.
    fn push(&mut self, key: &[u8], port: u16, value: u32) -> Option<u32> {
        let index = u32::try_from(self.entries.len())
            .ok()
            .filter(|index| *index != END)?;
        let start = u32::try_from(self.keys.len()).ok()?;
        let length = u8::try_from(key.len()).ok()?;
        self.keys.extend_from_slice(key);
        self.entries.push(Entry {
            start,
            length,
            port,
            value,
            next: END,
        });
        Some(index)
    }

    /// Puts a value into the chain at `head`, in the order of the values, and gives the chain's head.
    fn link(&mut self, head: u32, port: u16, value: u32) -> Option<u32> {
        let mut before = None;
        let mut at = head;
        while let Some(entry) = self.entries.get(at as usize).copied() {
            if (entry.value, entry.port) == (value, port) {
                return Some(head);
            }
            if (entry.value, entry.port) > (value, port) {
                break;
            }
            before = Some(at);
            at = entry.next;
        }
        let first = *self.entries.get(head as usize)?;
        let index = self.push(&[], port, value)?;
        let entry = self.entries.get_mut(index as usize)?;
        // Every entry of a chain has its key, since any of them can become the head.
        (entry.start, entry.length, entry.next) = (first.start, first.length, at);
        match before {
            None => Some(index),
            Some(before) => {
                self.entries.get_mut(before as usize)?.next = index;
                Some(head)
            }
        }
    }

    fn probe(&self, kind: Kind, hash: u64, key: &[u8]) -> Option<u32> {
        let table = self.tables.get(kind as usize)?;
        table
            .find(hash, |&index| {
                entry_key(&self.keys, &self.entries, index) == key
            })
            .copied()
    }

    /// Calls `each` with the value and the port of every pattern that matches `host`: the most
    /// specific pattern first, and under one pattern in the order of the values. The port is the
    /// caller's to compare. Allocates nothing.
    pub fn visit(&self, host: &Host, mut each: impl FnMut(u32, Option<u16>) -> ControlFlow<()>) {
        let flow = match host {
            Host::Name(name) => self.visit_name(name.as_str(), &mut each),
            Host::Address(address) => self.visit_address(*address, &mut each),
        };
        if flow.is_continue() {
            let _: ControlFlow<()> = self.visit_chain(self.any, &mut each);
        }
    }

    /// True if a pattern matches `host` on `port`.
    pub fn contains(&self, host: &Host, port: &mut dyn FnMut() -> u16) -> bool {
        let mut found = false;
        self.visit(host, |_, only| {
            found = only.is_none_or(|only| only == port());
            if found {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        found
    }

    /// True if there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many patterns there are, each value and port counted.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    fn visit_chain(
        &self,
        head: Option<u32>,
        each: &mut impl FnMut(u32, Option<u16>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut at = head.unwrap_or(END);
        while let Some(entry) = self.entries.get(at as usize) {
            each(entry.value, (entry.port != 0).then_some(entry.port))?;
            at = entry.next;
        }
        ControlFlow::Continue(())
    }

    fn visit_name(
        &self,
        name: &str,
        each: &mut impl FnMut(u32, Option<u16>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        // (where the suffix starts, its hash), from the last label on.
        let mut suffixes = [(0u8, 0u64); MAX_LABELS];
        let mut labels = 0;
        let mut hash = HASH_START;
        for (index, byte) in name.bytes().enumerate().rev() {
            if byte == b'.' {
                if let Some(slot) = suffixes.get_mut(labels) {
                    *slot = (u8::try_from(index + 1).unwrap_or(u8::MAX), hash);
                }
                labels += 1;
            }
            hash = hash_byte(hash, byte);
        }
        self.visit_chain(self.probe(Kind::Exact, finish(hash), name.as_bytes()), each)?;
        for count in (1..=labels.min(MAX_LABELS)).rev() {
            if self.suffix_labels & (1 << count) == 0 {
                continue;
            }
            let Some(&(start, hash)) = suffixes.get(count - 1) else {
                continue;
            };
            let suffix = name
                .as_bytes()
                .get(usize::from(start)..)
                .unwrap_or_default();
            self.visit_chain(self.probe(Kind::Suffix, finish(hash), suffix), each)?;
        }
        ControlFlow::Continue(())
    }

    fn visit_address(
        &self,
        address: IpAddr,
        each: &mut impl FnMut(u32, Option<u16>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let [v4, v6] = &self.prefixes;
        let prefixes = if address.is_ipv4() { v4 } else { v6 };
        for prefix in prefixes {
            let Ok(network) = IpNet::new(address, *prefix) else {
                continue;
            };
            let (key, length) = network_key(network.trunc());
            let key = key.get(..length).unwrap_or_default();
            self.visit_chain(self.probe(Kind::Network, hash_key(key), key), each)?;
        }
        ControlFlow::Continue(())
    }
}

fn entry_key<'k>(keys: &'k [u8], entries: &[Entry], index: u32) -> &'k [u8] {
    let Some(entry) = entries.get(index as usize) else {
        return &[];
    };
    let start = entry.start as usize;
    keys.get(start..start + usize::from(entry.length))
        .unwrap_or_default()
}

/// The key of a network, its prefix length and its octets, and how long the key is.
fn network_key(network: IpNet) -> ([u8; 17], usize) {
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

/// FNV-1a from the last byte to the first, so that a suffix's hash is a stop on the way.
const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;

const fn hash_byte(hash: u64, byte: u8) -> u64 {
    (hash ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3)
}

/// The table takes its control byte from the top bits, where FNV-1a mixes least for short names.
const fn finish(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ (hash >> 29)
}

fn hash_key(key: &[u8]) -> u64 {
    finish(key.iter().rev().copied().fold(HASH_START, hash_byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Authority;

    fn visited(patterns: &[&str], host: &str) -> Vec<u32> {
        let mut map = HostMap::default();
        for (value, pattern) in patterns.iter().enumerate() {
            assert!(map.insert(&Pattern::parse(pattern).unwrap(), value as u32));
        }
        let mut values = Vec::new();
        map.visit(
            &Authority::parse(host.as_bytes()).unwrap().host,
            |value, _| {
                values.push(value);
                ControlFlow::Continue(())
            },
        );
        values
    }

    #[test]
    fn visits_from_the_most_specific_to_the_least() {
        let patterns = [
            "*",
            "*.example.com",
            "a.b.example.com",
            "*.b.example.com",
            "*.com",
            "*.b.example.com:80",
        ];
        assert_eq!(visited(&patterns, "a.b.example.com"), [2, 3, 5, 1, 4, 0]);
        assert_eq!(visited(&patterns, "b.example.com"), [1, 4, 0]);
        assert_eq!(visited(&patterns, "example.com"), [4, 0]);
        assert_eq!(visited(&patterns, "evilexample.com"), [4, 0]);
        assert_eq!(visited(&patterns, "com"), [0]);
        let networks = [
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.2.3",
            "*",
            "[::1]",
            "::/0",
        ];
        assert_eq!(visited(&networks, "0xa.1.2.3"), [2, 1, 0, 3]);
        assert_eq!(visited(&networks, "[::1]:80"), [4, 5, 3]);
    }

    #[test]
    fn a_chain_is_in_the_order_of_its_values() {
        let mut map = HostMap::default();
        let pattern = Pattern::parse("shop.example.com").unwrap();
        for value in [5, 1, 9, 5, 0] {
            assert!(map.insert(&pattern, value));
        }
        let mut values = Vec::new();
        map.visit(
            &Authority::parse(b"shop.example.com").unwrap().host,
            |value, _| {
                values.push(value);
                ControlFlow::Continue(())
            },
        );
        assert_eq!(values, [0, 1, 5, 9]);
        assert_eq!(map.len(), 4);
    }
}
