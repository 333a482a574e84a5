//! The evidence of a request or connection, read from the host when it is asked for.

use std::net::IpAddr;

use meridian_policy::{Date, Evidence, Principal};

use crate::filter::{Filter, Subject};
use crate::host;

/// The request or connection that the host's current callback is about.
pub(crate) struct Live<'f> {
    pub(crate) filter: &'f Filter,
}

impl Evidence for Live<'_> {
    fn authority(&mut self) -> Vec<u8> {
        host::request_header(":authority").unwrap_or_default()
    }

    fn source(&mut self) -> Option<IpAddr> {
        address("source\0address").map(|(source, _)| source)
    }

    fn destination(&mut self) -> Option<IpAddr> {
        let (destination, _) = address(DESTINATION)?;
        match self.filter.subject {
            Subject::Requests => Some(destination),
            // Unless the proxy is known not to have that address, it says nothing.
            Subject::Connections => {
                let own = text("xds\0node\0metadata\0INSTANCE_IPS")?;
                let destination = destination.to_canonical();
                own.split(',')
                    .all(|own| matches!(own.trim_ascii().parse::<IpAddr>(), Ok(own) if own.to_canonical() != destination))
                    .then_some(destination)
            }
        }
    }

    fn destination_port(&mut self) -> Option<u16> {
        address(DESTINATION).map(|(_, port)| port)
    }

    fn peer(&mut self) -> Option<Principal> {
        let uri = text("connection\0uri_san_peer_certificate")?;
        // In a certificate an identity is a SPIFFE ID; without the scheme it is something else.
        Principal::parse(uri.strip_prefix("spiffe://")?)
    }

    fn sni(&mut self) -> Option<Vec<u8>> {
        host::property("connection\0requested_server_name")
    }

    fn is_tls(&mut self) -> bool {
        host::property("connection\0tls_version").is_some_and(|version| !version.is_empty())
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

const DESTINATION: &str = "destination\0address";

/// An address property, `ip:port`; a Unix socket's path is none.
fn address(path: &str) -> Option<(IpAddr, u16)> {
    let text = text(path)?;
    let (address, port) = text.rsplit_once(':')?;
    let address = match address.strip_prefix('[') {
        // A link-local address may have its interface behind it.
        Some(address) => address.strip_suffix(']')?.split('%').next()?,
        None => address,
    };
    Some((address.parse().ok()?, port.parse().ok()?))
}

/// A property that is text and not empty.
pub(crate) fn text(path: &str) -> Option<String> {
    String::from_utf8(host::property(path)?)
        .ok()
        .filter(|text| !text.is_empty())
}
