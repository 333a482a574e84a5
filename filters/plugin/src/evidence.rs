//! The evidence of a request, read from the host when it is asked for.

use std::net::{IpAddr, SocketAddr};

use meridian_policy::{Evidence, Principal};

use crate::filter::Filter;
use crate::host;

/// The request that the host's current callback is about.
pub(crate) struct Live<'f> {
    pub(crate) filter: &'f Filter,
}

impl Evidence for Live<'_> {
    fn authority(&mut self) -> Vec<u8> {
        host::request_header(":authority").unwrap_or_default()
    }

    fn source(&mut self) -> Option<IpAddr> {
        address("source\0address")
    }

    fn destination(&mut self) -> Option<IpAddr> {
        address("destination\0address")
    }

    fn peer(&mut self) -> Option<Principal> {
        Principal::parse(&text("connection\0uri_san_peer_certificate")?)
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

    fn namespace(&self) -> Option<&str> {
        self.filter.namespace.as_deref()
    }
}

/// An address property, `ip:port`; a Unix socket's path is none.
fn address(path: &str) -> Option<IpAddr> {
    let address: SocketAddr = text(path)?.parse().ok()?;
    Some(address.ip())
}

/// A property that is text and not empty.
pub(crate) fn text(path: &str) -> Option<String> {
    String::from_utf8(host::property(path)?)
        .ok()
        .filter(|text| !text.is_empty())
}
