use std::fmt;
use std::net::SocketAddr;

use serde_json::{Value, json};

/// Where a listener listens, or an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IP address and a port.
    Socket(SocketAddr),
    /// A host name, which Envoy resolves, and a port. For endpoints only.
    Name(String, u16),
    /// A unix socket: a path, or with a leading `@` a name in Linux' abstract name space.
    Pipe(String),
}

impl Address {
    /// Envoy's `core.v3.Address`.
    pub fn to_config(&self) -> Value {
        match self {
            Self::Socket(socket) => socket_address(&socket.ip().to_string(), socket.port()),
            Self::Name(name, port) => socket_address(name, *port),
            Self::Pipe(path) => json!({"pipe": {"path": path}}),
        }
    }
}

fn socket_address(address: &str, port: u16) -> Value {
    json!({"socket_address": {"address": address, "port_value": port}})
}

impl From<SocketAddr> for Address {
    fn from(socket: SocketAddr) -> Self {
        Self::Socket(socket)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(socket) => socket.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
            Self::Pipe(path) => f.write_str(path),
        }
    }
}
