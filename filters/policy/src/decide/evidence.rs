//! What a decision may ask about a request or connection.

use std::net::IpAddr;

use crate::{Date, Principal};

/// The evidence of one request or connection. A decision asks only for what it needs, each piece at
/// most once, because inside a proxy every answer is a crossing of the sandbox.
pub trait Evidence {
    /// The authority as the client wrote it; empty when there is none.
    fn authority(&mut self) -> Vec<u8>;
    /// The client's address; `None` for a Unix socket.
    fn source(&mut self) -> Option<IpAddr>;
    /// The address and port that the client dialled, port 0 where it is not known. For a connection
    /// that is not HTTP `None` too where that is, or may be, the proxy's own: then it does not say
    /// where the connection is to go.
    fn destination(&mut self) -> Option<(IpAddr, u16)>;
    /// The identity in the peer's certificate, where mutual TLS ends here.
    fn peer(&mut self) -> Option<Principal>;
    /// The server name of a TLS connection: of one that ends here, or passes through.
    fn sni(&mut self) -> Option<Vec<u8>>;
    /// True if a TLS connection ends here.
    fn is_tls(&mut self) -> bool;
    /// The cluster of the route.
    fn cluster(&mut self) -> Option<String>;
    /// The value of the direction's tag header as it arrived.
    fn tag(&mut self) -> Option<Vec<u8>>;
    /// True if the request carries `x-forwarded-for`.
    fn is_forwarded(&mut self) -> bool;
    /// The day, in UTC.
    fn today(&self) -> Option<Date>;
    /// The namespace of the workload that the proxy serves.
    fn namespace(&self) -> Option<&str>;
    /// Whether the proxy is one of these gateways; `None` where it is not known which one it is. A
    /// filter is never asked: it has the rules of its own gateway, and they name none.
    fn is_gateway(&self, names: &[Box<str>]) -> Option<bool>;
}

/// Evidence that is known beforehand: the command line's and the tests' requests.
#[derive(Debug, Clone, Default)]
pub struct Request<'r> {
    /// See [`Evidence::authority`].
    pub authority: &'r [u8],
    /// See [`Evidence::source`].
    pub source: Option<IpAddr>,
    /// See [`Evidence::destination`].
    pub destination: Option<IpAddr>,
    /// The port of the destination, see [`Evidence::destination`].
    pub destination_port: Option<u16>,
    /// See [`Evidence::peer`].
    pub peer: Option<Principal>,
    /// See [`Evidence::sni`].
    pub sni: Option<&'r [u8]>,
    /// See [`Evidence::is_tls`].
    pub tls: bool,
    /// See [`Evidence::cluster`].
    pub cluster: Option<&'r str>,
    /// See [`Evidence::tag`].
    pub tag: Option<&'r [u8]>,
    /// See [`Evidence::is_forwarded`].
    pub forwarded: bool,
    /// See [`Evidence::today`].
    pub today: Option<Date>,
    /// See [`Evidence::namespace`].
    pub namespace: Option<&'r str>,
    /// The name of the gateway, see [`Evidence::is_gateway`].
    pub gateway: Option<&'r str>,
}

impl<'r> Request<'r> {
    /// A request of which only the authority is known.
    pub fn new(authority: &'r [u8]) -> Self {
        Self {
            authority,
            ..Self::default()
        }
    }
}

impl Evidence for Request<'_> {
    fn authority(&mut self) -> Vec<u8> {
        self.authority.to_vec()
    }
    fn source(&mut self) -> Option<IpAddr> {
        self.source
    }
    fn destination(&mut self) -> Option<(IpAddr, u16)> {
        Some((self.destination?, self.destination_port.unwrap_or(0)))
    }
    fn peer(&mut self) -> Option<Principal> {
        self.peer.clone()
    }
    fn sni(&mut self) -> Option<Vec<u8>> {
        self.sni.map(<[u8]>::to_vec)
    }
    fn is_tls(&mut self) -> bool {
        self.tls
    }
    fn cluster(&mut self) -> Option<String> {
        self.cluster.map(str::to_owned)
    }
    fn tag(&mut self) -> Option<Vec<u8>> {
        self.tag.map(<[u8]>::to_vec)
    }
    fn is_forwarded(&mut self) -> bool {
        self.forwarded
    }
    fn today(&self) -> Option<Date> {
        self.today
    }
    fn namespace(&self) -> Option<&str> {
        self.namespace
    }
    fn is_gateway(&self, names: &[Box<str>]) -> Option<bool> {
        let gateway = self.gateway?;
        Some(names.iter().any(|name| **name == *gateway))
    }
}
