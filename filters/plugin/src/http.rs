//! The HTTP stream of the SDK.

use std::rc::Rc;

use meridian_policy::Direction;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use crate::filter::{Filter, Outcome, reply};
use crate::host::GrpcStatus;
use crate::root::Filters;

/// One request.
pub(crate) struct Stream {
    pub(crate) filters: Option<Rc<Filters>>,
    /// `None` until it is decided over.
    pub(crate) direction: Option<Direction>,
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let filter = self.filters.as_ref().and_then(|filters| filters.current());
        let outcome = match filter {
            Some(filter) => {
                let (outcome, direction) = filter.on_request();
                self.direction = Some(direction);
                outcome
            }
            // Without a policy, or at a listener that is neither inbound nor outbound.
            None => reply(
                503,
                GrpcStatus::Unavailable,
                "meridian_no_policy",
                "no policy\n",
            ),
        };
        match outcome {
            Outcome::Continue => Action::Continue,
            Outcome::Refused => Action::Pause,
        }
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        let filter = self.filters.as_ref().and_then(|filters| filters.current());
        match filter.map_or(Outcome::Refused, Filter::on_trailers) {
            Outcome::Continue => Action::Continue,
            Outcome::Refused => Action::Pause,
        }
    }

    fn on_log(&mut self) {
        // Which filter it was can be a question to the host: not for nothing.
        if let Some(filters) = &self.filters
            && filters.measure_ends()
            && let Some(filter) = filters.current()
        {
            filter.on_end(self.direction);
        }
    }
}
