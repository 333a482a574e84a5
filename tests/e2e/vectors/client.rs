//! Sends the request of a case.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use meridian_tests::raw::{self, Answer, Peer, http1, http2, tls};

use super::bootstrap::{CASE_HEADER, CLUSTER_HEADER, Listener};
use crate::certificates::Certificates;
use meridian_vectors::{Case, Vectors, Wire};

const DEADLINE: Duration = Duration::from_secs(10);

/// The Host of a request whose request line names another one.
const DECOY: &[u8] = b"decoy.example.test";

/// A request that was sent, and what came of it.
#[derive(Debug)]
pub(super) struct Exchange {
    /// The value of the case's header in the access log.
    pub(super) id: String,
    /// The client's address as the access log names it.
    pub(super) client: Option<SocketAddr>,
    pub(super) answer: Answer,
}

/// The listener's end of a connection over TCP, and the client's.
pub(super) fn tcp_peer(
    ports: &BTreeMap<String, SocketAddr>,
    listener: &Listener,
    case: &Case,
) -> anyhow::Result<Peer> {
    let bound = ports
        .get(&listener.name)
        .with_context(|| format!("no listener {}", listener.name))?;
    let source = case.source.context("no source address")?;
    let own = match source {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => bound.ip(),
    };
    let server = SocketAddr::new(case.destination.unwrap_or(own), bound.port());
    Ok(Peer::Tcp { server, source })
}

/// Sends the request of a case on a connection of its own.
pub(super) async fn send(
    index: usize,
    vectors: &Vectors,
    case: &Case,
    peer: &Peer,
    clusters: &BTreeMap<String, usize>,
    certificates: &Certificates,
) -> anyhow::Result<Exchange> {
    let is_http2 = matches!(case.wire, Wire::Http2 | Wire::Http2Connect);
    let connection = raw::connect(peer).await?;
    let mut stream = connection.stream;
    if case.is_tls() {
        let client = case.principal.as_deref();
        stream = tls::connect(
            stream,
            &tls::Options {
                ca: certificates.ca(),
                client: client.and_then(|principal| certificates.client(principal)),
                server_name: case.sni.as_deref(),
                alpn: if is_http2 { &["h2"] } else { &["http/1.1"] },
            },
        )
        .await?;
    }
    let id = index.to_string();
    let mut fields = vec![(CASE_HEADER.as_bytes().to_vec(), id.clone().into_bytes())];
    if let Some(number) = case.cluster.as_ref().and_then(|name| clusters.get(name)) {
        fields.push((CLUSTER_HEADER.into(), number.to_string().into_bytes()));
    }
    let tag_header = vectors.policy.tags.direction_header.as_bytes();
    fields.extend(
        case.tag
            .iter()
            .map(|tag| (tag_header.to_vec(), tag.0.clone())),
    );
    fields.extend(
        case.headers
            .iter()
            .map(|(name, value)| (name.clone().into_bytes(), value.clone().into_bytes())),
    );
    let authority = case
        .authority
        .as_ref()
        .map_or(&[][..], |bytes| bytes.0.as_slice());
    let answer = if is_http2 {
        let mut request = match case.wire {
            Wire::Http2Connect => http2::Request::connect(authority),
            _ => http2::Request::get(authority),
        };
        request.fields.extend(fields);
        http2::exchange(stream, &request, DEADLINE).await?
    } else {
        let request = http1_request(&case.wire, authority, &fields);
        http1::exchange(&mut *stream, &request, DEADLINE).await?
    };
    Ok(Exchange {
        id,
        client: connection.local,
        answer,
    })
}

fn http1_request(wire: &Wire, authority: &[u8], fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let line = |method: &[u8], target: &[&[u8]], version: &[u8]| {
        [method, b" ", &target.concat(), b" HTTP/", version, b"\r\n"].concat()
    };
    let (mut bytes, hosts): (Vec<u8>, Vec<&[u8]>) = match wire {
        Wire::Raw(bytes) => return bytes.clone(),
        Wire::Http1 | Wire::Http2 | Wire::Http2Connect => {
            (line(b"GET", &[b"/"], b"1.1"), vec![authority])
        }
        Wire::Http10 => (line(b"GET", &[b"/"], b"1.0"), vec![authority]),
        Wire::Absolute => (
            line(b"GET", &[b"http://", authority, b"/"], b"1.1"),
            vec![DECOY],
        ),
        Wire::Connect => (line(b"CONNECT", &[authority], b"1.1"), vec![DECOY]),
        Wire::TwoHosts => (
            line(b"GET", &[b"/"], b"1.1"),
            authority.split(|byte| *byte == b',').collect(),
        ),
    };
    let hosts = hosts.iter().map(|host| (&b"Host"[..], *host));
    let fields = fields.iter().map(|(name, value)| (&name[..], &value[..]));
    for (name, value) in hosts.chain(fields) {
        bytes.extend([name, b": ", value, b"\r\n"].concat());
    }
    bytes.extend(b"\r\n");
    bytes
}
