//! The callbacks of the ABI.
//!
//! The Rust SDK keeps a boxed object for each request and looks for it in up to three maps at every
//! callback, which takes longer than a decision does, and it is 18 kB of a module. `meridian build`
//! takes off a lean module what is exported here for the end of a request alone.

use std::cell::RefCell;
use std::rc::Rc;

use meridian_policy::{Direction, Subject};

use super::allocator::in_request;
use super::calls::ProxyWasm;
use super::plugins;
use super::root::Root;
use super::streams::Streams;
use crate::answer::{FilterStatus, close, no_policy};
use crate::filter::Filter;
use crate::plugin::Filters;

/// What the ABI calls `Action`.
const CONTINUE: u32 = 0;
const PAUSE: u32 = 1;

/// One request or connection.
struct Stream {
    /// `None` while the plugin has no policy.
    filters: Option<Rc<Filters>>,
    /// `None` until it is decided on.
    direction: Option<Direction>,
}

thread_local! {
    static STREAMS: RefCell<Streams<Stream>> = const { RefCell::new(Streams::new()) };
}

/// Which ABI the host is to speak.
// SAFETY: no other function has the name.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_abi_version_0_2_1() {}

/// A plugin is given its policy, of so many bytes; false refuses it.
// SAFETY: no other function has the name.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_configure(root: u32, _: u32) -> u32 {
    plugins::with_plugin(root, Root::configure)
        .unwrap_or(false)
        .into()
}

/// The time has come that a plugin asked for.
// SAFETY: no other function has the name.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_tick(root: u32) {
    // Of a plugin that is gone there is no day to read.
    let _: Option<()> = plugins::with_plugin(root, Root::tick);
}

/// A plugin, request or connection begins; `root` is 0 for a plugin.
// SAFETY: no other function has the name.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_context_create(context: u32, root: u32) {
    if root == 0 {
        return plugins::register(context);
    }
    let stream = Stream {
        filters: plugins::with_plugin(root, Root::filters).flatten(),
        direction: None,
    };
    STREAMS.with_borrow_mut(|streams| streams.insert(context, stream));
}

/// The filters of a request or connection; `None` without a policy.
fn filters(context: u32) -> Option<Rc<Filters>> {
    STREAMS.with_borrow_mut(|streams| streams.get_mut(context)?.filters.clone())
}

/// The filter for the current request or connection; `None` without a policy, at a sidecar's listener
/// that is neither inbound nor outbound, and where an HTTP filter has the root id of a network filter,
/// or the other way round.
fn current(filters: &Option<Rc<Filters>>, subject: Subject) -> Option<&Filter> {
    let filter = filters.as_ref()?.current(ProxyWasm)?;
    (filter.subject() == subject).then_some(filter)
}

/// What becomes of a request or connection that no filter decides on.
#[cold]
#[inline(never)]
fn undecided(filters: Option<&Filters>, subject: Subject) -> FilterStatus {
    if let Some(filters) = filters {
        if filters.abstain() {
            return FilterStatus::Continue;
        }
        filters.tell_misuse(subject);
    }
    match subject {
        Subject::Request => no_policy(ProxyWasm),
        Subject::Connection => close(ProxyWasm),
    }
}

/// The request's headers have arrived.
// SAFETY: no other function has the name.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_request_headers(context: u32, _: u32, _: u32) -> u32 {
    in_request(|| {
        let filters = filters(context);
        let status = match current(&filters, Subject::Request) {
            Some(filter) => {
                let (status, direction) = filter.on_stream(ProxyWasm);
                if filter.measures_ends() {
                    remember(context, direction);
                }
                status
            }
            None => undecided(filters.as_deref(), Subject::Request),
        };
        action(status)
    })
}

/// Keeps the direction for the end of the request.
#[cold]
fn remember(context: u32, direction: Direction) {
    STREAMS.with_borrow_mut(|streams| {
        if let Some(stream) = streams.get_mut(context) {
            stream.direction = Some(direction);
        }
    });
}

/// The request's trailers have arrived.
// SAFETY: no other function has the name.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_request_trailers(context: u32, _: u32) -> u32 {
    in_request(|| {
        let filters = filters(context);
        let filter = current(&filters, Subject::Request);
        action(match filter {
            Some(filter) => filter.on_trailers(ProxyWasm),
            None if filters.as_deref().is_some_and(Filters::abstain) => FilterStatus::Continue,
            None => FilterStatus::StopIteration,
        })
    })
}

/// A connection was opened whose bytes pass unread.
// SAFETY: no other function has the name.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_new_connection(context: u32) -> u32 {
    in_request(|| {
        let filters = filters(context);
        let filter = current(&filters, Subject::Connection);
        action(match filter {
            Some(filter) => filter.on_stream(ProxyWasm).0,
            None => undecided(filters.as_deref(), Subject::Connection),
        })
    })
}

/// A request or connection has ended.
// SAFETY: no other function has the name.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_log(context: u32) {
    let stream = STREAMS.with_borrow_mut(|streams| {
        let stream = streams.get_mut(context)?;
        Some((stream.filters.clone(), stream.direction))
    });
    // Which filter it was can be a question to the host: not for nothing.
    if let Some((Some(filters), direction)) = stream
        && filters.measure_ends()
    {
        in_request(|| {
            if let Some(filter) = filters.current(ProxyWasm) {
                filter.on_end(ProxyWasm, direction);
            }
        });
    }
}

/// A plugin, request or connection is gone.
// SAFETY: no other function has the name.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_delete(context: u32) {
    if STREAMS.with_borrow_mut(|streams| streams.remove(context).is_none()) {
        plugins::forget(context);
    }
}

fn action(status: FilterStatus) -> u32 {
    match status {
        FilterStatus::Continue => CONTINUE,
        FilterStatus::StopIteration => PAUSE,
    }
}
