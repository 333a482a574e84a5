//! The one canonical form of an authority, for every filter and command.
//!
//! Envoy hands the authority on as the client wrote it: letter case, port, trailing dot and IPv4
//! spellings unchanged, two `Host` headers joined by a comma. What a rule is compared with must be
//! what the upstream's resolver would make of it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use crate::host::ipv4::{is_number, parse_ipv4};

/// The longest name in bytes, without a trailing dot (RFC 1035, section 3.1).
const MAX_NAME: usize = 253;
/// The longest label in bytes (RFC 1035, section 2.3.4).
const MAX_LABEL: usize = 63;

/// A DNS name: lower case, no trailing dot, labels of `[a-z0-9_-]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Vec<u8>);

impl Name {
    /// The canonical text, such as `shop.example.com`.
    pub fn as_str(&self) -> &str {
        // Never the default: every byte is ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The same in bytes, at no cost.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// A host: a name or an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A DNS name.
    Name(Name),
    /// An address; an IPv4-mapped IPv6 address is held as the IPv4 address that it reaches.
    Address(IpAddr),
}

impl Host {
    /// The host that is not known: only `*` matches it.
    pub(crate) const fn none() -> Self {
        Self::Name(Name(Vec::new()))
    }

    /// The text of its `Display`, for a module that must not carry that.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Name(name) => name.0.clone(),
            Self::Address(address) => {
                let mut text = Vec::new();
                if address.is_ipv6() {
                    text.push(b'[');
                }
                crate::host::address_text::push(&mut text, *address);
                if address.is_ipv6() {
                    text.push(b']');
                }
                text
            }
        }
    }

    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Self::Name(name) if name.0.is_empty())
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name.as_str()),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// A canonical host with the port that was written beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The host.
    pub host: Host,
    /// The port as written; `None` without one, also for `host:` (RFC 3986, section 3.2.3).
    pub port: Option<u16>,
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => write!(f, "{}", self.host),
        }
    }
}

/// Why an authority is not a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidHost {
    /// Nothing is left of it.
    Empty,
    /// A byte that no host has: `,` of two joined headers, `@` of userinfo, `%`, non-ASCII, …
    Byte(u8),
    /// A name of more than 253 bytes.
    NameTooLong,
    /// A label of more than 63 bytes.
    LabelTooLong,
    /// Two dots in a row, or one at the start.
    EmptyLabel,
    /// A port that is not a number from 1 to 65535.
    Port,
    /// The last label is a number, but the whole is no IPv4 address in any spelling.
    Ipv4,
    /// What stands in brackets is no IPv6 address, or something follows the brackets.
    Ipv6,
    /// An address where only a name can be: the server name of TLS (RFC 6066, section 3).
    Address,
    /// More than one `:` outside brackets.
    UnbracketedIpv6,
}

impl fmt::Display for InvalidHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty"),
            Self::Byte(byte) if byte.is_ascii_graphic() => {
                write!(f, "it has the character '{}'", char::from(*byte))
            }
            Self::Byte(byte) => write!(f, "it has the byte 0x{byte:02x}"),
            Self::NameTooLong => write!(f, "the name is longer than {MAX_NAME} bytes"),
            Self::LabelTooLong => write!(f, "a label is longer than {MAX_LABEL} bytes"),
            Self::EmptyLabel => f.write_str("a label is empty"),
            Self::Port => f.write_str("the port is not a number from 1 to 65535"),
            Self::Ipv4 => f.write_str("it ends in a number but is no IPv4 address"),
            Self::Ipv6 => f.write_str("what is in brackets is no IPv6 address"),
            Self::Address => f.write_str("an address is no server name"),
            Self::UnbracketedIpv6 => f.write_str("an IPv6 address needs brackets"),
        }
    }
}

impl std::error::Error for InvalidHost {}

impl Authority {
    /// Canonicalises an authority as a client wrote it.
    ///
    /// Splits the port off, lowers ASCII letters, removes one trailing dot, and makes an address
    /// of every IPv4 spelling that `inet_aton` accepts (`0x7f.1`, `2130706433`, `017700000001`).
    /// A name whose last label is a number must be such an address, as in the WHATWG URL
    /// Standard's "ends in a number" check: resolvers disagree on the others.
    ///
    /// # Errors
    /// [`InvalidHost`]; such a request is refused whatever the rules say.
    pub fn parse(raw: &[u8]) -> Result<Self, InvalidHost> {
        Self::from_bytes(raw.to_vec())
    }

    /// The same, in the buffer in which it came: nothing is allocated.
    ///
    /// # Errors
    /// As [`Authority::parse`].
    pub fn from_bytes(mut raw: Vec<u8>) -> Result<Self, InvalidHost> {
        // As nearly every client writes it. One pass, instead of one for each thing that could be.
        if is_canonical_name(&raw) {
            return Ok(Self {
                host: Host::Name(Name(raw)),
                port: None,
            });
        }
        let (host, port) = match Written::parse(&raw)? {
            (Written::Address(address), port) => (Host::Address(address), port),
            (Written::Name { length }, port) => {
                raw.truncate(length);
                raw.make_ascii_lowercase();
                (Host::Name(Name(raw)), port)
            }
        };
        Ok(Self { host, port })
    }
}

/// A host as it is written.
enum Written {
    /// An address in any spelling.
    Address(IpAddr),
    /// A name in any case: the first so many bytes of the authority.
    Name { length: usize },
}

impl Written {
    fn parse(raw: &[u8]) -> Result<(Self, Option<u16>), InvalidHost> {
        if let Some(byte) = raw.iter().find(|byte| !is_authority_byte(**byte)) {
            return Err(InvalidHost::Byte(*byte));
        }
        // All bytes are ASCII from here on.
        let text = std::str::from_utf8(raw).map_err(|_| InvalidHost::Empty)?;
        if let Some(bracketed) = text.strip_prefix('[') {
            let (address, rest) = bracketed.split_once(']').ok_or(InvalidHost::Ipv6)?;
            let port = match rest {
                "" => None,
                rest => parse_port(rest.strip_prefix(':').ok_or(InvalidHost::Ipv6)?)?,
            };
            let address: Ipv6Addr = address.parse().map_err(|_| InvalidHost::Ipv6)?;
            return Ok((Self::Address(address.to_canonical()), port));
        }
        let (host, port) = match text.split_once(':') {
            None => (text, None),
            Some((_, rest)) if rest.contains(':') => return Err(InvalidHost::UnbracketedIpv6),
            Some((host, port)) => (host, parse_port(port)?),
        };
        if let Some(byte) = host.bytes().find(|byte| matches!(byte, b'[' | b']')) {
            return Err(InvalidHost::Byte(byte));
        }
        let host = host.strip_suffix('.').unwrap_or(host);
        if host.is_empty() {
            return Err(InvalidHost::Empty);
        }
        let last = host.rsplit('.').next().unwrap_or(host);
        let host = if is_number(last) {
            Self::Address(IpAddr::V4(parse_ipv4(host).ok_or(InvalidHost::Ipv4)?))
        } else {
            check_name(host)?;
            Self::Name { length: host.len() }
        };
        Ok((host, port))
    }
}

const fn is_authority_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']')
}

/// True if this is a name as [`Authority::parse`] would give it back, byte for byte. A few canonical
/// names are passed over, those whose last label begins with a digit.
///
/// One pass, for the lists of hosts that are loaded and for requests.
pub(crate) fn is_canonical_name(text: &[u8]) -> bool {
    let mut label = 0;
    let mut label_starts_with_digit = false;
    for byte in text {
        match byte {
            b'.' if label == 0 => return false,
            b'.' => label = 0,
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => {
                if label == 0 {
                    label_starts_with_digit = byte.is_ascii_digit();
                }
                label += 1;
                if label > MAX_LABEL {
                    return false;
                }
            }
            _ => return false,
        }
    }
    label > 0 && !label_starts_with_digit && text.len() <= MAX_NAME
}

pub(crate) fn parse_port(text: &str) -> Result<Option<u16>, InvalidHost> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() > 5 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidHost::Port);
    }
    match text.parse() {
        Ok(port) if port > 0 => Ok(Some(port)),
        _ => Err(InvalidHost::Port),
    }
}

/// That lengths are within those of DNS.
fn check_name(text: &str) -> Result<(), InvalidHost> {
    if text.len() > MAX_NAME {
        return Err(InvalidHost::NameTooLong);
    }
    for label in text.split('.') {
        match label.len() {
            0 => return Err(InvalidHost::EmptyLabel),
            1..=MAX_LABEL => {}
            _ => return Err(InvalidHost::LabelTooLong),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(raw: &str) -> Result<String, InvalidHost> {
        Authority::parse(raw.as_bytes()).map(|authority| authority.to_string())
    }

    #[test]
    fn spellings_of_one_host_are_one() {
        for raw in [
            "shop.example.com",
            "SHOP.Example.COM",
            "shop.example.com.",
            "shop.example.com:",
        ] {
            assert_eq!(canonical(raw).as_deref(), Ok("shop.example.com"), "{raw}");
        }
        for raw in [
            "127.0.0.1",
            "0x7f.1",
            "2130706433",
            "017700000001",
            "127.0.1",
            "0x7F000001.",
            "[::ffff:127.0.0.1]",
        ] {
            assert_eq!(canonical(raw).as_deref(), Ok("127.0.0.1"), "{raw}");
        }
        assert_eq!(
            canonical("[2001:DB8:0::1]:8443").as_deref(),
            Ok("[2001:db8::1]:8443")
        );
    }

    #[test]
    fn what_is_canonical_stays_as_it_is() {
        let long = "a".repeat(64);
        for raw in [
            "a",
            "shop.example.com",
            "a-_1.b2",
            "Shop",
            "a.",
            ".a",
            "a..b",
            "a:1",
            "1.2",
            "a.1b",
            &long,
        ] {
            let stays = canonical(raw).as_deref() == Ok(raw);
            assert!(!is_canonical_name(raw.as_bytes()) || stays, "{raw}");
        }
        assert!(is_canonical_name(b"shop.example.com"));
        assert!(!is_canonical_name(b"shop.0x7f"));
    }

    #[test]
    fn what_no_resolver_agrees_on_is_invalid() {
        for (raw, reason) in [
            ("", InvalidHost::Empty),
            (".", InvalidHost::Empty),
            (":80", InvalidHost::Empty),
            ("a.example,b.example", InvalidHost::Byte(b',')),
            ("user@shop", InvalidHost::Byte(b'@')),
            ("shop%2eexample", InvalidHost::Byte(b'%')),
            ("a..b", InvalidHost::EmptyLabel),
            (".a", InvalidHost::EmptyLabel),
            ("a.b..", InvalidHost::EmptyLabel),
            ("shop:0", InvalidHost::Port),
            ("shop:65536", InvalidHost::Port),
            ("shop:+80", InvalidHost::Byte(b'+')),
            ("shop:http", InvalidHost::Port),
            ("1.2.3.4.5", InvalidHost::Ipv4),
            ("256.1.1.1", InvalidHost::Ipv4),
            ("1.2.3.08", InvalidHost::Ipv4),
            ("4294967296", InvalidHost::Ipv4),
            ("1.16777216", InvalidHost::Ipv4),
            ("shop.0x", InvalidHost::Ipv4),
            ("::1", InvalidHost::UnbracketedIpv6),
            ("[::1", InvalidHost::Ipv6),
            ("[::1].", InvalidHost::Ipv6),
            ("[1.2.3.4]", InvalidHost::Ipv6),
            ("a[b", InvalidHost::Byte(b'[')),
        ] {
            assert_eq!(canonical(raw), Err(reason), "{raw}");
        }
    }

    #[test]
    fn lengths_are_held_at_their_edges() {
        let label = "a".repeat(63);
        assert!(canonical(&label).is_ok());
        assert_eq!(
            canonical(&format!("{label}a")),
            Err(InvalidHost::LabelTooLong)
        );
        let name = [label.as_str(); 4].join(".")[..253].to_owned();
        assert!(canonical(&format!("{name}.:65535")).is_ok());
        assert_eq!(
            canonical(&format!("{name}a")),
            Err(InvalidHost::NameTooLong)
        );
    }
}
