//! The filter over a [`host`], and its proxy-wasm host.
//!
//! [`Filters::load`] turns a policy into filters, with everything done that can be known before a
//! request; [`Filter::on_stream`] decides on a request or connection and carries the decision out.
//! Both know the proxy only by the traits of [`host`], with static dispatch: `abi` has them over the
//! proxy-wasm ABI, and the tests over a fake. A module is one line, [`module!`], that says which
//! vantage points it serves.

#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

// The proxy-wasm ABI exists in modules alone; what of it needs no host is tested natively.
#[cfg(any(target_arch = "wasm32", test))]
mod abi;
mod answer;
mod attachment;
mod counters;
#[cfg(test)]
mod fake;
mod filter;
mod filter_state;
pub mod host;
mod host_evidence;
mod plugin;
mod protobuf;
mod response_metrics;

pub use meridian_policy::Vantage;

#[cfg(target_arch = "wasm32")]
pub use abi::start;
pub use answer::{FilterStatus, close, no_policy};
pub use filter::Filter;
pub use plugin::{Clock, Filters};
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub use proxy_wasm;

/// Makes the crate a module for the vantage points given: `[Ingress]`, `[Egress]` or
/// `[Inbound, Outbound]`.
#[macro_export]
macro_rules! module {
    ($($vantage:ident),+) => {
        #[cfg(target_arch = "wasm32")]
        mod module {
            // The host calls it once a VM, before anything else.
            $crate::proxy_wasm::main! {{
                $crate::start(&[$($crate::Vantage::$vantage),+])
            }}
        }
    };
}
