//! Ports that the kernel chooses before the program that will listen on them starts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::config::Address;

/// A port that stays ours: a socket bound with `SO_REUSEPORT` that never listens.
///
/// Programs of the same user may bind the port too if they set that option, as Envoy does by
/// default and NGINX by `reuseport`, and get every connection, since only listening sockets do.
/// Others, and the kernel's own choice for port 0, stay away.
#[derive(Debug)]
pub(super) struct Reservation {
    address: SocketAddr,
    _socket: Socket,
}

impl Reservation {
    /// Reserves a port of the kernel's choice on `ip`.
    pub(super) fn new(ip: impl Into<IpAddr>) -> anyhow::Result<Self> {
        let ip = ip.into();
        let reserve = || -> std::io::Result<Self> {
            let domain = Domain::for_address(SocketAddr::new(ip, 0));
            let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
            socket.set_reuse_port(true)?;
            socket.bind(&SocketAddr::new(ip, 0).into())?;
            let address = socket
                .local_addr()?
                .as_socket()
                .ok_or(std::io::ErrorKind::AddrNotAvailable)?;
            Ok(Self {
                address,
                _socket: socket,
            })
        };
        reserve().with_context(|| {
            format!(
                "cannot reserve a port on {ip}: the local topology needs Linux' loopback network"
            )
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Where one listener of an Envoy can be reached: every kind of source that a filter can see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doors {
    /// On the role's own address.
    pub v4: SocketAddr,
    /// On `::1`, or `None` where the machine has no IPv6.
    pub v6: Option<SocketAddr>,
    /// A unix socket in the abstract name space, as `@name`: its clients have no address.
    pub pipe: String,
}

impl Doors {
    /// Every address, the role's own first.
    pub(super) fn addresses(&self) -> Vec<Address> {
        let v6 = self.v6.map(Address::Socket);
        [Address::Socket(self.v4)]
            .into_iter()
            .chain(v6)
            .chain([Address::Pipe(self.pipe.clone())])
            .collect()
    }
}

/// The reservations behind [`Doors`].
#[derive(Debug, Default)]
pub(super) struct Ports {
    reservations: Vec<Reservation>,
}

impl Ports {
    /// Reserves the doors of a listener on `ip`.
    pub(super) fn doors(&mut self, ip: Ipv4Addr) -> anyhow::Result<Doors> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Ok(Doors {
            v4: self.port(ip)?,
            v6: self.port(Ipv6Addr::LOCALHOST).ok(),
            pipe: format!("@meridian-{}-{number}", std::process::id()),
        })
    }

    /// Reserves one port on `ip`.
    pub(super) fn port(&mut self, ip: impl Into<IpAddr>) -> anyhow::Result<SocketAddr> {
        let reservation = Reservation::new(ip)?;
        let address = reservation.address();
        self.reservations.push(reservation);
        Ok(address)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_reserved_port_serves_whoever_listens_with_reuse_port_and_nobody_else() {
        let reservation = Reservation::new(Ipv4Addr::LOCALHOST).unwrap();
        let address = reservation.address();
        assert!(TcpStream::connect(address).is_err(), "nobody listens yet");
        assert!(
            std::net::TcpListener::bind(address).is_err(),
            "without SO_REUSEPORT"
        );

        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.set_reuse_port(true).unwrap();
        listener.bind(&address.into()).unwrap();
        listener.listen(16).unwrap();
        for _ in 0..16 {
            TcpStream::connect(address).unwrap();
            listener.accept().unwrap();
        }
    }

    #[test]
    fn reservations_never_share_a_port() {
        let mut ports = Ports::default();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            assert!(seen.insert(ports.port(Ipv4Addr::new(127, 1, 0, 10)).unwrap()));
        }
    }
}
