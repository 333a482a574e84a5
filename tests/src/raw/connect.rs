//! Connections from a chosen source address, or over a Unix socket.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context;
use tokio::net::{TcpSocket, UnixStream};

use super::Stream;

/// Whom to connect to, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP, from the address `source`.
    Tcp {
        /// The server.
        server: SocketAddr,
        /// The client's address; it must be one of this machine's, as all of 127.0.0.0/8 are.
        source: IpAddr,
    },
    /// Over a Unix socket: neither side has an address.
    Unix(PathBuf),
}

/// An open connection.
pub struct Connection {
    /// Its bytes.
    pub stream: Box<dyn Stream>,
    /// The client's end; `None` for a Unix socket.
    pub local: Option<SocketAddr>,
}

/// Connects.
///
/// # Errors
/// If the source address is not one of this machine's, or nothing listens there.
pub async fn connect(peer: &Peer) -> anyhow::Result<Connection> {
    match peer {
        Peer::Tcp { server, source } => {
            let open = || async {
                let socket = match source {
                    IpAddr::V4(_) => TcpSocket::new_v4()?,
                    IpAddr::V6(_) => TcpSocket::new_v6()?,
                };
                socket.bind(SocketAddr::new(*source, 0))?;
                socket.connect(*server).await
            };
            let stream = open()
                .await
                .with_context(|| format!("cannot connect from {source} to {server}"))?;
            stream.set_nodelay(true)?;
            Ok(Connection {
                local: Some(stream.local_addr()?),
                stream: Box::new(stream),
            })
        }
        Peer::Unix(path) => {
            let stream = UnixStream::connect(path)
                .await
                .with_context(|| format!("cannot connect to {}", path.display()))?;
            Ok(Connection {
                stream: Box::new(stream),
                local: None,
            })
        }
    }
}
