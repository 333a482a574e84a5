//! A few blocks of memory for what a request allocates, before another allocator.
//!
//! The buffers in which the host answers are most of what a request allocates, and all of them are
//! gone at its end: blocks that are always there are the cheapest home for them.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::{Cell, UnsafeCell};

/// The bytes of a block: a host name has 253 at most, so that more is rare.
const BLOCK: usize = 256;
/// A decision holds five buffers at most.
const BLOCKS: usize = 8;
const POOL: usize = BLOCK * BLOCKS;

/// Blocks are aligned for whatever is allocated.
#[repr(align(16))]
struct Blocks(UnsafeCell<[u8; POOL]>);

/// Blocks first, as long as a request lasts and as far as they fit; else `rest`. For one thread.
pub(super) struct Pool<A> {
    rest: A,
    blocks: Blocks,
    /// Bit n is set while block n is free.
    free: Cell<u32>,
    in_request: Cell<bool>,
}

impl<A> Pool<A> {
    pub(super) const fn before(rest: A) -> Self {
        Self {
            rest,
            blocks: Blocks(UnsafeCell::new([0; POOL])),
            free: Cell::new((1 << BLOCKS) - 1),
            in_request: Cell::new(false),
        }
    }

    /// Runs `callback` with its allocations from the blocks, as far as they fit. What stays after it
    /// keeps its block, so a policy is never loaded in here.
    pub(super) fn in_request<T>(&self, callback: impl FnOnce() -> T) -> T {
        self.in_request.set(true);
        let result = callback();
        self.in_request.set(false);
        result
    }

    /// Which block holds this address; `None` for memory that is not of the blocks.
    fn block(&self, address: *mut u8) -> Option<usize> {
        let offset = (address as usize).wrapping_sub(self.blocks.0.get() as usize);
        (offset < POOL).then_some(offset / BLOCK)
    }
}

// SAFETY: a block is given to one owner until it is given back, and memory outside the blocks is of
// `rest`.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Pool<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let free = self.free.get();
        if !self.in_request.get() || layout.size() > BLOCK || layout.align() > 16 || free == 0 {
            // SAFETY: as the caller says.
            return unsafe { self.rest.alloc(layout) };
        }
        self.free.set(free & (free - 1));
        let block = free.trailing_zeros() as usize;
        self.blocks.0.get().cast::<u8>().wrapping_add(block * BLOCK)
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        match self.block(address) {
            Some(block) => self.free.set(self.free.get() | 1 << block),
            // SAFETY: it is of `rest`, because it is of no block.
            None => unsafe { self.rest.dealloc(address, layout) },
        }
    }

    unsafe fn realloc(&self, address: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if self.block(address).is_none() {
            // SAFETY: it is of `rest`, because it is of no block.
            return unsafe { self.rest.realloc(address, layout, size) };
        }
        if size <= BLOCK {
            return address;
        }
        // SAFETY: `size` is as the caller may ask for it, with this alignment.
        let grown = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !grown.is_null() {
            // SAFETY: both are of at least the old size, and apart.
            unsafe { grown.copy_from_nonoverlapping(address, layout.size()) };
            // SAFETY: the caller gives it up.
            unsafe { self.dealloc(address, layout) };
        }
        grown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::alloc::System;

    /// A box that the pool frees.
    struct Held<'p> {
        pool: &'p Pool<System>,
        address: *mut u8,
        layout: Layout,
    }

    impl<'p> Held<'p> {
        /// Allocates `size` bytes, each of them `fill`.
        fn new(pool: &'p Pool<System>, size: usize, fill: u8) -> Self {
            let layout = Layout::array::<u8>(size).unwrap();
            // SAFETY: it is of at least one byte, in every test.
            let address = unsafe { pool.alloc(layout) };
            assert!(!address.is_null());
            // SAFETY: it was allocated with that size.
            unsafe { address.write_bytes(fill, size) };
            Self {
                pool,
                address,
                layout,
            }
        }

        fn bytes(&self) -> &[u8] {
            // SAFETY: `new` and `grow` wrote every byte.
            unsafe { std::slice::from_raw_parts(self.address, self.layout.size()) }
        }

        fn is_in_block(&self) -> bool {
            self.pool.block(self.address).is_some()
        }

        /// Gives it `size` bytes, the new ones `fill`.
        fn grow(&mut self, size: usize, fill: u8) {
            let old = self.layout.size();
            // SAFETY: it was allocated with this layout.
            self.address = unsafe { self.pool.realloc(self.address, self.layout, size) };
            assert!(!self.address.is_null());
            self.layout = Layout::array::<u8>(size).unwrap();
            // SAFETY: it has `size` bytes now.
            unsafe { self.address.add(old).write_bytes(fill, size - old) };
        }
    }

    impl Drop for Held<'_> {
        fn drop(&mut self) {
            // SAFETY: it was allocated with this layout, and is used no more.
            unsafe { self.pool.dealloc(self.address, self.layout) };
        }
    }

    #[test]
    fn blocks_are_given_to_one_owner_until_they_come_back() {
        let pool = Pool::before(System);
        pool.in_request(|| {
            let held: Vec<Held> = (0..=BLOCKS)
                .map(|fill| Held::new(&pool, BLOCK, fill as u8))
                .collect();
            let in_blocks = held.iter().filter(|held| held.is_in_block()).count();
            assert_eq!(in_blocks, BLOCKS);
            for (fill, held) in held.iter().enumerate() {
                assert!(held.bytes().iter().all(|byte| *byte == fill as u8));
            }
            drop(held);
            assert_eq!(pool.free.get(), (1 << BLOCKS) - 1);
            assert!(Held::new(&pool, 1, 0).is_in_block());
        });
    }

    #[test]
    fn what_does_not_fit_and_what_is_no_request_s_is_of_the_rest() {
        let pool = Pool::before(System);
        assert!(!Held::new(&pool, 1, 0).is_in_block());
        pool.in_request(|| assert!(!Held::new(&pool, BLOCK + 1, 0).is_in_block()));
    }

    #[test]
    fn what_grows_keeps_its_bytes_and_leaves_its_block() {
        let pool = Pool::before(System);
        let mut held = pool.in_request(|| Held::new(&pool, 3, 7));
        held.grow(BLOCK, 8);
        assert!(held.is_in_block());
        pool.in_request(|| held.grow(BLOCK + 9, 9));
        assert!(!held.is_in_block());
        assert_eq!(pool.free.get(), (1 << BLOCKS) - 1);
        held.grow(4 * BLOCK, 10);
        let expected = [(3, 7), (BLOCK - 3, 8), (9, 9), (3 * BLOCK - 9, 10)];
        let expected: Vec<u8> = expected
            .into_iter()
            .flat_map(|(count, byte)| std::iter::repeat_n(byte, count))
            .collect();
        assert_eq!(held.bytes(), expected);
    }
}
