//! The policy on proxy-wasm: the only crate that touches the host.
//!
//! A module is one line, [`module!`], that says which vantage points it serves. Everything that
//! can be known before a request is done when the policy is loaded.

#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

#[cfg(target_arch = "wasm32")]
mod allocator;
mod counters;
mod dispatch;
mod ends;
mod evidence;
mod filter;
mod filter_state;
mod host;
mod root;
mod streams;

pub use meridian_policy::Vantage;

use root::Root;

/// Starts a module that serves these vantage points. Called by [`module!`].
pub fn start(vantages: &'static [Vantage]) {
    // Also installs the hook without which a panic's message is lost.
    proxy_wasm::set_log_level(proxy_wasm::types::LogLevel::Info);
    proxy_wasm::set_root_context(match vantages {
        [Vantage::Ingress] => |root| Box::new(Root::new(root, &[Vantage::Ingress])),
        [Vantage::Egress] => |root| Box::new(Root::new(root, &[Vantage::Egress])),
        _ => |root| Box::new(Root::new(root, &[Vantage::Inbound, Vantage::Outbound])),
    });
}

/// Makes the crate a module for the vantage points given: `[Ingress]`, `[Egress]` or
/// `[Inbound, Outbound]`.
#[macro_export]
macro_rules! module {
    ($($vantage:ident),+) => {
        /// Called by the host once a VM, before anything else.
        // SAFETY: the name is the ABI's, and no other function of the module has it.
        #[unsafe(no_mangle)]
        pub extern "C" fn _initialize() {
            $crate::start(&[$($crate::Vantage::$vantage),+]);
        }
    };
}
