//! The project's networks, and the address of each part in them.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use anyhow::{Context, ensure};
use ipnet::{IpNet, Ipv4Net};

use crate::lab::topology::roles::{CONSOLE, ORDERS, SHOP, Workload};

/// The length of each network: 254 addresses.
const LENGTH: u8 = 24;

/// Networks for the outside that no cluster has: those that RFC 5737 keeps for documentation.
const OUTSIDE: [Ipv4Net; 3] = [
    Ipv4Net::new_assert(Ipv4Addr::new(192, 0, 2, 0), LENGTH),
    Ipv4Net::new_assert(Ipv4Addr::new(198, 51, 100, 0), LENGTH),
    Ipv4Net::new_assert(Ipv4Addr::new(203, 0, 113, 0), LENGTH),
];

/// The subnets of a project. Their first address is docker's bridge, which is what a client on the host
/// comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Networks {
    /// The mesh: within the policy's `mesh.cidrs`, and without a way out.
    pub inside: Ipv4Net,
    /// The outside: clients, servers, and the host.
    pub outside: Ipv4Net,
    /// Where Prometheus and Grafana are reached from the host, not within `mesh.cidrs` either.
    pub monitoring: Ipv4Net,
}

impl Networks {
    /// Subnets for a policy with these `mesh.cidrs`: the inside one is the third of 256 in the first
    /// IPv4 network of theirs that is large enough and not on the loopback interface.
    ///
    /// # Errors
    /// If `mesh.cidrs` has no such network, or covers all that could be outside.
    pub fn within(cidrs: &[IpNet]) -> anyhow::Result<Self> {
        let large = cidrs.iter().find_map(|cidr| match cidr {
            IpNet::V4(net) if net.prefix_len() <= LENGTH && !net.addr().is_loopback() => Some(*net),
            IpNet::V4(_) | IpNet::V6(_) => None,
        });
        let inside = large.and_then(|net| subnet(net, cidrs)).context(
            "mesh.cidrs: the network of the project's pods is a part of an IPv4 network of 256 \
                 addresses or more, not on the loopback interface; add one, such as 10.77.0.0/24",
        )?;
        let mut free = OUTSIDE
            .into_iter()
            .filter(|net| !cidrs.iter().any(|cidr| overlap(cidr, net)));
        let outside = free.next();
        let monitoring = free.next();
        let (Some(outside), Some(monitoring)) = (outside, monitoring) else {
            let names = OUTSIDE.map(|net| net.to_string()).join(", ");
            anyhow::bail!(
                "mesh.cidrs: two of {names} have to be outside; leave them out of the mesh's networks"
            );
        };
        Ok(Self {
            inside,
            outside,
            monitoring,
        })
    }

    /// The ingress gateway, in either network.
    pub fn ingress(net: Ipv4Net) -> Ipv4Addr {
        host(net, 10)
    }

    /// NGINX, in either network.
    pub fn nginx(net: Ipv4Net) -> Ipv4Addr {
        host(net, 11)
    }

    /// The egress gateway, in either network.
    pub fn egress(net: Ipv4Net) -> Ipv4Addr {
        host(net, 20)
    }

    /// Prometheus, in the inside and the monitoring network.
    pub fn prometheus(net: Ipv4Net) -> Ipv4Addr {
        host(net, 40)
    }

    /// Whoever sends the sample traffic, in either network.
    pub fn client(net: Ipv4Net) -> Ipv4Addr {
        host(net, 50)
    }

    /// The pod of a workload, which it shares with its sidecar.
    pub fn pod(&self, workload: &Workload) -> Ipv4Addr {
        let number = [SHOP, ORDERS, CONSOLE]
            .iter()
            .position(|other| other.name == workload.name);
        host(self.inside, 31 + number.unwrap_or_default() as u32)
    }

    /// The server outside with this number.
    pub fn server(&self, number: usize) -> Ipv4Addr {
        host(self.outside, 101 + number as u32)
    }
}

/// `INSIDE,OUTSIDE,MONITORING`, as the services of a project are told.
impl FromStr for Networks {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let nets: Vec<Ipv4Net> = text
            .split(',')
            .map(|net| {
                net.parse()
                    .with_context(|| format!("`{net}` is no IPv4 network such as 10.77.0.0/24"))
            })
            .collect::<anyhow::Result<_>>()?;
        let [inside, outside, monitoring] = nets[..] else {
            anyhow::bail!("three networks are needed: INSIDE,OUTSIDE,MONITORING");
        };
        for net in [inside, outside, monitoring] {
            ensure!(net.prefix_len() == LENGTH, "`{net}` has to be a /{LENGTH}");
        }
        Ok(Self {
            inside,
            outside,
            monitoring,
        })
    }
}

impl std::fmt::Display for Networks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{},{},{}", self.inside, self.outside, self.monitoring)
    }
}

fn host(net: Ipv4Net, number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(net.network()) + number)
}

/// A /24 of `net`, where it is larger not the first, which belongs to somebody more often than others.
fn subnet(net: Ipv4Net, cidrs: &[IpNet]) -> Option<Ipv4Net> {
    let wanted = u32::from(net.network()) + (77 << 8);
    let candidate = Ipv4Net::new(Ipv4Addr::from(wanted), LENGTH).ok();
    candidate
        .filter(|candidate| net.contains(candidate))
        .or_else(|| net.subnets(LENGTH).ok()?.next())
        .filter(|subnet| {
            cidrs
                .iter()
                .any(|cidr| cidr.contains(&IpAddr::V4(subnet.network())))
        })
}

fn overlap(cidr: &IpNet, net: &Ipv4Net) -> bool {
    let net = IpNet::V4(*net);
    cidr.contains(&net) || net.contains(cidr)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(cidrs: &[&str]) -> anyhow::Result<Networks> {
        let cidrs: Vec<IpNet> = cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect();
        Networks::within(&cidrs)
    }

    #[test]
    fn the_inside_lies_in_the_mesh_and_the_outside_does_not() {
        for (cidrs, inside, outside) in [
            (&["10.0.0.0/8"][..], "10.0.77.0/24", "192.0.2.0/24"),
            (
                &["127.1.0.0/16", "172.20.4.0/24"],
                "172.20.4.0/24",
                "192.0.2.0/24",
            ),
            (
                &["fd00::/8", "192.0.0.0/16"],
                "192.0.77.0/24",
                "198.51.100.0/24",
            ),
        ] {
            let networks = within(cidrs).unwrap();
            assert_eq!(networks.inside.to_string(), inside, "{cidrs:?}");
            assert_eq!(networks.outside.to_string(), outside, "{cidrs:?}");
            assert_eq!(networks.to_string().parse::<Networks>().unwrap(), networks);
        }
    }

    #[test]
    fn a_mesh_without_room_is_told_what_to_add() {
        for cidrs in [&[][..], &["127.1.0.0/16"], &["10.1.2.0/25"], &["fd00::/8"]] {
            let error = within(cidrs).unwrap_err().to_string();
            assert!(error.contains("add one, such as 10.77.0.0/24"), "{error}");
        }
        let error = within(&["0.0.0.0/0"]).unwrap_err().to_string();
        assert!(error.contains("192.0.2.0/24"), "{error}");
    }
}
