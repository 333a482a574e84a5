//! The proxy-wasm ABI: callbacks of the host, and calls to it. The only code that touches either.

#[cfg(target_arch = "wasm32")]
mod allocator;
#[cfg(target_arch = "wasm32")]
mod calls;
#[cfg(target_arch = "wasm32")]
mod dispatch;
#[cfg(target_arch = "wasm32")]
mod plugins;
mod pool;
#[cfg(target_arch = "wasm32")]
mod root;
#[cfg(target_arch = "wasm32")]
mod stream;
mod streams;

#[cfg(target_arch = "wasm32")]
use meridian_policy::Vantage;
#[cfg(target_arch = "wasm32")]
use proxy_wasm::types::LogLevel;

/// Starts a module that serves these vantage points. Called by [`crate::module!`].
#[cfg(target_arch = "wasm32")]
pub fn start(vantages: &'static [Vantage]) {
    // Also installs the hook without which a panic's message is lost.
    proxy_wasm::set_log_level(LogLevel::Info);
    plugins::serve(vantages);
}
