//! The values under patterns: which rules, with the port that a pattern limits them to.

use std::ops::ControlFlow;

/// How many of the last grants are looked through before another is added.
const LOOKED_AT: usize = 8;
/// No further link in a list.
const END: u32 = u32::MAX;

/// The values of a map, whatever patterns they stand under.
#[derive(Debug, Clone, Default)]
pub(super) struct Values {
    /// Each value with its port once for many patterns, usually: a rule's hosts follow each other.
    grants: Vec<Grant>,
    links: Vec<Link>,
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
}

impl Values {
    /// The grant of a slot's number.
    pub(super) fn get(&self, number: u16) -> Option<Grant> {
        self.grants.get(usize::from(number)).copied()
    }

    /// How many grants have a number.
    #[cfg(test)]
    pub(super) fn numbered(&self) -> usize {
        self.grants.len()
    }

    /// The number of this grant, for a slot; `None` when there are too many to number.
    pub(super) fn grant(&mut self, grant: Grant) -> Option<u16> {
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

    /// Puts a value into a list, in the order of the values and once; `None` when there are too many.
    pub(super) fn link(&mut self, list: Option<List>, grant: Grant) -> Option<List> {
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

    /// Calls `each` with the value and the port of every link.
    pub(super) fn visit(
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
}
