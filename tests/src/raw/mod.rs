//! Clients that send exactly the bytes that a test names.
//!
//! A client library would refuse or tidy most of what is worth sending: two Host headers, bytes
//! that are not UTF-8, an authority with a space. Nothing here checks or completes a request.

mod connect;
pub mod http1;
pub mod http2;
pub mod http3;
pub mod session;
pub mod tls;

pub use connect::{Connection, Peer, Stream, connect};
pub use session::{Progress, Session};

/// No response of a test is longer, in bytes.
const MAX_RESPONSE: usize = 1 << 20;

/// A response as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The headers in their order, names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body; empty where a tunnel begins.
    pub body: Vec<u8>,
}

impl Response {
    /// The first value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_slice())
    }
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A response.
    Response(Response),
    /// None: the peer reset the stream or gave the connection up; says how.
    Reset(String),
}
