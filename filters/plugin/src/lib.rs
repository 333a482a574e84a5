//! The policy on proxy-wasm: the only crate that touches the host.
//!
//! A module is one line, [`module!`], that says which vantage points it serves. Everything that
//! can be known before a request is done when the policy is loaded.

#![deny(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod connection;
mod counters;
mod ends;
mod evidence;
mod filter;
mod filter_state;
mod host;
mod http;
mod root;

pub use meridian_policy::Vantage;

/// Smaller and faster than the target's own allocator, which a module would carry otherwise.
#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ALLOCATOR: talc::wasm::WasmDynamicTalc = talc::wasm::new_wasm_dynamic_allocator();

/// Starts a module that serves these vantage points. Called by [`module!`].
pub fn start(vantages: &'static [Vantage]) {
    // Also installs the hook without which a panic's message is lost.
    proxy_wasm::set_log_level(proxy_wasm::types::LogLevel::Info);
    proxy_wasm::set_root_context(match vantages {
        [Vantage::Ingress] => |_| Box::new(root::Root::new(&[Vantage::Ingress])),
        [Vantage::Egress] => |_| Box::new(root::Root::new(&[Vantage::Egress])),
        _ => |_| Box::new(root::Root::new(&[Vantage::Inbound, Vantage::Outbound])),
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
