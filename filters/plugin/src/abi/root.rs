//! A plugin: what the host asks of it, beside its requests and connections.

use std::rc::Rc;

use meridian_policy::Vantage;
use proxy_wasm::traits::{Context, RootContext};

use super::calls::ProxyWasm;
use crate::plugin::{Clock, Filters};

/// Errors of a policy that go to the log; the rest is counted, for `meridian check` to list.
const LOGGED_ERRORS: usize = 20;

/// A plugin.
pub(super) struct Root {
    vantages: &'static [Vantage],
    /// `None` without a policy.
    filters: Option<Rc<Filters>>,
    clock: Clock,
}

impl Root {
    /// A plugin of a module for these vantage points, without a policy so far.
    pub(super) fn new(vantages: &'static [Vantage]) -> Self {
        Self {
            vantages,
            filters: None,
            clock: Clock::default(),
        }
    }

    /// What its requests and connections are decided with.
    pub(super) fn filters(&self) -> Option<Rc<Filters>> {
        self.filters.clone()
    }
}

impl Context for Root {}

impl RootContext for Root {
    /// Loads the policy that the host has for it; false if that is refused, which the log then says.
    fn on_configure(&mut self, _: usize) -> bool {
        match Filters::load(ProxyWasm, self.vantages, &self.clock) {
            Ok(filters) => {
                self.filters = Some(Rc::new(filters));
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

    /// Reads the day, for rules that expire.
    fn on_tick(&mut self) {
        self.clock.read(ProxyWasm);
    }
}
