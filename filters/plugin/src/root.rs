//! The plugin: loads the policy, or refuses it with every error's place in the log.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use meridian_policy::{Date, Policy, Subject, Vantage};
use proxy_wasm::traits::{Context, RootContext};

use crate::dispatch;
use crate::evidence::text;
use crate::filter::Filter;
use crate::filter_state;
use crate::host::{self, Refused};

/// Errors of a policy that go to the log; the rest is counted, for `meridian check` to list.
const LOGGED_ERRORS: usize = 20;

/// How often the day is read: a rule ends at most so long after its last day. A tick costs a host call
/// a worker, and a clock that is set (by NTP, or by hand) is noticed, which no timer to midnight would do.
const TICK_MILLISECONDS: u32 = 60_000;

/// The filters of a plugin, one for each vantage point that it serves.
pub(crate) struct Filters(Vec<Filter>);

impl Filters {
    /// True if anything is measured when a request has ended.
    pub(crate) fn measure_ends(&self) -> bool {
        // They share the policy.
        let filter = self.0.first();
        filter.is_some_and(|filter| filter.policy.metrics.any())
    }

    /// The filter for the listener of the current request.
    pub(crate) fn current(&self) -> Option<&Filter> {
        if let [filter] = self.0.as_slice() {
            return Some(filter);
        }
        let vantage = listener_vantage()?;
        self.0.iter().find(|filter| filter.vantage == vantage)
    }
}

/// The vantage point of a sidecar's listener, from envoy.config.core.v3.TrafficDirection.
fn listener_vantage() -> Option<Vantage> {
    let direction = host::property("xds\0listener_direction")?;
    match i64::from_le_bytes(direction.try_into().ok()?) {
        1 => Some(Vantage::Inbound),
        2 => Some(Vantage::Outbound),
        _ => None,
    }
}

/// What requests and connections need of their plugin.
pub(crate) struct Plugin {
    /// `None` without a policy.
    pub(crate) filters: RefCell<Option<Rc<Filters>>>,
}

/// The root context.
pub(crate) struct Root {
    vantages: &'static [Vantage],
    plugin: Rc<Plugin>,
    /// The day, for rules that expire; read on a tick, never in a request.
    today: Rc<Cell<Option<Date>>>,
}

impl Root {
    /// The plugin of the root context `id`.
    pub(crate) fn new(id: u32, vantages: &'static [Vantage]) -> Self {
        let plugin = Rc::new(Plugin {
            filters: RefCell::new(None),
        });
        dispatch::register(id, plugin.clone());
        Self {
            vantages,
            plugin,
            today: Rc::default(),
        }
    }

    /// Reads the clock. Without it a rule that expires neither allows nor stops denying.
    fn read_clock(&self) {
        let now = host::unix_seconds();
        if let Err(Refused(status)) = now {
            log::error!("the time is not known: the host answered {status}");
        }
        self.today.set(now.ok().map(Date::from_unix_seconds));
    }

    fn load(&mut self) -> Result<Filters, Vec<String>> {
        let configuration = host::plugin_configuration();
        let revision = meridian_policy::revision(&configuration);
        let policy = Policy::from_json(configuration)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let policy = Rc::new(policy);
        if policy.has_expiring_rules() {
            self.read_clock();
            let ticking = host::tick_every(TICK_MILLISECONDS);
            refused(ticking, "the clock does not tick")?;
        }
        let namespace = text("xds\0node\0metadata\0NAMESPACE");
        // A root id that names a vantage point spares a sidecar the question at every request.
        let root_id = text("plugin_root_id").unwrap_or_default();
        let mut subject = Subject::Request;
        let root_id = match root_id.strip_suffix(".tcp") {
            Some(vantage) => {
                subject = Subject::Connection;
                vantage
            }
            None => &root_id,
        };
        let named = self
            .vantages
            .iter()
            .find(|vantage| vantage.as_str() == root_id);
        let is_gateway = named.is_some() && self.vantages.len() == 1;
        if subject == Subject::Connection && !is_gateway {
            return Err(vec![
                "the plugin's root id asks for a network filter that this module is not; write \
                 `ingress.tcp` or `egress.tcp` with the gateway's module"
                    .to_owned(),
            ]);
        }
        let vantages = named.map_or(self.vantages, std::slice::from_ref);
        if policy.metrics.any() && subject == Subject::Request && !host::exports_on_log() {
            return Err(vec![
                "metrics: a lean module measures nothing; take the one without `_lean`".to_owned(),
            ]);
        }
        if policy.tags.filter_state {
            refused(filter_state::declare(), "the filter state was not declared")?;
        }
        let mut filters = Vec::new();
        for vantage in vantages {
            let filter = Filter::new(
                policy.clone(),
                *vantage,
                subject,
                namespace.clone(),
                self.today.clone(),
            );
            filters.push(refused(filter, "a metric was not defined")?);
        }
        // Last: a policy that is refused is not in force.
        for filter in &filters {
            refused(filter.tell_policy(revision), "a metric was not set")?;
        }
        Ok(Filters(filters))
    }
}

/// The error of a policy that was refused because the host did not do its part.
fn refused<T>(answer: Result<T, Refused>, what: &str) -> Result<T, Vec<String>> {
    answer.map_err(|Refused(status)| vec![format!("{what}: the host answered {status}")])
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        match self.load() {
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
        self.read_clock();
    }
}
