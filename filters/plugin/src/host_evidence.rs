//! The evidence of a request or connection, read from the host when it is asked for.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;

use meridian_policy::{Date, Evidence, Principal, Subject};

use crate::host::StreamHost;

/// What is the same for every request or connection of a filter, as far as evidence goes.
pub(crate) struct Surroundings {
    /// What the filter decides on.
    pub(crate) subject: Subject,
    /// The namespace of the workload that the proxy serves.
    pub(crate) namespace: Option<String>,
    /// The path of the property that holds the direction's tag.
    pub(crate) tag_property: String,
    /// The day, if a rule of the policy expires.
    pub(crate) today: Rc<Cell<Option<Date>>>,
    /// True if no TLS ended here at the request before.
    pub(crate) after_plaintext: Cell<bool>,
}

/// The request or connection that the host's current callback is about.
pub(crate) struct HostEvidence<'s, H> {
    host: H,
    surroundings: &'s Surroundings,
    /// Whether TLS ends here, once it was asked.
    tls: Option<bool>,
    /// How many pieces of evidence that only TLS has were asked for and not there.
    missing: u8,
}

impl<'s, H: StreamHost> HostEvidence<'s, H> {
    pub(crate) fn new(host: H, surroundings: &'s Surroundings) -> Self {
        Self {
            host,
            surroundings,
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
        self.surroundings.after_plaintext.get() && !self.is_tls()
    }

    /// Of a property that only TLS has.
    fn of_tls(&mut self, path: &str) -> Option<Vec<u8>> {
        if self.is_plaintext() {
            return None;
        }
        // Without a server name Envoy answers with an empty one.
        let value = self.host.property(path).filter(|value| !value.is_empty());
        self.missing += u8::from(value.is_none());
        value
    }

    /// What the next request is guessed from.
    pub(crate) fn remember(&self) {
        match self.tls {
            Some(tls) => self.surroundings.after_plaintext.set(!tls),
            None if self.missing > 1 => self.surroundings.after_plaintext.set(true),
            None => {}
        }
    }
}

impl<H: StreamHost> Evidence for HostEvidence<'_, H> {
    fn authority(&mut self) -> Vec<u8> {
        self.host.request_header(":authority").unwrap_or_default()
    }

    fn source(&mut self) -> Option<IpAddr> {
        self.host
            .address("source\0address")
            .map(|(source, _)| source)
    }

    fn destination(&mut self) -> Option<(IpAddr, u16)> {
        let destination = self.host.address("destination\0address")?;
        match self.surroundings.subject {
            Subject::Request => Some(destination),
            // Unless the proxy is known not to have that address, it says nothing.
            Subject::Connection => is_elsewhere(self.host, destination.0)?.then_some(destination),
        }
    }

    fn peer(&mut self) -> Option<Principal> {
        let uri = String::from_utf8(self.of_tls("connection\0uri_san_peer_certificate")?).ok()?;
        // In a certificate an identity is a SPIFFE ID; without the scheme it is something else.
        Principal::parse(uri.strip_prefix("spiffe://")?)
    }

    fn sni(&mut self) -> Option<Vec<u8>> {
        let path = "connection\0requested_server_name";
        match self.surroundings.subject {
            Subject::Request => self.of_tls(path),
            // Of TLS that passes through.
            Subject::Connection => self.host.property(path),
        }
    }

    fn is_tls(&mut self) -> bool {
        *self.tls.get_or_insert_with(|| {
            self.host
                .property("connection\0tls_version")
                .is_some_and(|version| !version.is_empty())
        })
    }

    fn cluster(&mut self) -> Option<String> {
        self.host.text("xds\0cluster_name")
    }

    fn tag(&mut self) -> Option<Vec<u8>> {
        // Unlike the header map, the property has all values of a header, joined by commas: two
        // tags are no tag.
        self.host.property(&self.surroundings.tag_property)
    }

    fn is_forwarded(&mut self) -> bool {
        self.host.request_header("x-forwarded-for").is_some()
    }

    fn today(&self) -> Option<Date> {
        self.surroundings.today.get()
    }

    fn namespace(&self) -> Option<&str> {
        self.surroundings.namespace.as_deref()
    }

    fn is_gateway(&self, _: &[Box<str>]) -> Option<bool> {
        Some(true)
    }
}

/// True if this is none of the proxy's own addresses; `None` where those are not known.
#[inline(never)]
fn is_elsewhere<H: StreamHost>(host: H, address: IpAddr) -> Option<bool> {
    let own = host.text("xds\0node\0metadata\0INSTANCE_IPS")?;
    let address = address.to_canonical();
    Some(own.split(',').all(|own| {
        let own = own.trim_ascii().parse::<IpAddr>();
        own.is_ok_and(|own| own.to_canonical() != address)
    }))
}
