//! Whether a plain pattern matches, by string and bit operations.

use std::net::IpAddr;

use crate::world::{PlainHost, PlainHosts, PlainPattern};

/// Istio's wildcards: `*` alone, first or last.
pub fn is_like(pattern: &str, text: &str) -> bool {
    if let Some(end) = pattern.strip_prefix('*') {
        text.ends_with(end)
    } else if let Some(start) = pattern.strip_suffix('*') {
        text.starts_with(start)
    } else {
        pattern == text
    }
}

pub fn any_matches(list: &[PlainHosts], host: &PlainHost, port: u16) -> bool {
    list.iter().any(|hosts| matches(hosts, host, port))
}

pub fn matches(hosts: &PlainHosts, host: &PlainHost, port: u16) -> bool {
    let is_host = match (&hosts.pattern, host) {
        (PlainPattern::Any, _) => true,
        (PlainPattern::Exact(exact), PlainHost::Name(name)) => exact == name,
        (PlainPattern::Below(suffix), PlainHost::Name(name)) => {
            name.ends_with(&format!(".{suffix}"))
        }
        (PlainPattern::Network(address, prefix), PlainHost::Address(asked)) => {
            is_in(*asked, (*address, *prefix))
        }
        _ => false,
    };
    is_host && hosts.port.is_none_or(|only| only == port)
}

/// More is more specific. Names and addresses never meet but under `*`.
pub fn specificity(pattern: &PlainPattern) -> usize {
    match pattern {
        PlainPattern::Any => 0,
        PlainPattern::Exact(_) => 1000,
        PlainPattern::Below(suffix) => suffix.len(),
        PlainPattern::Network(_, prefix) => 1 + usize::from(*prefix),
    }
}

pub fn is_in(address: IpAddr, (network, prefix): (IpAddr, u8)) -> bool {
    // An IPv4 address arrives mapped into IPv6 on a dual-stack socket.
    let address = match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    };
    let (address, network, width) = match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => (
            u128::from(u32::from(address)),
            u128::from(u32::from(network)),
            32,
        ),
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            (u128::from(address), u128::from(network), 128)
        }
        _ => return false,
    };
    let behind = width - u32::from(prefix);
    prefix == 0 || address >> behind == network >> behind
}
