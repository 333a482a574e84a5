//! Clients that send exactly the bytes that a test names.
//!
//! A client library would refuse or tidy most of what is worth sending: two Host headers, bytes
//! that are not UTF-8, an authority with a space. Nothing here checks or completes a request.

mod connect;
pub mod http1;
pub mod http2;
pub mod http3;
pub mod tls;

pub use connect::{Connection, Peer, connect};
pub use http2::{Progress, Session};
pub use meridian::lab::topology::Stream;
pub use meridian::lab::topology::raw::{Answer, Response};

use meridian::lab::topology::raw::MAX_RESPONSE;
