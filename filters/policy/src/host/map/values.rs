//! The values under patterns: which rules, with the port that a pattern limits them to.

use std::ops::ControlFlow;

use super::array::Array;

/// How many of the last grants are looked through before another is added.
const LOOKED_AT: usize = 8;
/// No further link in a list.
const END: u32 = u32::MAX;

/// The values of a map, whatever patterns they stand under.
#[derive(Debug, Clone, Default)]
pub(super) struct Values {
    /// Each value with its port once for many patterns, usually: a rule's hosts follow each other.
    pub(super) grants: Array<[u8; 4]>,
    pub(super) links: Array<[u8; 8]>,
    /// How many there are, each under each of its patterns.
    pub(super) len: usize,
}

/// A value, and the port that it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Grant {
    pub(super) value: u16,
    /// 0 is any port: no pattern can name port 0.
    port: u16,
}

/// Several values under one pattern, in their order, by their first and last [`Link`].
#[derive(Debug, Clone, Copy)]
pub(super) struct List {
    first: u32,
    last: u32,
}

/// A value in a [`List`].
#[derive(Debug, Clone, Copy)]
struct Link {
    grant: Grant,
    next: u32,
}

impl Grant {
    pub(super) fn new(value: u16, port: Option<u16>) -> Self {
        Self {
            value,
            port: port.unwrap_or(0),
        }
    }

    pub(super) fn port(self) -> Option<u16> {
        (self.port != 0).then_some(self.port)
    }

    fn from_bits(bits: u32) -> Self {
        Self {
            value: bits as u16,
            port: (bits >> 16) as u16,
        }
    }

    fn bits(self) -> u32 {
        u32::from(self.value) | u32::from(self.port) << 16
    }
}

impl List {
    /// A list of nothing.
    pub(super) const NONE: Self = Self {
        first: END,
        last: END,
    };

    pub(super) fn is_none(self) -> bool {
        self.first == END
    }

    pub(super) fn from_bytes(bytes: [u8; 8]) -> Self {
        let bits = u64::from_le_bytes(bytes);
        Self {
            first: bits as u32,
            last: (bits >> 32) as u32,
        }
    }

    pub(super) fn bytes(self) -> [u8; 8] {
        (u64::from(self.first) | u64::from(self.last) << 32).to_le_bytes()
    }
}

impl Link {
    fn from_bytes(bytes: [u8; 8]) -> Self {
        let bits = u64::from_le_bytes(bytes);
        Self {
            grant: Grant::from_bits(bits as u32),
            next: (bits >> 32) as u32,
        }
    }

    fn bytes(self) -> [u8; 8] {
        (u64::from(self.grant.bits()) | u64::from(self.next) << 32).to_le_bytes()
    }
}

impl Values {
    /// The grant of a slot's number.
    pub(super) fn get(&self, number: u16) -> Option<Grant> {
        let bytes = self.grants.get(usize::from(number))?;
        Some(Grant::from_bits(u32::from_le_bytes(*bytes)))
    }

    fn link_at(&self, at: u32) -> Option<Link> {
        self.links.get(at as usize).copied().map(Link::from_bytes)
    }

    /// The number of this grant, for a slot; `None` when there are too many to number.
    pub(super) fn grant(&mut self, grant: Grant) -> Option<u16> {
        let count = self.grants.len();
        let bytes = grant.bits().to_le_bytes();
        let looked_at = count.saturating_sub(LOOKED_AT);
        let mut last = self.grants.iter().enumerate().skip(looked_at);
        let found = last.find(|(_, other)| **other == bytes);
        let index = u16::try_from(found.map_or(count, |(index, _)| index)).ok()?;
        if found.is_none() {
            // The last number is none.
            if index == u16::MAX {
                return None;
            }
            self.grants.owned()?.push(bytes);
        }
        Some(index)
    }

    fn push(&mut self, link: Link) -> Option<()> {
        self.links.owned()?.push(link.bytes());
        self.len += 1;
        Some(())
    }

    /// Puts a value into a list, in the order of the values and once; `None` when there are too many.
    pub(super) fn link(&mut self, list: Option<List>, grant: Grant) -> Option<List> {
        let index = u32::try_from(self.links.len())
            .ok()
            .filter(|index| *index != END)?;
        let link = Link { grant, next: END };
        let Some(list) = list else {
            self.push(link)?;
            return Some(List {
                first: index,
                last: index,
            });
        };
        // Rules come in the order of the document, so most values go to the end.
        let last = self.link_at(list.last)?;
        let (mut before, mut at) = if last.grant < grant {
            (Some(list.last), END)
        } else {
            (None, list.first)
        };
        while let Some(other) = self.link_at(at) {
            if other.grant == grant {
                return Some(list);
            }
            if other.grant > grant {
                break;
            }
            before = Some(at);
            at = other.next;
        }
        self.push(Link { next: at, ..link })?;
        let first = match before {
            None => index,
            Some(before) => {
                let mut previous = self.link_at(before)?;
                previous.next = index;
                *self.links.owned()?.get_mut(before as usize)? = previous.bytes();
                list.first
            }
        };
        let last = if at == END { index } else { list.last };
        Some(List { first, last })
    }

    /// Calls `each` with the value and the port of every link.
    pub(super) fn visit(
        &self,
        list: Option<List>,
        each: &mut impl FnMut(u16, Option<u16>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut at = list.map_or(END, |list| list.first);
        while let Some(link) = self.link_at(at) {
            each(link.grant.value, link.grant.port())?;
            at = link.next;
        }
        ControlFlow::Continue(())
    }
}
