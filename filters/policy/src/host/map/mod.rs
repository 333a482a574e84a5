//! Host patterns compiled for lookup at a cost that does not depend on their number.
//!
//! One hash pass over the host from its last byte to its first gives its hash; a pass the other way
//! undoes it byte by byte, which gives the hash of every suffix, longest first. Each label boundary
//! at which some pattern ends costs one probe.
//!
//! A pattern takes a slot of eight bytes in the table. Its name stays in the text
//! of the policy, where it is written there in its canonical form:
//!
//! ```text
//! source   {"hosts": ["shop.example.com", "*.Example.org"], … }
//!                      ^ at 12, 16 bytes
//! extra    example.org                       names that are not canonical in the source
//!
//! table    slot {at 12, length 16, Exact,  grant 0}      shop.example.com   one value
//!          slot {chain 0, length 0, Suffix}              *.example.org      several
//!                      |
//! chains   [0] slot {at source.len() + 0, length 11, Suffix}
//!              values: first 0, last 1
//!                            |
//! links    [0] value 3, port any -> [1] value 7, port 8443
//! grants   [0] value 3, port any             numbered, so that a slot needs two bytes for both
//! ```
//!
//! A value is a [`crate::Rank`], so that a list is in the order in which its rules are asked.

mod array;
mod hash;
mod image;
mod keys;
mod kind;
mod slot;
mod table;
mod values;

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

use ipnet::IpNet;

use hash::{hash_name, unhash_byte};
use keys::{Chain, Key, Keys, network_key};
use kind::Kind;
use slot::Slot;
use table::Table;
use values::{Grant, List, Values};

use crate::host::is_canonical_name;
use crate::{Host, HostPattern, Pattern, PatternError};

/// Suffixes of so many labels and more are not told apart in [`HostMap::suffix_labels`].
const MAX_LABELS: u32 = 63;

/// Values under host patterns, found most specific first.
#[derive(Debug, Clone)]
pub struct HostMap {
    keys: Keys,
    table: Table,
    values: Values,
    /// Bit n is set when a suffix pattern of n labels exists, so that the others cost no probe.
    suffix_labels: u64,
    /// The prefix lengths in use, longest first, IPv4 and IPv6 apart.
    prefixes: [Vec<u8>; 2],
    /// The values under `*`.
    any: Option<List>,
}

impl Default for HostMap {
    // Long, and in many places.
    #[inline(never)]
    fn default() -> Self {
        Self {
            keys: Keys::default(),
            table: Table::default(),
            values: Values::default(),
            suffix_labels: 0,
            prefixes: [Vec::new(), Vec::new()],
            any: None,
        }
    }
}

/// Why a host was not added to a [`HostMap`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InsertError {
    /// It is not a pattern.
    Pattern(PatternError),
    /// The map is full: 256 MiB of text, or 2³² values.
    Full,
}

impl HostMap {
    /// A map of patterns whose texts may be parts of `source`.
    pub(crate) fn new(source: &Arc<Vec<u8>>) -> Self {
        let mut map = Self::default();
        map.keys.source = Arc::clone(source);
        map
    }

    /// Makes room for the `patterns` that a map is to have.
    pub(crate) fn reserve(&mut self, patterns: usize) {
        if self.table.is_unplanned() {
            self.table = Table::for_count(patterns);
        }
    }

    /// Adds `value` under the pattern that `text` is; see [`Pattern::parse`].
    ///
    /// # Errors
    /// If it is not a pattern, or the map is full.
    pub(crate) fn insert_text(&mut self, text: &str, value: u16) -> Result<(), InsertError> {
        let (kind, name) = match text.strip_prefix("*.") {
            Some(name) => (Kind::Suffix, name),
            None => (Kind::Exact, text),
        };
        let done = if is_canonical_name(name.as_bytes()) {
            self.insert_name(kind, name.as_bytes(), Grant::new(value, None))
        } else {
            let pattern = Pattern::parse(text).map_err(InsertError::Pattern)?;
            self.insert_written(&pattern, name.as_bytes(), value)
        };
        done.ok_or(InsertError::Full)
    }

    /// Adds `value` under a pattern; the same value under the same pattern is kept once.
    /// False when the map is full (256 MiB of text, or 2³² values).
    #[must_use]
    pub fn insert(&mut self, pattern: &Pattern, value: u16) -> bool {
        self.insert_written(pattern, &[], value).is_some()
    }

    /// The same for a pattern whose name is perhaps what `written` begins with.
    fn insert_written(&mut self, pattern: &Pattern, written: &[u8], value: u16) -> Option<()> {
        let grant = Grant::new(value, pattern.port);
        let (kind, name) = match &pattern.host {
            HostPattern::Any => {
                self.any = Some(self.values.link(self.any, grant)?);
                return Some(());
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
                let bytes = key.get(..length).unwrap_or_default();
                let key = Key {
                    kind: Kind::Network,
                    bytes,
                    start: None,
                };
                return self.insert_key(&key, grant);
            }
            HostPattern::Exact(name) => (Kind::Exact, name),
            HostPattern::Suffix(name) => (Kind::Suffix, name),
        };
        let name = name.as_bytes();
        let written = written.get(..name.len()).filter(|part| *part == name);
        self.insert_name(kind, written.unwrap_or(name), grant)
    }

    fn insert_name(&mut self, kind: Kind, name: &[u8], grant: Grant) -> Option<()> {
        if kind == Kind::Suffix {
            let (_, dots) = hash_name(name);
            self.suffix_labels |= 1 << (1 + dots).min(MAX_LABELS);
        }
        let start = (name.as_ptr() as usize)
            .checked_sub(self.keys.source.as_ptr() as usize)
            .filter(|start| start + name.len() <= self.keys.source.len());
        let key = Key {
            kind,
            bytes: name,
            start,
        };
        self.insert_key(&key, grant)
    }

    /// Adds a value under a key; `None` when the map is full.
    fn insert_key(&mut self, key: &Key<'_>, grant: Grant) -> Option<()> {
        let hash = key.kind.hash(key.bytes);
        let Some((place, mut slot)) = self.probe(key.kind, hash, key.bytes) else {
            return self.insert_new(key, hash, grant);
        };
        if let Some(number) = slot.grant() {
            let only = self.values.get(number)?;
            if only == grant {
                return Some(());
            }
            // The value moves from the slot into a chain, where it is counted again.
            self.values.len -= 1;
            slot = self.chain(slot, only)?;
            self.table.replace(place, slot)?;
        }
        let mut chain = self.keys.chain(slot)?;
        chain.values = self.values.link(Some(chain.values), grant)?;
        *self.keys.chains.owned()?.get_mut(slot.at())? = chain.bytes();
        Some(())
    }

    /// A chain of one value instead of a slot.
    fn chain(&mut self, slot: Slot, grant: Grant) -> Option<Slot> {
        let values = self.values.link(None, grant)?;
        let chained = slot.chained(self.keys.chains.len())?;
        // Of a slot with a value: a chain's key is where that one's is.
        self.keys
            .chains
            .owned()?
            .push(Chain { slot, values }.bytes());
        Some(chained)
    }

    fn insert_new(&mut self, key: &Key<'_>, hash: u64, grant: Grant) -> Option<()> {
        let start = match key.start {
            Some(start) => start,
            None => {
                let start = self.keys.source.len() + self.keys.extra.len();
                self.keys.extra.owned()?.extend_from_slice(key.bytes);
                start
            }
        };
        let number = self.values.grant(grant);
        let mut slot = Slot::new(key.kind, start, key.bytes.len(), number)?;
        if number.is_some() {
            self.values.len += 1;
        } else {
            slot = self.chain(slot, grant)?;
        }
        let keys = &self.keys;
        self.table.insert(hash, slot, &|slot| keys.hash(slot))
    }

    fn probe(&self, kind: Kind, hash: u64, key: &[u8]) -> Option<(usize, Slot)> {
        self.table
            .find(kind, hash, key.len(), |slot| self.keys.key(slot) == key)
    }

    /// Calls `each` with the value and the port of every pattern that matches `host`: the most
    /// specific pattern first, and under one pattern in the order of the values. The port is the
    /// caller's to compare. Allocates nothing.
    pub fn visit(&self, host: &Host, mut each: impl FnMut(u16, Option<u16>) -> ControlFlow<()>) {
        if self.is_empty() {
            return;
        }
        let flow = match host {
            Host::Name(name) => self.visit_name(name.as_bytes(), &mut each),
            Host::Address(address) => self.visit_address(*address, &mut each),
        };
        if flow.is_continue() {
            let _: ControlFlow<()> = self.values.visit(self.any, &mut each);
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
        self.values.len == 0
    }

    /// How many patterns there are, each value and port counted.
    pub fn len(&self) -> usize {
        self.values.len
    }

    fn visit_slot(
        &self,
        slot: Option<(usize, Slot)>,
        each: &mut impl FnMut(u16, Option<u16>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let Some((_, slot)) = slot else {
            return ControlFlow::Continue(());
        };
        let Some(number) = slot.grant() else {
            let chain = self.keys.chain(slot);
            return self.values.visit(chain.map(|chain| chain.values), each);
        };
        match self.values.get(number) {
            Some(grant) => each(grant.value, grant.port()),
            None => ControlFlow::Continue(()),
        }
    }

    fn visit_name(
        &self,
        name: &[u8],
        each: &mut impl FnMut(u16, Option<u16>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let (mut hash, mut labels) = hash_name(name);
        let exact = self.probe(Kind::Exact, Kind::Exact.finish(hash), name);
        self.visit_slot(exact, each)?;
        let mut suffix = name;
        // Bit 0 is never set: no suffix has no label.
        while let Some((byte, rest)) = suffix.split_first()
            && self.suffix_labels << (MAX_LABELS - labels.min(MAX_LABELS)) != 0
        {
            suffix = rest;
            hash = unhash_byte(hash, *byte);
            if *byte == b'.' {
                if self.suffix_labels & 1 << labels.min(MAX_LABELS) != 0 {
                    let slot = self.probe(Kind::Suffix, Kind::Suffix.finish(hash), suffix);
                    self.visit_slot(slot, each)?;
                }
                labels -= 1;
            }
        }
        ControlFlow::Continue(())
    }

    fn visit_address(
        &self,
        address: IpAddr,
        each: &mut impl FnMut(u16, Option<u16>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let [v4, v6] = &self.prefixes;
        let prefixes = if address.is_ipv4() { v4 } else { v6 };
        for prefix in prefixes {
            let Ok(network) = IpNet::new(address, *prefix) else {
                continue;
            };
            let (key, length) = network_key(network.trunc());
            let key = key.get(..length).unwrap_or_default();
            let slot = self.probe(Kind::Network, Kind::Network.hash(key), key);
            self.visit_slot(slot, each)?;
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Authority;

    fn visited(map: &HostMap, host: &str) -> Vec<u16> {
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

    fn map(patterns: &[&str]) -> HostMap {
        let mut map = HostMap::default();
        for (value, pattern) in patterns.iter().enumerate() {
            map.insert_text(pattern, u16::try_from(value).unwrap())
                .unwrap();
        }
        map
    }

    #[test]
    fn visits_from_the_most_specific_to_the_least() {
        let names = map(&[
            "*",
            "*.example.com",
            "a.b.example.com",
            "*.b.example.com",
            "*.com",
            "*.B.example.com.:80",
        ]);
        assert_eq!(visited(&names, "a.b.example.com"), [2, 3, 5, 1, 4, 0]);
        assert_eq!(visited(&names, "b.example.com"), [1, 4, 0]);
        assert_eq!(visited(&names, "example.com"), [4, 0]);
        assert_eq!(visited(&names, "evilexample.com"), [4, 0]);
        assert_eq!(visited(&names, "com"), [0]);
        let networks = map(&[
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.2.3",
            "*",
            "[::1]",
            "::/0",
        ]);
        assert_eq!(visited(&networks, "0xa.1.2.3"), [2, 1, 0, 3]);
        assert_eq!(visited(&networks, "[::1]:80"), [4, 5, 3]);
    }

    #[test]
    fn a_chain_is_in_the_order_of_its_values() {
        for pattern in ["shop.example.com", "*.example.com", "*", "10.0.0.0/8"] {
            let mut map = HostMap::default();
            for value in [5, 1, 9, 5, 0] {
                map.insert_text(pattern, value).unwrap();
            }
            let host = if pattern == "10.0.0.0/8" {
                "10.1.1.1"
            } else {
                "shop.example.com"
            };
            assert_eq!(visited(&map, host), [0, 1, 5, 9], "{pattern}");
            assert_eq!(map.len(), 4);
        }
    }

    #[test]
    fn keys_in_the_source_and_apart_are_one() {
        let source = Arc::new(
            br#"["shop.example.com", "Shop.example.com.", "*.example.com", "*.a.com.:80"]"#
                .to_vec(),
        );
        let text = std::str::from_utf8(&source).unwrap();
        let mut map = HostMap::new(&source);
        map.reserve(4);
        for (value, pattern) in text.split('"').skip(1).step_by(2).enumerate() {
            map.insert_text(pattern, u16::try_from(value).unwrap())
                .unwrap();
        }
        assert_eq!(visited(&map, "shop.example.com"), [0, 1, 2]);
        // Only what is not canonical in the source is held apart.
        assert!(map.keys.extra.is_empty());
        map.insert_text("A.B", 7).unwrap();
        assert_eq!(*map.keys.extra, *b"a.b");
        assert_eq!(visited(&map, "a.b"), [7]);
    }

    #[test]
    fn a_table_has_room_for_the_patterns_that_were_planned() {
        const PLANNED: usize = 40_000;
        let mut map = HostMap::default();
        map.reserve(PLANNED);
        let planned = map.table.capacity();
        assert!((PLANNED..PLANNED + 2).contains(&planned), "{planned}");
        for number in 0..PLANNED {
            let host = format!("{number}.example.com");
            map.insert_text(&host, (number % 7) as u16).unwrap();
        }
        // It did not grow.
        assert_eq!(map.table.capacity(), planned);
        assert_eq!(map.len(), PLANNED);
        assert_eq!(map.values.grants.len(), 7);
        for number in 0..PLANNED {
            let host = format!("{number}.example.com");
            assert_eq!(visited(&map, &host), [(number % 7) as u16], "{host}");
        }
        assert!(visited(&map, "x.example.com").is_empty());
    }

    #[test]
    fn more_values_and_ports_than_can_be_numbered() {
        let mut map = HostMap::default();
        let hosts = 70_000;
        let expected = |number: usize| ((number % 1000) as u16, 1 + (number / 1000) as u16);
        for number in 0..hosts {
            let (value, port) = expected(number);
            map.insert_text(&format!("{number}.example.com:{port}"), value)
                .unwrap();
        }
        assert_eq!(
            (map.values.grants.len(), map.len()),
            (usize::from(u16::MAX), hosts)
        );
        for number in 0..hosts {
            let host = format!("{number}.example.com");
            let (value, port) = expected(number);
            let mut found = Vec::new();
            let host = Authority::parse(host.as_bytes()).unwrap().host;
            map.visit(&host, |value, port| {
                found.push((value, port));
                ControlFlow::Continue(())
            });
            assert_eq!(found, [(value, Some(port))]);
        }
    }
}
