//! The allocator of a module: a [`Pool`] before talc, which is smaller and faster than the target's own.

use std::alloc::{GlobalAlloc, Layout};

use talc::wasm::WasmDynamicTalc;

use super::pool::Pool;

#[cfg(target_feature = "atomics")]
compile_error!("the allocator is for modules without threads");

// SAFETY: the modules are built without threads.
unsafe impl Sync for Pool<WasmDynamicTalc> {}

#[global_allocator]
static ALLOCATOR: Pool<WasmDynamicTalc> = Pool::before(talc::wasm::new_wasm_dynamic_allocator());

/// Runs `callback` with its allocations from the pool, see [`Pool::in_request`].
pub(super) fn in_request<T>(callback: impl FnOnce() -> T) -> T {
    ALLOCATOR.in_request(callback)
}

/// Allocates the buffer for a host answer, a vector of just so many bytes; replaces the SDK's `malloc`.
///
/// Traps when out of memory: returning null would read as "no such property", and a client could hide
/// evidence behind a huge header.
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
