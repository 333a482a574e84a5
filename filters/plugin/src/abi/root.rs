//! The root context: what the host asks of a plugin, beside its requests and connections.

use std::rc::Rc;

use meridian_policy::Vantage;
use proxy_wasm::traits::{Context, RootContext};

use super::calls::ProxyWasm;
use super::plugins::{self, Plugin};
use crate::plugin::{Clock, Filters};

/// Errors of a policy that go to the log; the rest is counted, for `meridian check` to list.
const LOGGED_ERRORS: usize = 20;

/// The root context.
pub(super) struct Root {
    vantages: &'static [Vantage],
    plugin: Rc<Plugin>,
    clock: Clock,
}

impl Root {
    /// The plugin of the root context `id`.
    pub(super) fn new(id: u32, vantages: &'static [Vantage]) -> Self {
        let plugin = Rc::new(Plugin::default());
        plugins::register(id, plugin.clone());
        Self {
            vantages,
            plugin,
            clock: Clock::default(),
        }
    }
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        match Filters::load(ProxyWasm, self.vantages, &self.clock) {
            Ok(filters) => {
                self.plugin.filters.replace(Some(Rc::new(filters)));
                true
            }
            Err(errors) => {
                for error in errors.iter().take(LOGGED_ERRORS) {
                    log::error!("the policy is refused: {error}");
                }
                if errors.len() > LOGGED_ERRORS {
                    let more = errors.len() - LOGGED_ERRORS;
                    log::error!(
                        "the policy is refused: {more} more errors; `meridian check` lists them all"
                    );
                }
                false
            }
        }
    }

    fn on_tick(&mut self) {
        self.clock.read(ProxyWasm);
    }
}
