//! The yardstick of `meridian bench`: a filter written as the SDK's own examples are, which does
//! nothing, or the single steps that its configuration names. It decides nothing and never ships.
//!
//! The configuration is a list of words: `authority` (read `:authority`), `source` (read
//! `source.address`), `header` (replace one request header), `counter` (increment one).

use std::cell::Cell;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, BufferType, ContextType, LogLevel, MapType, MetricType};

/// Called by the host once a VM, before anything else.
// SAFETY: the name is the ABI's, and no other function of the module has it.
#[unsafe(no_mangle)]
pub extern "C" fn _initialize() {
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root::default()));
}

/// The steps of a request, in the order in which a filter takes them.
#[derive(Debug, Default, Clone, Copy)]
struct Steps {
    authority: bool,
    source: bool,
    header: bool,
    /// The counter's id.
    counter: Option<u32>,
}

#[derive(Default)]
struct Root {
    /// `None` for the filter that does nothing.
    steps: Cell<Option<Steps>>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        // Through `hostcalls`: `meridian build` strips the methods of the traits.
        let Ok(configuration) = hostcalls::get_buffer(BufferType::PluginConfiguration, 0, 1024)
        else {
            return false;
        };
        let configuration = configuration.unwrap_or_default();
        let mut steps = Steps::default();
        for word in configuration.split(|byte| *byte == b' ') {
            match word {
                b"" => continue,
                b"authority" => steps.authority = true,
                b"source" => steps.source = true,
                b"header" => steps.header = true,
                b"counter" => {
                    let name = "yardstick_requests";
                    match hostcalls::define_metric(MetricType::Counter, name) {
                        Ok(counter) => steps.counter = Some(counter),
                        Err(_) => return false,
                    }
                }
                _ => return false,
            }
            self.steps.set(Some(steps));
        }
        true
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(match self.steps.get() {
            None => Box::new(Nothing),
            Some(steps) => Box::new(steps),
        })
    }
}

/// The filter that does nothing.
struct Nothing;

impl Context for Nothing {}

impl HttpContext for Nothing {}

impl Context for Steps {}

impl HttpContext for Steps {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        match self.take() {
            Some(()) => Action::Continue,
            // A step that failed is not measured as one that worked: the request hangs.
            None => Action::Pause,
        }
    }
}

impl Steps {
    fn take(self) -> Option<()> {
        if self.authority {
            let map = MapType::HttpRequestHeaders;
            hostcalls::get_map_value_bytes(map, ":authority").ok()??;
        }
        if self.source {
            hostcalls::get_property(vec!["source", "address"]).ok()??;
        }
        if self.header {
            let map = MapType::HttpRequestHeaders;
            hostcalls::set_map_value(map, "x-traffic-direction", Some("north-south")).ok()?;
        }
        if let Some(counter) = self.counter {
            hostcalls::increment_metric(counter, 1).ok()?;
        }
        Some(())
    }
}
