//! The connection of the SDK.

use std::rc::Rc;

use proxy_wasm::traits::{Context, StreamContext};
use proxy_wasm::types::Action;

use crate::filter::{Filter, Outcome, close};
use crate::root::Filters;

/// One connection whose bytes pass unread.
pub(crate) struct Connection {
    pub(crate) filters: Option<Rc<Filters>>,
}

impl Context for Connection {}

impl StreamContext for Connection {
    fn on_new_connection(&mut self) -> Action {
        let filter = self.filters.as_ref().and_then(|filters| filters.current());
        match filter.map_or_else(close, Filter::on_connection) {
            Outcome::Continue => Action::Continue,
            Outcome::Refused => Action::Pause,
        }
    }
}
