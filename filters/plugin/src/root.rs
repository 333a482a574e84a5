//! The plugin: loads the policy, or refuses it with every error's place in the log.

use std::rc::Rc;

use meridian_policy::{Policy, Vantage};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

use crate::evidence::text;
use crate::filter::Filter;
use crate::host::{self, Refused};
use crate::http::Stream;

/// Errors of a policy that go to the log; the rest is counted, for `meridian check` to list.
const LOGGED_ERRORS: usize = 20;

/// The filters of a plugin, one for each vantage point that it serves.
pub(crate) struct Filters(Vec<Filter>);

impl Filters {
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

/// The root context.
pub(crate) struct Root {
    vantages: &'static [Vantage],
    filters: Option<Rc<Filters>>,
}

impl Root {
    pub(crate) fn new(vantages: &'static [Vantage]) -> Self {
        Self {
            vantages,
            filters: None,
        }
    }

    fn load(&self) -> Result<Filters, Vec<String>> {
        let configuration = host::plugin_configuration();
        if configuration.is_empty() {
            return Err(vec![
                "the plugin has no configuration; give it the policy as JSON".to_owned(),
            ]);
        }
        let policy = Policy::from_json(&configuration)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        drop(configuration);
        let policy = Rc::new(policy);
        let namespace = text("xds\0node\0metadata\0NAMESPACE");
        // A root id that names a vantage point spares a sidecar the question at every request.
        let root_id = text("plugin_root_id").unwrap_or_default();
        let named = self
            .vantages
            .iter()
            .find(|vantage| vantage.as_str() == root_id);
        let vantages = named.map_or(self.vantages, std::slice::from_ref);
        let filters = vantages.iter().map(|vantage| {
            Filter::new(policy.clone(), *vantage, namespace.clone()).map_err(|Refused(status)| {
                vec![format!(
                    "a metric was not defined: the host answered {status}"
                )]
            })
        });
        filters.collect::<Result<_, _>>().map(Filters)
    }
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        match self.load() {
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

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream {
            filters: self.filters.clone(),
        }))
    }
}
