//! Istio's spellings: names of clusters, server names between proxies, services of gateways.

use crate::host::parse_port;
use crate::{Authority, Host, InvalidHost, Name, Pattern, Principal};

/// What the name of a route's cluster says of where the route leads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cluster {
    /// `PassthroughCluster`: to the address that the client dialled.
    Passthrough,
    /// `outbound|PORT|SUBSET|HOST`: to a service of Istio's registry.
    Outbound { host: Host, port: u16 },
    /// A name that says nothing.
    Other,
}

impl Cluster {
    /// Reads the name of a cluster. That of a wildcard ServiceEntry, `*.example.com`, stands for a
    /// host below its name.
    pub(crate) fn parse(name: String) -> Self {
        if name == "PassthroughCluster" {
            return Self::Passthrough;
        }
        match outbound(name) {
            Some((host, port)) => Self::Outbound { host, port },
            None => Self::Other,
        }
    }
}

fn outbound(cluster: String) -> Option<(Host, u16)> {
    let mut parts = cluster.strip_prefix("outbound|")?.split('|');
    let (port, _subset, host) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let port = port.parse().ok()?;
    let before = cluster.len() - host.len();
    let mut host = cluster.into_bytes();
    host.drain(..before);
    if let [any @ b'*', b'.', ..] = host.as_mut_slice() {
        // The label is arbitrary; hardly a real host has this one.
        *any = b'_';
    }
    Some((Authority::from_bytes(host).ok()?.host, port))
}

/// The host of a server name, and its port where it has Istio's form
/// `outbound_.PORT_.SUBSET_.HOST`, in which proxies of a mesh name a service to each other.
///
/// # Errors
/// [`InvalidHost`]; such a connection is refused whatever the rules say.
pub fn server_name(sni: &[u8]) -> Result<Authority, InvalidHost> {
    if sni.contains(&b':') {
        return Err(InvalidHost::Byte(b':'));
    }
    let authority = Authority::parse(sni)?;
    let Host::Name(name) = &authority.host else {
        return Err(InvalidHost::Address);
    };
    let Some(istio) = name.as_str().strip_prefix("outbound_.") else {
        return Ok(authority);
    };
    // What only looks like it is no name that anybody has: `_` ends no label of a host.
    let mut labels = istio.splitn(3, '.');
    let mut part = || labels.next()?.strip_suffix('_');
    let (Some(port), Some(_subset), Some(host)) = (part(), part(), labels.next()) else {
        return Err(InvalidHost::Port);
    };
    Ok(Authority {
        port: Some(parse_port(port)?.ok_or(InvalidHost::Port)?),
        ..Authority::parse(host.as_bytes())?
    })
}

/// `NAME.NAMESPACE.svc.DOMAIN`, after Istio's convention that a gateway's account is named after
/// its service, with or without `-service-account`.
pub(crate) fn gateway_service(principal: &Principal, domain: &Name) -> Option<Pattern> {
    let account = principal.service_account();
    let service = account.strip_suffix("-service-account").unwrap_or(account);
    Pattern::parse(&format!(
        "{service}.{}.svc.{}",
        principal.namespace(),
        domain.as_str()
    ))
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_names_are_names() {
        let canonical = |sni: &str| server_name(sni.as_bytes()).map(|name| name.to_string());
        for (sni, expected) in [
            ("Shop.Example.COM", "shop.example.com"),
            ("shop.example.com.", "shop.example.com"),
            ("outbound_.443_._.api.example.com", "api.example.com:443"),
            (
                "OUTBOUND_.8443_.v1_.a.b.svc.cluster.local.",
                "a.b.svc.cluster.local:8443",
            ),
        ] {
            assert_eq!(canonical(sni).as_deref(), Ok(expected), "{sni}");
        }
        for (sni, reason) in [
            ("1.2.3.4", InvalidHost::Address),
            ("0x7f.1", InvalidHost::Address),
            ("[::1]", InvalidHost::Byte(b':')),
            ("::1", InvalidHost::Byte(b':')),
            ("shop.example.com:443", InvalidHost::Byte(b':')),
            ("shop.example.com:", InvalidHost::Byte(b':')),
            ("*.example.com", InvalidHost::Byte(b'*')),
            ("shop\0.example.com", InvalidHost::Byte(0)),
            ("sh\u{f6}p.example", InvalidHost::Byte(0xc3)),
            ("", InvalidHost::Empty),
            (".", InvalidHost::Empty),
            ("a..b", InvalidHost::EmptyLabel),
            ("outbound_.x", InvalidHost::Port),
            ("outbound_.443_.api.example.com", InvalidHost::Port),
            ("outbound_.0_._.api.example.com", InvalidHost::Port),
            ("outbound_.65536_._.api.example.com", InvalidHost::Port),
            ("outbound_._._.api.example.com", InvalidHost::Port),
            ("outbound_.443_._.1.2.3.4", InvalidHost::Ipv4),
        ] {
            assert_eq!(canonical(sni), Err(reason), "{sni}");
        }
    }

    #[test]
    fn only_whole_istio_clusters_name_a_host() {
        let parse = |name: &str| Cluster::parse(name.to_owned());
        for (name, host, port) in [
            ("outbound|443||api.example.com", "api.example.com", 443),
            (
                "outbound|80|v1|a.b.svc.cluster.local",
                "a.b.svc.cluster.local",
                80,
            ),
            ("outbound|80||*.example.com", "_.example.com", 80),
            ("outbound|80||203.0.113.7", "203.0.113.7", 80),
        ] {
            let host = Authority::parse(host.as_bytes()).unwrap().host;
            assert_eq!(parse(name), Cluster::Outbound { host, port }, "{name}");
        }
        assert_eq!(parse("PassthroughCluster"), Cluster::Passthrough);
        for name in [
            "",
            "BlackHoleCluster",
            "inbound|80||",
            "outbound|80||",
            "outbound|x||a.b",
            "outbound|80||a|b",
        ] {
            assert_eq!(parse(name), Cluster::Other, "{name}");
        }
    }
}
