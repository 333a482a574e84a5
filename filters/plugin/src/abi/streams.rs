//! What is kept of requests and connections, by their contexts.
//!
//! A table of hashbrown's was measured in its place: 1,200 bytes more of module, and 310 instructions
//! more for a request of 7,500.

/// A map with open addressing: the place of a stream is the hash of its context, or the next one that is
/// free.
#[derive(Debug)]
pub(crate) struct Streams<S> {
    /// A power of two of them, at least half of them free.
    slots: Vec<Option<(u32, S)>>,
    len: usize,
}

/// The slots of a map that is not empty, at least.
const FEWEST: usize = 64;

impl<S> Streams<S> {
    pub(crate) const fn new() -> Self {
        Self {
            slots: Vec::new(),
            len: 0,
        }
    }

    /// Adds a stream, in the place of one that has the same context.
    pub(crate) fn insert(&mut self, context: u32, stream: S) {
        if self.len * 2 >= self.slots.len() {
            self.grow();
        }
        if self.put(context, stream) {
            self.len += 1;
        }
    }

    /// The stream of a context.
    pub(crate) fn get_mut(&mut self, context: u32) -> Option<&mut S> {
        let place = self.find(context)?;
        let slot = self.slots.get_mut(place)?.as_mut();
        slot.map(|(_, stream)| stream)
    }

    /// Takes a stream out.
    pub(crate) fn remove(&mut self, context: u32) -> Option<S> {
        let mut gap = self.find(context)?;
        let (_, stream) = self.slots.get_mut(gap)?.take()?;
        self.len -= 1;
        // Whoever stands behind the gap and would be found only through it moves into it.
        let mut place = self.after(gap);
        while let Some(Some((other, _))) = self.slots.get(place) {
            let home = self.home(*other);
            let distance = |from: usize| place.wrapping_sub(from) & self.mask();
            if distance(home) >= distance(gap) {
                self.slots.swap(gap, place);
                gap = place;
            }
            place = self.after(place);
        }
        Some(stream)
    }

    fn mask(&self) -> usize {
        self.slots.len().wrapping_sub(1)
    }

    /// Context ids are sequential. Hashing by the low bits would put long-lived streams into one run
    /// that every probe must walk, so Fibonacci hashing spreads neighbours.
    fn home(&self, context: u32) -> usize {
        let hash = u64::from(context.wrapping_mul(0x9e37_79b9));
        // The highest bits, as many as the places need.
        ((hash * self.slots.len() as u64) >> 32) as usize
    }

    fn after(&self, place: usize) -> usize {
        (place + 1) & self.mask()
    }

    fn find(&self, context: u32) -> Option<usize> {
        let mut place = self.home(context);
        // Ends, because half of the slots are free.
        while let Some(Some((other, _))) = self.slots.get(place) {
            if *other == context {
                return Some(place);
            }
            place = self.after(place);
        }
        None
    }

    /// Puts a stream where it belongs; true if it took a free slot.
    fn put(&mut self, context: u32, stream: S) -> bool {
        let mut place = self.home(context);
        loop {
            let next = self.after(place);
            match self.slots.get_mut(place) {
                Some(Some((other, _))) if *other != context => place = next,
                Some(slot) => return slot.replace((context, stream)).is_none(),
                // Not reached: there are slots.
                None => return false,
            }
        }
    }

    #[cold]
    fn grow(&mut self) {
        let count = (self.slots.len() * 2).max(FEWEST);
        let mut slots = Vec::new();
        slots.resize_with(count, || None);
        let old = std::mem::replace(&mut self.slots, slots);
        for (context, stream) in old.into_iter().flatten() {
            self.put(context, stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against a map of the standard library, with streams that live long between many that do not.
    #[test]
    fn it_holds_what_was_put_in() {
        let mut streams = Streams::new();
        let mut expected = std::collections::HashMap::new();
        let mut random: u32 = 1;
        for step in 0..20_000_u32 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Contexts far from each other, and the highest ones.
            let context = match step % 7 {
                0 => step * 64,
                1 => u32::MAX - step,
                _ => step,
            };
            streams.insert(context, step);
            expected.insert(context, step);
            if step % 3 > 0 {
                let gone = match random % 4 {
                    0 => context,
                    _ => step.saturating_sub(random % 500),
                };
                assert_eq!(streams.remove(gone), expected.remove(&gone));
            }
            let asked = step.saturating_sub(random % 100);
            assert_eq!(streams.get_mut(asked), expected.get_mut(&asked));
        }
        assert_eq!(streams.len, expected.len());
        for (context, step) in expected {
            assert_eq!(streams.remove(context), Some(step));
        }
        assert_eq!(streams.len, 0);
        assert!(streams.slots.iter().all(Option::is_none));
    }

    #[test]
    fn it_grows_with_those_that_are_there_at_once() {
        let mut streams = Streams::new();
        for context in 0..100_000 {
            streams.insert(context, ());
            assert_eq!(streams.remove(context), Some(()));
        }
        assert_eq!(streams.slots.len(), FEWEST);
    }
}
