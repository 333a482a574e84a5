//! What a filter needs of the proxy that it runs in.
//!
//! Hosts are values that are copied, so that one without a state costs nothing: the proxy-wasm ABI is
//! about whatever its current callback is about. Every call that can be refused says so by a value.

use std::net::{IpAddr, Ipv4Addr};

use meridian_metrics::Kind;

/// A call that the host refused, with the host's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused(pub u32);

/// A stat of the host: a metric with the values of its labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat(pub u32);

/// A gRPC status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrpcStatus {
    /// The client specified an invalid argument.
    InvalidArgument = 3,
    /// The caller may not do this.
    PermissionDenied = 7,
    /// Something is broken.
    Internal = 13,
    /// The service cannot answer now.
    Unavailable = 14,
}

/// Envoy's attributes.
pub trait Attributes: Copy {
    /// An attribute by its path, the names joined by NUL; `None` where there is none, or no such
    /// attribute.
    fn property(self, path: &str) -> Option<Vec<u8>>;

    /// An attribute that is text and not empty.
    fn text(self, path: &str) -> Option<String> {
        String::from_utf8(self.property(path)?)
            .ok()
            .filter(|text| !text.is_empty())
    }

    /// An attribute that is an integer; Envoy's durations are of nanoseconds.
    fn number(self, path: &str) -> Option<i64> {
        Some(i64::from_le_bytes(self.property(path)?.try_into().ok()?))
    }

    /// An attribute that is an address and its port; a Unix socket's path is none.
    fn address(self, path: &str) -> Option<(IpAddr, u16)> {
        let text = self.property(path)?;
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
}

/// The host while a plugin loads its policy.
pub trait PluginHost: Attributes {
    /// The plugin's configuration; empty when there is none.
    fn configuration(self) -> Vec<u8>;

    /// The policy that was put into the module, see [`meridian_policy::Policy::from_image`].
    fn policy_image(self) -> Option<&'static [u8]>;

    /// Defines a stat. One of the same name that is there already is that one; the host never frees
    /// it.
    ///
    /// # Errors
    /// If the host refuses.
    fn define(self, kind: Kind, name: &str) -> Result<Stat, Refused>;

    /// Sets a gauge.
    ///
    /// # Errors
    /// If the host refuses.
    fn set(self, gauge: Stat, value: u64) -> Result<(), Refused>;

    /// Makes the filter state of this name a message of this protobuf type, which access logs can
    /// look into; without this it would be bytes. That it is one already is no error.
    ///
    /// # Errors
    /// If the host refuses.
    fn declare_filter_state(self, name: &str, type_url: &str) -> Result<(), Refused>;

    /// The time, in seconds since the Unix epoch.
    ///
    /// # Errors
    /// If the host refuses.
    fn unix_seconds(self) -> Result<u64, Refused>;

    /// Asks to be called every so often, on each worker.
    ///
    /// # Errors
    /// If the host refuses.
    fn tick_every(self, milliseconds: u32) -> Result<(), Refused>;

    /// True if the host tells when a request has ended.
    fn tells_ends(self) -> bool;
}

/// The host in a callback of one request or connection.
pub trait StreamHost: Attributes {
    /// The first value of a request header.
    fn request_header(self, name: &str) -> Option<Vec<u8>>;

    /// Makes `value` the only value of a request header.
    ///
    /// # Errors
    /// If the host refuses.
    fn replace_request_header(self, name: &str, value: &str) -> Result<(), Refused>;

    /// Removes every value of a request header, if there is one.
    ///
    /// # Errors
    /// If the host refuses.
    fn remove_request_header(self, name: &str) -> Result<(), Refused>;

    /// Removes every value of a request trailer, if there is one.
    ///
    /// # Errors
    /// If the host refuses.
    fn remove_request_trailer(self, name: &str) -> Result<(), Refused>;

    /// Sets filter state, which access logs can show.
    ///
    /// # Errors
    /// If the host refuses.
    fn set_filter_state(self, name: &str, value: &[u8]) -> Result<(), Refused>;

    /// Answers the request here. `details` becomes `%RESPONSE_CODE_DETAILS%`.
    ///
    /// The host uses `grpc_status`, with the body as its message, where the request is gRPC, and
    /// `status` with the body elsewhere.
    ///
    /// # Errors
    /// If the host refuses.
    fn local_reply(
        self,
        status: u16,
        grpc_status: GrpcStatus,
        details: &str,
        body: &str,
    ) -> Result<(), Refused>;

    /// Closes the client's side of the connection.
    ///
    /// # Errors
    /// If the host refuses.
    fn close_downstream(self) -> Result<(), Refused>;

    /// Adds one to a counter.
    ///
    /// # Errors
    /// If the host refuses.
    fn increment(self, counter: Stat) -> Result<(), Refused>;

    /// Adds an observation to a histogram.
    ///
    /// # Errors
    /// If the host refuses.
    fn observe(self, histogram: Stat, value: u64) -> Result<(), Refused>;
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
