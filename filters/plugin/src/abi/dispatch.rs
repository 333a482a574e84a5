//! The host's callbacks, each handed to the context that it is for.
//!
//! The SDK's dispatcher keeps a box for each context and looks for it in up to three maps at every
//! callback, which takes longer than a decision does, and it is 18 kB of a module. So there is this one,
//! of functions that have the SDK's names behind `meridian_`: `meridian build` exports each in the place
//! of the SDK's, which falls out of the module. It takes off a lean module what is exported here for the
//! end of a request alone.

use std::cell::RefCell;

use proxy_wasm::traits::{HttpContext, RootContext, StreamContext};
use proxy_wasm::types::Action;

use super::allocator::in_request;
use super::plugins;
use super::root::Root;
use super::stream::Stream;
use super::streams::Streams;

thread_local! {
    static STREAMS: RefCell<Streams<Stream>> = const { RefCell::new(Streams::new()) };
}

/// A plugin is given its policy, of so many bytes; false refuses it.
// SAFETY: no other function has the name.
#[unsafe(no_mangle)]
pub extern "C" fn meridian_proxy_on_configure(root: u32, size: usize) -> bool {
    plugins::with_plugin(root, |plugin| plugin.on_configure(size)).unwrap_or(false)
}

/// The time has come that a plugin asked for.
// SAFETY: no other function has the name.
#[unsafe(no_mangle)]
pub extern "C" fn meridian_proxy_on_tick(root: u32) {
    // Of a plugin that is gone there is no day to read.
    let _: Option<()> = plugins::with_plugin(root, Root::on_tick);
}

/// A plugin, request or connection begins; `root` is 0 for a plugin.
// SAFETY: no other function has the name.
#[unsafe(no_mangle)]
pub extern "C" fn meridian_proxy_on_context_create(context: u32, root: u32) {
    if root == 0 {
        return plugins::register(context);
    }
    let filters = plugins::with_plugin(root, |plugin| plugin.filters()).flatten();
    STREAMS.with_borrow_mut(|streams| streams.insert(context, Stream::new(filters)));
}

/// A copy of a request or connection, so that the table is free while the host is asked: a connection that
/// is closed can end at once.
fn stream(context: u32) -> Stream {
    STREAMS
        .with_borrow_mut(|streams| streams.get_mut(context).cloned())
        .unwrap_or_default()
}

/// The request's headers have arrived.
// SAFETY: no other function has the name.
#[unsafe(no_mangle)]
pub extern "C" fn meridian_proxy_on_request_headers(
    context: u32,
    headers: usize,
    end_of_stream: bool,
) -> Action {
    in_request(|| {
        let mut stream = stream(context);
        let action = stream.on_http_request_headers(headers, end_of_stream);
        if stream.direction.is_some() {
            remember(context, &stream);
        }
        action
    })
}

/// Keeps the direction for the end of the request.
#[cold]
fn remember(context: u32, decided: &Stream) {
    STREAMS.with_borrow_mut(|streams| {
        if let Some(stream) = streams.get_mut(context) {
            stream.direction = decided.direction;
        }
    });
}

/// The request's trailers have arrived.
// SAFETY: no other function has the name.
#[unsafe(no_mangle)]
pub extern "C" fn meridian_proxy_on_request_trailers(context: u32, trailers: usize) -> Action {
    in_request(|| stream(context).on_http_request_trailers(trailers))
}

/// A connection was opened whose bytes pass unread.
// SAFETY: no other function has the name.
#[unsafe(no_mangle)]
pub extern "C" fn meridian_proxy_on_new_connection(context: u32) -> Action {
    in_request(|| stream(context).on_new_connection())
}

/// A request or connection has ended.
// SAFETY: no other function has the name.
#[unsafe(no_mangle)]
pub extern "C" fn meridian_proxy_on_log(context: u32) {
    in_request(|| HttpContext::on_log(&mut stream(context)));
}

/// A plugin, request or connection is gone.
// SAFETY: no other function has the name.
#[unsafe(no_mangle)]
pub extern "C" fn meridian_proxy_on_delete(context: u32) {
    if STREAMS.with_borrow_mut(|streams| streams.remove(context).is_none()) {
        plugins::forget(context);
    }
}
