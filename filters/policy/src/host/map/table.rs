//! A hash table of slots, in one piece of memory that holds no address: open addressing, where who is
//! further from home goes first (Robin Hood hashing).
//!
//! A slot stands at its home or behind it, and says how far; among neighbours homes are in order. So a
//! search looks at few slots whatever is in the table, and ends at the first that is nearer to its
//! home than the one that is looked for would be.

use super::array::Array;
use super::kind::Kind;
use super::slot::{self, FURTHEST, Slot, Sought};

/// How many of four homes are taken at most. Then chance puts no slot further than [`FURTHEST`].
const FULL: usize = 3;

/// The table.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    /// The homes, and a few behind them for the last ones' neighbours.
    slots: Array<slot::Bytes>,
    homes: usize,
    count: usize,
}

impl Table {
    /// A table for so many slots. More fit in, with a look at every key.
    pub(super) fn for_count(count: usize) -> Self {
        Self::with_homes(1 + count * 4 / FULL)
    }

    fn with_homes(homes: usize) -> Self {
        Self {
            slots: Array::Owned(vec![[0; 8]; homes + FURTHEST.min(4 + homes / 2)]),
            homes,
            count: 0,
        }
    }

    /// A table that lies in an image; `None` if it cannot be one.
    pub(super) fn from_image(slots: &'static [slot::Bytes], homes: usize) -> Option<Self> {
        (homes <= slots.len()).then_some(Self {
            slots: Array::Image(slots),
            homes,
            // Nothing is added.
            count: 0,
        })
    }

    /// The same table outside an image.
    pub(super) fn owned(&self) -> Self {
        Self {
            slots: Array::Owned(self.slots.to_vec()),
            ..*self
        }
    }

    /// Everything in its place.
    pub(super) fn slots(&self) -> &[slot::Bytes] {
        &self.slots
    }

    /// How many homes there are among the slots, from the first on.
    pub(super) fn homes(&self) -> usize {
        self.homes
    }

    /// True if no room was made yet.
    pub(super) fn is_unplanned(&self) -> bool {
        self.slots.is_empty()
    }

    fn home(&self, hash: u64) -> usize {
        (((hash >> 32) * self.homes as u64) >> 32) as usize
    }

    /// The slot of a key, and its place. `is` compares the keys of slots of the same kind and length.
    pub(super) fn find(
        &self,
        kind: Kind,
        hash: u64,
        length: usize,
        is: impl Fn(Slot) -> bool,
    ) -> Option<(usize, Slot)> {
        let mut place = self.home(hash);
        let mut sought = Sought::new(kind, hash, length);
        // Comparing keys in the loop that runs over slots would make that one dear.
        loop {
            let steps = self.steps(place, sought)?;
            place += steps;
            sought = sought.moved(steps);
            let slot = Slot::from_bytes(*self.slots.get(place)?);
            if !sought.may_be(slot) {
                return None;
            }
            if is(slot) {
                return Some((place, slot));
            }
            place += 1;
            sought = sought.moved(1);
        }
    }

    /// How far on the first slot is that may be the one, or ends the search.
    fn steps(&self, place: usize, mut sought: Sought) -> Option<usize> {
        self.slots.get(place..)?.iter().position(|bytes| {
            let slot = Slot::from_bytes(*bytes);
            let stops = sought.may_be(slot) || sought.ends_at(slot);
            sought = sought.moved(1);
            stops
        })
    }

    /// Puts another slot of the same key at a place that was found; `None` in an image.
    pub(super) fn replace(&mut self, place: usize, slot: Slot) -> Option<()> {
        *self.slots.owned()?.get_mut(place)? = slot.bytes();
        Some(())
    }

    /// Adds a slot whose key is not there; `hash_of` is for when the table must grow. `None` when no
    /// size of table will do, because too many keys have one hash, and in an image.
    #[inline(never)]
    pub(super) fn insert(
        &mut self,
        hash: u64,
        slot: Slot,
        hash_of: &dyn Fn(Slot) -> u64,
    ) -> Option<()> {
        let is_full = self.count * 4 >= self.homes * FULL;
        let left = match is_full {
            true => Some(slot),
            false => self.put(hash, slot),
        };
        match left {
            Some(left) => self.grow(left, hash_of),
            None => Some(()),
        }
    }

    /// Puts a slot into its place; the one that finds none is given back.
    fn put(&mut self, hash: u64, slot: Slot) -> Option<Slot> {
        let home = self.home(hash);
        let mut slot = slot.at_home(hash);
        let slots = self.slots.owned().and_then(|slots| slots.get_mut(home..));
        for bytes in slots.unwrap_or_default() {
            let there = Slot::from_bytes(*bytes);
            if !there.is_some() {
                *bytes = slot.bytes();
                self.count += 1;
                return None;
            }
            if there.is_nearer(slot) {
                *bytes = slot.bytes();
                slot = there;
            }
            match slot.moved() {
                Some(moved) => slot = moved,
                None => break,
            }
        }
        Some(slot)
    }

    /// Makes a larger table of the slots and one more.
    fn grow(&mut self, more: Slot, hash_of: &dyn Fn(Slot) -> u64) -> Option<()> {
        self.slots.owned()?;
        let mut homes = self.homes;
        // More would not part keys that are together here.
        while homes <= 64 * (self.count + 1) {
            homes = 4 + 2 * homes;
            let mut grown = Self::with_homes(homes);
            let slots = self.slots.iter().map(|bytes| Slot::from_bytes(*bytes));
            let mut slots = slots.filter(|slot| slot.is_some()).chain([more]);
            if slots.all(|slot| grown.put(hash_of(slot), slot).is_none()) {
                *self = grown;
                return Some(());
            }
        }
        None
    }

    /// How many slots it has room for without growing.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.homes * FULL / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The slot of a key that is a number.
    fn slot(at: usize) -> Slot {
        Slot::new(Kind::Exact, at, 1, Some(0)).unwrap()
    }

    #[test]
    fn what_was_put_in_is_found_at_any_filling() {
        let mut random = 1_u64;
        let mut next = || {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            random ^ (random >> 29)
        };
        let hashes: Vec<u64> = (0..3000).map(|_| next()).collect();
        let hash_of = |slot: Slot| hashes[slot.at()];
        let mut table = Table::default();
        let find = |table: &Table, kind, hash: u64, at: usize| {
            let found = table.find(kind, hash, 1, |there| there.at() == at);
            found.map(|(_, slot)| (slot.at(), slot.kind(), slot.grant()))
        };
        for (at, hash) in hashes.iter().enumerate() {
            assert_eq!(find(&table, Kind::Exact, *hash, at), None);
            table.insert(*hash, slot(at), &hash_of).unwrap();
            assert!(table.count <= table.capacity() + 1);
        }
        for (at, hash) in hashes.iter().enumerate() {
            let expected = Some((at, Kind::Exact, Some(0)));
            assert_eq!(find(&table, Kind::Exact, *hash, at), expected);
            assert_eq!(find(&table, Kind::Suffix, *hash, at), None);
        }
        for _ in 0..3000 {
            let hash = next();
            let is = |there: Slot| hash_of(there) == hash;
            assert!(table.find(Kind::Exact, hash, 1, is).is_none());
        }
    }

    #[test]
    fn keys_of_one_hash_are_told_apart_until_they_are_too_many() {
        let mut table = Table::for_count(100);
        let mut added = 0;
        while table.insert(7, slot(added), &|_| 7).is_some() {
            added += 1;
        }
        assert_eq!(added, FURTHEST + 1);
        for at in 0..added {
            let found = table.find(Kind::Exact, 7, 1, |there| there.at() == at);
            assert_eq!(found.unwrap().1.at(), at);
        }
    }
}
