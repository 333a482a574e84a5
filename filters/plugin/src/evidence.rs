//! The evidence of a request or connection, read from the host when it is asked for.

use std::net::{IpAddr, Ipv4Addr};

use meridian_policy::{Date, Evidence, Principal, Subject};

use crate::filter::Filter;
use crate::host;

/// The request or connection that the host's current callback is about.
pub(crate) struct Live<'f> {
    filter: &'f Filter,
    /// Whether TLS ends here, once it was asked.
    tls: Option<bool>,
    /// How many pieces of evidence that only TLS has were asked for and not there.
    missing: u8,
}

impl<'f> Live<'f> {
    pub(crate) fn new(filter: &'f Filter) -> Self {
        Self {
            filter,
            tls: None,
            missing: 0,
        }
    }

    /// True if no TLS ends here, as far as asking that first spares questions.
    ///
    /// Without TLS the answer to one question tells the answers to two, the peer's identity and the
    /// server name; with TLS it would be a question more. So it is asked first where the request
    /// before had no TLS: a wrong guess costs that question, and changes no answer. (Envoy has a
    /// server name of HTTP without TLS only where a listener filter invents one.)
    fn is_plaintext(&mut self) -> bool {
        self.filter.after_plaintext.get() && !self.is_tls()
    }

    /// Of a property that only TLS has.
    fn of_tls(&mut self, path: &str) -> Option<Vec<u8>> {
        if self.is_plaintext() {
            return None;
        }
        // Without a server name Envoy answers with an empty one.
        let value = host::property(path).filter(|value| !value.is_empty());
        self.missing += u8::from(value.is_none());
        value
    }

    /// What the next request is guessed from.
    pub(crate) fn remember(&self) {
        match self.tls {
            Some(tls) => self.filter.after_plaintext.set(!tls),
            None if self.missing > 1 => self.filter.after_plaintext.set(true),
            None => {}
        }
    }
}

impl Evidence for Live<'_> {
    fn authority(&mut self) -> Vec<u8> {
        host::request_header(":authority").unwrap_or_default()
    }

    fn source(&mut self) -> Option<IpAddr> {
        address("source\0address").map(|(source, _)| source)
    }

    fn destination(&mut self) -> Option<(IpAddr, u16)> {
        let destination = address("destination\0address")?;
        match self.filter.subject {
            Subject::Request => Some(destination),
            // Unless the proxy is known not to have that address, it says nothing.
            Subject::Connection => {
                let own = text("xds\0node\0metadata\0INSTANCE_IPS")?;
                let address = destination.0.to_canonical();
                own.split(',')
                    .all(|own| matches!(own.trim_ascii().parse::<IpAddr>(), Ok(own) if own.to_canonical() != address))
                    .then_some(destination)
            }
        }
    }

    fn peer(&mut self) -> Option<Principal> {
        let uri = String::from_utf8(self.of_tls("connection\0uri_san_peer_certificate")?).ok()?;
        // In a certificate an identity is a SPIFFE ID; without the scheme it is something else.
        Principal::parse(uri.strip_prefix("spiffe://")?)
    }

    fn sni(&mut self) -> Option<Vec<u8>> {
        let path = "connection\0requested_server_name";
        match self.filter.subject {
            Subject::Request => self.of_tls(path),
            // Of TLS that passes through.
            Subject::Connection => host::property(path),
        }
    }

    fn is_tls(&mut self) -> bool {
        *self.tls.get_or_insert_with(|| {
            host::property("connection\0tls_version").is_some_and(|version| !version.is_empty())
        })
    }

    fn cluster(&mut self) -> Option<String> {
        text("xds\0cluster_name")
    }

    fn tag(&mut self) -> Option<Vec<u8>> {
        // Unlike the header map, the property has all values of a header, joined by commas: two
        // tags are no tag.
        host::property(&self.filter.tag_property)
    }

    fn is_forwarded(&mut self) -> bool {
        host::request_header("x-forwarded-for").is_some()
    }

    fn today(&self) -> Option<Date> {
        self.filter.today.get()
    }

    fn namespace(&self) -> Option<&str> {
        self.filter.namespace.as_deref()
    }
}

/// An address property, `ip:port`; a Unix socket's path is none.
fn address(path: &str) -> Option<(IpAddr, u16)> {
    let text = host::property(path)?;
    if let Some(found) = ipv4(&text) {
        return Some(found);
    }
    let text = std::str::from_utf8(&text).ok()?;
    let (address, port) = text.rsplit_once(':')?;
    let address = match address.strip_prefix('[') {
        // A link-local address may have its interface behind it.
        Some(address) => address.strip_suffix(']')?.split('%').next()?,
        None => address,
    };
    Some((address.parse().ok()?, port.parse().ok()?))
}

/// `a.b.c.d:port`, as nearly every address is written, in one pass; `None` for whatever is not just
/// so.
fn ipv4(text: &[u8]) -> Option<(IpAddr, u16)> {
    let (mut address, mut parts) = (0u32, 0);
    let (mut number, mut digits) = (0u32, 0);
    for byte in text {
        match byte {
            // No number has a leading zero, or five digits more than a port has.
            b'0'..=b'9' if digits < 5 && (digits == 0 || number > 0) => {
                number = number * 10 + u32::from(byte - b'0');
                digits += 1;
            }
            b'.' | b':' if digits > 0 && number < 256 && (*byte == b':') == (parts == 3) => {
                address = address << 8 | number;
                parts += 1;
                (number, digits) = (0, 0);
            }
            _ => return None,
        }
    }
    let port = u16::try_from(number).ok()?;
    (parts == 4 && digits > 0).then(|| (Ipv4Addr::from(address).into(), port))
}

/// A property that is text and not empty.
pub(crate) fn text(path: &str) -> Option<String> {
    String::from_utf8(host::property(path)?)
        .ok()
        .filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever it takes, the standard library takes for the same.
    #[test]
    fn ipv4_addresses_are_what_they_are_elsewhere() {
        for text in [
            "192.0.2.7:4711",
            "0.0.0.0:0",
            "255.255.255.255:65535",
            "10.0.0.1:1",
        ] {
            let expected: std::net::SocketAddr = text.parse().unwrap();
            let expected = (expected.ip(), expected.port());
            assert_eq!(ipv4(text.as_bytes()), Some(expected), "{text}");
        }
        for text in [
            "",
            ":",
            "1.2.3.4",
            "1.2.3:4",
            "1.2.3.4.5:6",
            "1.2.3.4:",
            "1.2.3.4:65536",
            "256.2.3.4:5",
            "01.2.3.4:5",
            "1.2.3.4:05",
            "1..3.4:5",
            "1.2.3.4:5:6",
            "1:2.3.4.5",
            "[::1]:80",
            "1.2.3.4:99999999999",
            "4294967297.2.3.4:5",
            " 1.2.3.4:5",
            "1.2.3.4:5 ",
            "a.2.3.4:5",
            "\u{661}.2.3.4:5",
        ] {
            assert_eq!(ipv4(text.as_bytes()), None, "{text}");
        }
    }
}
