//! Host patterns: what a rule's `hosts` and `notHosts`, `mesh.hosts` and `components.system.hosts` hold.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::quoted::Quoted;
use crate::{Authority, Host, Name};

/// A host pattern, with the port that it is limited to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// Which hosts.
    pub host: HostPattern,
    /// The only port; `None` is any.
    pub port: Option<u16>,
}

/// Which hosts a pattern matches.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "lives on the stack while a policy is read"
)]
pub enum HostPattern {
    /// `*`: every host, addresses included.
    Any,
    /// `shop.example.com`: this name.
    Exact(Name),
    /// `*.example.com`, stored as `example.com`: every name at least one label below, not the name itself.
    Suffix(Name),
    /// `10.0.0.0/8` or `10.1.2.3`: address literals in this network; a single address is a network of full length.
    Network(IpNet),
}

/// The canonical text, which [`Pattern::parse`] reads as this pattern again: a single address is a
/// network of full length.
impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(name) => f.write_str(name.as_str()),
            Self::Suffix(name) => write!(f, "*.{}", name.as_str()),
            Self::Network(network) => network.fmt(f),
        }
    }
}

/// Why a text is not a pattern, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternError {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: String,
}

impl PatternError {
    fn new(text: &str, message: &str, hint: &str) -> Self {
        Self {
            message: format!("{} {message}", Quoted(text)),
            hint: hint.to_owned(),
        }
    }
}

impl Pattern {
    /// Reads a pattern; case, a trailing dot and address spellings are normalised as in [`Authority::parse`].
    ///
    /// # Errors
    /// When it is not a pattern. A name in Unicode is one of these errors: the conversion to
    /// A-labels needs tables that only the command line carries.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if !text.is_ascii() {
            return Err(PatternError::new(
                text,
                "is not ASCII",
                "write the A-label form (xn--…); `meridian render` and `meridian check` convert it",
            ));
        }
        if text
            .split(':')
            .nth(1)
            .is_some_and(|rest| rest.starts_with("//"))
        {
            return Err(PatternError::new(
                text,
                "is a URL",
                "write the host alone, with :port if the rule is for one port",
            ));
        }
        if text.contains('/') {
            return Ok(Self {
                host: HostPattern::Network(parse_network(text)?),
                port: None,
            });
        }
        if text == "*" {
            return Ok(Self {
                host: HostPattern::Any,
                port: None,
            });
        }
        if let Some(port) = text.strip_prefix("*:") {
            // Any name will do to have the port read by the one function that reads ports.
            let port = parse_authority(&format!("any:{port}"), text)?.port;
            return Ok(Self {
                host: HostPattern::Any,
                port,
            });
        }
        if let Some(suffix) = text.strip_prefix("*.") {
            let Authority { host, port } = parse_authority(suffix, text)?;
            return match host {
                Host::Name(name) => Ok(Self {
                    host: HostPattern::Suffix(name),
                    port,
                }),
                Host::Address(_) => Err(PatternError::new(
                    text,
                    "is a wildcard over an address",
                    "write a network, such as 10.0.0.0/8",
                )),
            };
        }
        if text.contains('*') {
            return Err(PatternError::new(
                text,
                "has a `*` that is not a whole first label",
                "write `*.example.com` for every name below example.com, or `*` for every host",
            ));
        }
        let Authority { host, port } = parse_authority(text, text)?;
        let host = match host {
            Host::Name(name) => HostPattern::Exact(name),
            Host::Address(address) => HostPattern::Network(address.into()),
        };
        Ok(Self { host, port })
    }
}

fn parse_authority(text: &str, whole: &str) -> Result<Authority, PatternError> {
    Authority::parse(text.as_bytes()).map_err(|reason| {
        PatternError::new(whole, &format!("is not a host: {reason}"),
            "write a name, `*.name`, `*`, an address or a network, with :port if it is for one port; an IPv6 address goes in brackets",
        )
    })
}

/// Reads a network such as `10.0.0.0/8`, or a single address.
///
/// # Errors
/// When it is neither, when bits are set behind the prefix, and for a network of IPv4-mapped IPv6
/// addresses, which could never match: such addresses are compared as IPv4.
pub(crate) fn parse_network(text: &str) -> Result<IpNet, PatternError> {
    let hint = "write an address or a network, such as 10.0.0.0/8 or 2001:db8::/32";
    let network = match text.split_once('/') {
        Some((address, prefix)) => {
            parse_prefix(prefix).and_then(|prefix| IpNet::new(address.parse().ok()?, prefix).ok())
        }
        None => text
            .parse()
            .ok()
            .map(|address: IpAddr| address.to_canonical().into()),
    };
    let Some(network) = network else {
        return Err(PatternError::new(text, "is not a network", hint));
    };
    if network.network() != network.addr() {
        let first = crate::host::address_text::text(network.network());
        let hint = format!(
            "write {first}/{} or the single address",
            network.prefix_len()
        );
        return Err(PatternError::new(
            text,
            "has bits set behind its prefix",
            &hint,
        ));
    }
    if let IpNet::V6(v6) = network
        && v6.addr().to_ipv4_mapped().is_some()
        && v6.prefix_len() >= 96
    {
        return Err(PatternError::new(
            text,
            "is a network of IPv4-mapped addresses, which are compared as IPv4",
            "write the IPv4 network",
        ));
    }
    Ok(network)
}

/// True if the address is in the network; they are of one family.
///
/// As [`ipnet::Contains`], which costs a module a kilobyte more.
pub(crate) fn contains(network: &IpNet, address: IpAddr) -> bool {
    // The shift of a whole number of bits is none.
    match (network, address) {
        (IpNet::V4(network), IpAddr::V4(address)) => {
            let differing = u32::from(network.addr()) ^ u32::from(address);
            let shift = 32 - u32::from(network.prefix_len());
            differing.checked_shr(shift).unwrap_or(0) == 0
        }
        (IpNet::V6(network), IpAddr::V6(address)) => {
            let differing = u128::from(network.addr()) ^ u128::from(address);
            let shift = 128 - u32::from(network.prefix_len());
            differing.checked_shr(shift).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// A prefix length as it is usually written: no sign, no leading zero.
fn parse_prefix(text: &str) -> Option<u8> {
    let is_plain =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if is_plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_what_the_library_says() {
        let addresses: Vec<IpAddr> = [
            "0.0.0.0",
            "10.0.0.0",
            "10.255.255.255",
            "11.0.0.0",
            "127.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "2001:db8::",
            "2001:db8:0:1::",
            "2001:db9::",
            "ffff::",
        ]
        .iter()
        .map(|address| address.parse().unwrap())
        .collect();
        for address in &addresses {
            for length in [0, 1, 7, 8, 9, 31, 32, 33, 64, 127, 128] {
                let Ok(network) = IpNet::new(*address, length) else {
                    continue;
                };
                for other in &addresses {
                    let expected = network.contains(other);
                    let network = network.trunc();
                    assert_eq!(contains(&network, *other), expected, "{network} {other}");
                }
            }
        }
    }

    #[test]
    fn a_pattern_is_shown_as_it_is_read() {
        for (text, canonical) in [
            ("*", "*"),
            ("*:443", "*"),
            ("Shop.Example.com.:8080", "shop.example.com"),
            ("*.Example.com", "*.example.com"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("[2001:DB8:0::1]:80", "2001:db8::1/128"),
            ("[::ffff:10.1.2.3]", "10.1.2.3/32"),
        ] {
            let host = Pattern::parse(text).unwrap().host;
            assert_eq!(host.to_string(), canonical, "{text}");
            assert_eq!(Pattern::parse(canonical).unwrap().host, host, "{text}");
        }
    }

    #[test]
    fn errors_say_what_to_write() {
        for (text, hint) in [
            ("bücher.example", "A-label"),
            ("https://shop.example.com", "host alone"),
            ("*shop.example.com", "`*.example.com`"),
            ("shop.*", "`*.example.com`"),
            ("*.1.2.3.4", "network"),
            ("10.1.2.3/8", "write 10.0.0.0/8"),
            ("2001:db8::1/32", "write 2001:db8::/32"),
            ("::ffff:10.0.0.0/104", "IPv4 network"),
            ("", "write a name"),
            ("::1", "in brackets"),
            ("shop:99999", "write a name"),
        ] {
            let error = Pattern::parse(text).unwrap_err();
            assert!(error.hint.contains(hint), "{text}: {error:?}");
        }
    }
}
