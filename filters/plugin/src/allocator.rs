//! The allocator of a module.
//!
//! Smaller and faster than the target's own, which a module would carry otherwise; and what a request
//! allocates comes from a few blocks that are always there, because the buffers in which the host
//! answers are most of what a request allocates, and all of them are gone at its end.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::{Cell, UnsafeCell};

use talc::wasm::WasmDynamicTalc;

/// The bytes of a block: a host name has 253 at most, so that more is rare.
const BLOCK: usize = 256;
/// A decision holds five buffers at most.
const BLOCKS: usize = 8;
const POOL: usize = BLOCK * BLOCKS;

/// Blocks are aligned for whatever is allocated.
#[repr(align(16))]
struct Pool(UnsafeCell<[u8; POOL]>);

struct Allocator {
    talc: WasmDynamicTalc,
    pool: Pool,
    /// Bit n is set while block n is free.
    free: Cell<u32>,
    in_request: Cell<bool>,
}

// SAFETY: the modules are built without threads.
unsafe impl Sync for Allocator {}

#[global_allocator]
static ALLOCATOR: Allocator = Allocator {
    talc: talc::wasm::new_wasm_dynamic_allocator(),
    pool: Pool(UnsafeCell::new([0; POOL])),
    free: Cell::new((1 << BLOCKS) - 1),
    in_request: Cell::new(false),
};

/// Where the host puts what it answers, in the place of the SDK's function of that name: a vector of
/// just so many bytes.
///
/// Without memory it traps. An address of 0 would be an answer that is not there, and a client could
/// hide evidence behind a header that takes all memory.
// SAFETY: no other function has the name.
#[unsafe(no_mangle)]
pub extern "C" fn meridian_malloc(size: usize) -> *mut u8 {
    if size == 0 {
        return std::ptr::null_mut();
    }
    let Ok(layout) = Layout::array::<u8>(size) else {
        core::arch::wasm32::unreachable();
    };
    // SAFETY: it is of at least one byte.
    let address = unsafe { ALLOCATOR.alloc(layout) };
    if address.is_null() {
        core::arch::wasm32::unreachable();
    }
    address
}

/// Runs `callback` with its allocations from the pool, as far as they fit. What stays after it keeps
/// its block, so a policy is never loaded in here.
pub(crate) fn in_request<T>(callback: impl FnOnce() -> T) -> T {
    ALLOCATOR.in_request.set(true);
    let result = callback();
    ALLOCATOR.in_request.set(false);
    result
}

impl Allocator {
    /// Which block starts at or before this address; `None` for memory that is not of the pool.
    fn block(&self, address: *mut u8) -> Option<usize> {
        let offset = (address as usize).wrapping_sub(self.pool.0.get() as usize);
        (offset < POOL).then_some(offset / BLOCK)
    }
}

// SAFETY: a block is given to one owner until it is given back, and memory outside the pool is talc's.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let free = self.free.get();
        if !self.in_request.get() || layout.size() > BLOCK || layout.align() > 16 || free == 0 {
            // SAFETY: as the caller says.
            return unsafe { self.talc.alloc(layout) };
        }
        self.free.set(free & (free - 1));
        let block = free.trailing_zeros() as usize;
        self.pool.0.get().cast::<u8>().wrapping_add(block * BLOCK)
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        match self.block(address) {
            Some(block) => self.free.set(self.free.get() | 1 << block),
            // SAFETY: it is talc's, because it is not the pool's.
            None => unsafe { self.talc.dealloc(address, layout) },
        }
    }

    unsafe fn realloc(&self, address: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if self.block(address).is_none() {
            // SAFETY: it is talc's, because it is not the pool's.
            return unsafe { self.talc.realloc(address, layout, size) };
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
