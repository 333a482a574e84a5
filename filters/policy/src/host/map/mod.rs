//! Host patterns compiled for lookup at a cost that does not depend on their number.
//!
//! One hash pass over the host from its last byte to its first gives its hash; a pass the other way
//! undoes it byte by byte, which gives the hash of every suffix, longest first. Each label boundary
//! at which some pattern ends costs one probe.
//! A pattern takes eight bytes and a control byte in the table; its name stays in the text of the
//! policy, where it is written there in its canonical form.

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

use hashbrown::HashTable;
use ipnet::IpNet;

use crate::host::is_canonical_name;
use crate::{Host, HostPattern, Pattern, PatternError};

/// No further entry in a chain.
const END: u32 = u32::MAX;
/// Suffixes of so many labels and more are not told apart in [`HostMap::suffix_labels`].
const MAX_LABELS: u32 = 63;
/// The most patterns that a table is planned for. One of 2¹⁴ buckets grows at 14,336, which is more
/// than chance puts there.
const PLANNED: usize = 13_600;
/// How many of the last [`HostMap::grants`] are looked through before another is added.
const LOOKED_AT: usize = 8;

/// Values under host patterns, found most specific first.
#[derive(Debug, Clone)]
pub struct HostMap {
    keys: Keys,
    /// A pattern's hash says which. One table would double to grow, and be half empty at worst.
    tables: Vec<HashTable<Slot>>,
    /// Each value with its port once for many patterns, usually: a rule's hosts follow each other.
    grants: Vec<Grant>,
    links: Vec<Link>,
    /// Bit n is set when a suffix pattern of n labels exists, so that the others cost no probe.
    suffix_labels: u64,
    /// The prefix lengths in use, longest first, IPv4 and IPv6 apart.
    prefixes: [Vec<u8>; 2],
    /// The values under `*`.
    any: Option<List>,
    len: usize,
}

/// Where the keys of slots are.
#[derive(Debug, Clone, Default)]
struct Keys {
    /// The text of the policy, and behind it, in the same space of offsets, keys that are not in it.
    source: Arc<Vec<u8>>,
    extra: Vec<u8>,
    chains: Vec<Chain>,
}

impl Default for HostMap {
    // Long, and in many places.
    #[inline(never)]
    fn default() -> Self {
        Self {
            keys: Keys::default(),
            tables: Vec::new(),
            grants: Vec::new(),
            links: Vec::new(),
            suffix_labels: 0,
            prefixes: [Vec::new(), Vec::new()],
            any: None,
            len: 0,
        }
    }
}

/// What a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A name.
    Exact,
    /// A name, for those below it.
    Suffix,
    /// A network, as of [`network_key`].
    Network,
}

/// A value, and the port that it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Grant {
    value: u16,
    /// 0 is any port: no pattern can name port 0.
    port: u16,
}

impl Grant {
    fn port(self) -> Option<u16> {
        (self.port != 0).then_some(self.port)
    }
}

/// A pattern in a table: with one value, or for a [`Chain`] which of [`Keys::chains`] it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    /// Where its key starts, or which chain it is.
    at: u32,
    /// How long its key is. No key has length 0: that is a chain.
    length: u8,
    kind: Kind,
    /// One of [`HostMap::grants`].
    grant: u16,
}

const _: () = assert!(size_of::<Slot>() == 8);

/// Several values of one pattern.
#[derive(Debug, Clone, Copy)]
struct Chain {
    /// The pattern as it would be with one value.
    slot: Slot,
    values: List,
}

/// Values in their order, by their first and last [`Link`].
#[derive(Debug, Clone, Copy)]
struct List {
    first: u32,
    last: u32,
}

/// A value in a [`List`].
#[derive(Debug, Clone, Copy)]
struct Link {
    grant: Grant,
    next: u32,
}

/// Why a host was not added to a [`HostMap`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InsertError {
    /// It is not a pattern.
    Pattern(PatternError),
    /// The map is full: 4 GiB of names, or 2³² values.
    Full,
}

/// A key on its way into the table.
struct Key<'k> {
    kind: Kind,
    bytes: &'k [u8],
    /// Where it stands in the source, if it does.
    start: Option<u32>,
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
        if !self.tables.is_empty() {
            return;
        }
        let tables = patterns.div_ceil(PLANNED).max(1);
        self.tables.resize_with(tables, HashTable::new);
        for table in &mut self.tables {
            table.reserve(patterns / tables, self.keys.hasher());
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
            self.insert_name(kind, name.as_bytes(), Grant { value, port: 0 })
        } else {
            let pattern = Pattern::parse(text).map_err(InsertError::Pattern)?;
            self.insert_written(&pattern, name.as_bytes(), value)
        };
        done.ok_or(InsertError::Full)
    }

    /// Adds `value` under a pattern; the same value under the same pattern is kept once.
    /// False when the map is full (4 GiB of names, or 2³² values).
    #[must_use]
    pub fn insert(&mut self, pattern: &Pattern, value: u16) -> bool {
        self.insert_written(pattern, &[], value).is_some()
    }

    /// The same for a pattern whose name is perhaps what `written` begins with.
    fn insert_written(&mut self, pattern: &Pattern, written: &[u8], value: u16) -> Option<()> {
        let grant = Grant {
            value,
            port: pattern.port.unwrap_or(0),
        };
        let (kind, name) = match &pattern.host {
            HostPattern::Any => {
                self.any = Some(self.link(self.any, grant)?);
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
        let start = start.and_then(|start| u32::try_from(start).ok());
        let key = Key {
            kind,
            bytes: name,
            start,
        };
        self.insert_key(&key, grant)
    }

    /// Adds a value under a key; `None` when the map is full.
    fn insert_key(&mut self, key: &Key<'_>, grant: Grant) -> Option<()> {
        let hash = hash_key(key.kind, key.bytes);
        let Some(mut slot) = self.probe(key.kind, hash, key.bytes) else {
            return self.insert_new(key, hash, grant);
        };
        if slot.length != 0 {
            let only = *self.grants.get(usize::from(slot.grant))?;
            if only == grant {
                return Some(());
            }
            // The value moves from the slot into a chain, where it is counted again.
            self.len -= 1;
            let chain = self.chain(slot, only)?;
            let tables = self.tables.len();
            let table = self.tables.get_mut(share(hash, tables))?;
            *table.find_mut(hash, self.keys.is(key.kind, key.bytes))? = chain;
            slot = chain;
        }
        let at = slot.at as usize;
        let values = self.keys.chains.get(at)?.values;
        let values = self.link(Some(values), grant)?;
        self.keys.chains.get_mut(at)?.values = values;
        Some(())
    }

    /// A chain of one value instead of a slot.
    fn chain(&mut self, slot: Slot, grant: Grant) -> Option<Slot> {
        let values = self.link(None, grant)?;
        let at = u32::try_from(self.keys.chains.len()).ok()?;
        self.keys.chains.push(Chain { slot, values });
        Some(Slot {
            at,
            length: 0,
            ..slot
        })
    }

    fn insert_new(&mut self, key: &Key<'_>, hash: u64, grant: Grant) -> Option<()> {
        let length = u8::try_from(key.bytes.len()).ok()?;
        let start = match key.start {
            Some(start) => start,
            None => {
                let start = u32::try_from(self.keys.source.len() + self.keys.extra.len()).ok()?;
                self.keys.extra.extend_from_slice(key.bytes);
                start
            }
        };
        let index = self.grant(grant);
        let mut slot = Slot {
            at: start,
            length,
            kind: key.kind,
            grant: index.unwrap_or(0),
        };
        if index.is_some() {
            self.len += 1;
        } else {
            slot = self.chain(slot, grant)?;
        }
        self.reserve(0);
        let tables = self.tables.len();
        let table = self.tables.get_mut(share(hash, tables))?;
        table.insert_unique(hash, slot, self.keys.hasher());
        Some(())
    }

    /// Which of the grants it is; `None` when there are too many.
    fn grant(&mut self, grant: Grant) -> Option<u16> {
        let count = self.grants.len();
        let looked_at = count.saturating_sub(LOOKED_AT);
        let mut last = self.grants.iter().enumerate().skip(looked_at);
        let found = last.find(|(_, other)| **other == grant);
        let index = u16::try_from(found.map_or(count, |(index, _)| index)).ok()?;
        if found.is_none() {
            self.grants.push(grant);
        }
        Some(index)
    }

    /// Puts a value into a list, in the order of the values; `None` when there are too many.
    fn link(&mut self, list: Option<List>, grant: Grant) -> Option<List> {
        let index = u32::try_from(self.links.len())
            .ok()
            .filter(|index| *index != END)?;
        let link = Link { grant, next: END };
        let Some(list) = list else {
            self.links.push(link);
            self.len += 1;
            return Some(List {
                first: index,
                last: index,
            });
        };
        // Rules come in the order of the document, so most values go to the end.
        let last = *self.links.get(list.last as usize)?;
        let (mut before, mut at) = if last.grant < grant {
            (Some(list.last), END)
        } else {
            (None, list.first)
        };
        while let Some(other) = self.links.get(at as usize) {
            if other.grant == grant {
                return Some(list);
            }
            if other.grant > grant {
                break;
            }
            before = Some(at);
            at = other.next;
        }
        self.links.push(Link { next: at, ..link });
        self.len += 1;
        let first = match before {
            None => index,
            Some(before) => {
                self.links.get_mut(before as usize)?.next = index;
                list.first
            }
        };
        let last = if at == END { index } else { list.last };
        Some(List { first, last })
    }

    fn probe(&self, kind: Kind, hash: u64, key: &[u8]) -> Option<Slot> {
        let table = self.tables.get(share(hash, self.tables.len()))?;
        table.find(hash, self.keys.is(kind, key)).copied()
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
            let _: ControlFlow<()> = self.visit_list(self.any, &mut each);
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
        self.len == 0
    }

    /// How many patterns there are, each value and port counted.
    pub fn len(&self) -> usize {
        self.len
    }

    fn visit_slot(
        &self,
        slot: Option<Slot>,
        each: &mut impl FnMut(u16, Option<u16>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let Some(slot) = slot else {
            return ControlFlow::Continue(());
        };
        if slot.length == 0 {
            let chain = self.keys.chains.get(slot.at as usize);
            return self.visit_list(chain.map(|chain| chain.values), each);
        }
        match self.grants.get(usize::from(slot.grant)) {
            Some(grant) => each(grant.value, grant.port()),
            None => ControlFlow::Continue(()),
        }
    }

    fn visit_list(
        &self,
        list: Option<List>,
        each: &mut impl FnMut(u16, Option<u16>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut at = list.map_or(END, |list| list.first);
        while let Some(link) = self.links.get(at as usize) {
            each(link.grant.value, link.grant.port())?;
            at = link.next;
        }
        ControlFlow::Continue(())
    }

    fn visit_name(
        &self,
        name: &[u8],
        each: &mut impl FnMut(u16, Option<u16>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let (mut hash, mut labels) = hash_name(name);
        let exact = self.probe(Kind::Exact, finish(Kind::Exact, hash), name);
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
                    let slot = self.probe(Kind::Suffix, finish(Kind::Suffix, hash), suffix);
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
            let slot = self.probe(Kind::Network, hash_key(Kind::Network, key), key);
            self.visit_slot(slot, each)?;
        }
        ControlFlow::Continue(())
    }
}

/// Which of a map's tables a key is in, by bits that no table looks at.
fn share(hash: u64, tables: usize) -> usize {
    (usize::from((hash >> 32) as u16) * tables) >> 16
}

impl Keys {
    /// A slot that says where its key is.
    fn unchained(&self, slot: Slot) -> Slot {
        let chain = match slot.length {
            0 => self.chains.get(slot.at as usize),
            _ => None,
        };
        chain.map_or(slot, |chain| chain.slot)
    }

    fn key(&self, slot: Slot) -> &[u8] {
        let start = slot.at as usize;
        let (text, start) = match start.checked_sub(self.source.len()) {
            Some(start) => (&self.extra, start),
            None => (&*self.source, start),
        };
        text.get(start..start + usize::from(slot.length))
            .unwrap_or_default()
    }

    /// Finds the slot of a key.
    fn is(&self, kind: Kind, key: &[u8]) -> impl Fn(&Slot) -> bool {
        move |slot| {
            let slot = match slot.length {
                0 => self.unchained(*slot),
                _ => *slot,
            };
            usize::from(slot.length) == key.len() && slot.kind == kind && self.key(slot) == key
        }
    }

    /// Hashes the keys of slots. One function, because a module has a table's growth once for each
    /// hasher.
    fn hasher(&self) -> impl Fn(&Slot) -> u64 {
        |slot| self.hash(*slot)
    }

    #[inline(never)]
    fn hash(&self, slot: Slot) -> u64 {
        let slot = self.unchained(slot);
        hash_key(slot.kind, self.key(slot))
    }
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

const HASH_FACTOR: u64 = 0x0000_0100_0000_01b3;
/// What undoes a multiplication by [`HASH_FACTOR`].
const HASH_DIVISOR: u64 = 0xce96_5057_aff6_957b;

const _: () = assert!(HASH_FACTOR.wrapping_mul(HASH_DIVISOR) == 1);

const fn hash_byte(hash: u64, byte: u8) -> u64 {
    (hash ^ byte as u64).wrapping_mul(HASH_FACTOR)
}

/// The hash before this byte was added.
const fn unhash_byte(hash: u64, byte: u8) -> u64 {
    hash.wrapping_mul(HASH_DIVISOR) ^ byte as u64
}

/// The hash of a name, and how many dots it has.
fn hash_name(name: &[u8]) -> (u64, u32) {
    let (mut hash, mut dots) = (HASH_START, 0);
    for byte in name.iter().rev() {
        hash = hash_byte(hash, *byte);
        dots += u32::from(*byte == b'.');
    }
    (hash, dots)
}

/// The table takes its control byte from the top bits, where FNV-1a mixes least for short names.
const fn finish(kind: Kind, hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 32) ^ kind as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ (hash >> 29)
}

fn hash_key(kind: Kind, key: &[u8]) -> u64 {
    finish(kind, hash_name(key).0)
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
        assert_eq!(map.keys.extra, b"a.b");
        assert_eq!(visited(&map, "a.b"), [7]);
    }

    #[test]
    fn as_many_tables_as_the_patterns_need() {
        let mut map = HostMap::default();
        map.reserve(3 * PLANNED);
        let capacities =
            |map: &HostMap| -> Vec<usize> { map.tables.iter().map(HashTable::capacity).collect() };
        let planned = capacities(&map);
        assert_eq!(planned.len(), 3);
        for number in 0..3 * PLANNED {
            let host = format!("{number}.example.com");
            map.insert_text(&host, (number % 7) as u16).unwrap();
        }
        // None of them grew.
        assert_eq!(capacities(&map), planned);
        assert_eq!(map.len(), 3 * PLANNED);
        assert_eq!(map.grants.len(), 7);
        for number in 0..3 * PLANNED {
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
        assert_eq!((map.grants.len(), map.len()), (1 << 16, hosts));
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
