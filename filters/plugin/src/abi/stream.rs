//! A request or connection: what the host asks of it.

use std::rc::Rc;

use meridian_policy::{Direction, Subject};
use proxy_wasm::traits::{Context, HttpContext, StreamContext};
use proxy_wasm::types::Action;

use super::calls::ProxyWasm;
use crate::answer::{FilterStatus, close, no_policy};
use crate::filter::Filter;
use crate::plugin::Filters;

/// A request or connection.
#[derive(Clone, Default)]
pub(super) struct Stream {
    /// `None` while the plugin has no policy.
    filters: Option<Rc<Filters>>,
    /// `None` until it is decided on, and where nothing is measured at its end.
    pub(super) direction: Option<Direction>,
}

impl Stream {
    /// One that is decided on with these.
    pub(super) fn new(filters: Option<Rc<Filters>>) -> Self {
        Self {
            filters,
            direction: None,
        }
    }

    /// The filter for it; `None` without a policy, at a sidecar's listener that is neither inbound nor
    /// outbound, and where an HTTP filter has the root id of a network filter, or the other way round.
    fn filter(&self, subject: Subject) -> Option<&Filter> {
        let filter = self.filters.as_ref()?.current(ProxyWasm)?;
        (filter.subject() == subject).then_some(filter)
    }

    /// What becomes of it where no filter decides.
    #[cold]
    #[inline(never)]
    fn undecided(&self, subject: Subject) -> FilterStatus {
        if let Some(filters) = &self.filters {
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
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        action(match self.filter(Subject::Request) {
            Some(filter) => {
                let (status, direction) = filter.on_stream(ProxyWasm);
                if filter.measures_ends() {
                    self.direction = Some(direction);
                }
                status
            }
            None => self.undecided(Subject::Request),
        })
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        action(match self.filter(Subject::Request) {
            Some(filter) => filter.on_trailers(ProxyWasm),
            None if self.filters.as_deref().is_some_and(Filters::abstain) => FilterStatus::Continue,
            None => FilterStatus::StopIteration,
        })
    }

    fn on_log(&mut self) {
        // Which filter it was can be a question to the host: not for nothing.
        if let Some(filters) = &self.filters
            && filters.measure_ends()
            && let Some(filter) = filters.current(ProxyWasm)
        {
            filter.on_end(ProxyWasm, self.direction);
        }
    }
}

impl StreamContext for Stream {
    fn on_new_connection(&mut self) -> Action {
        action(match self.filter(Subject::Connection) {
            Some(filter) => filter.on_stream(ProxyWasm).0,
            None => self.undecided(Subject::Connection),
        })
    }
}

fn action(status: FilterStatus) -> Action {
    match status {
        FilterStatus::Continue => Action::Continue,
        FilterStatus::StopIteration => Action::Pause,
    }
}
