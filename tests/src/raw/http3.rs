//! HTTP/3: one QUIC connection with any number of requests.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use h3::client::SendRequest;
use h3::error::{Code, StreamError};
use h3_quinn::OpenStreams;
use hyper::body::{Buf, Bytes};
use hyper::{HeaderMap, Request};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, RecvStream};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use tokio::task::JoinHandle;

use super::Response;

/// A response with its trailers.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The response.
    pub response: Response,
    /// The trailers, if there were any.
    pub trailers: Option<HeaderMap>,
}

/// An open connection; it ends with this value.
pub struct Connection {
    requests: SendRequest<OpenStreams, Bytes>,
    driver: JoinHandle<()>,
    quic: quinn::Connection,
    _endpoint: Endpoint,
}

/// What became of sending: a server that has answered may ask the client to stop (RFC 9114, section 4.1),
/// and its response counts all the same.
fn sent(result: Result<(), StreamError>) -> Result<(), StreamError> {
    match result {
        Err(StreamError::RemoteTerminate { code, .. }) if code == Code::H3_NO_ERROR => Ok(()),
        result => result,
    }
}

impl Connection {
    /// Connects from the address `source`, with the SNI `server_name`.
    ///
    /// # Errors
    /// If nothing answers, or its certificate is not for that name or not of that CA.
    pub async fn open(
        server: SocketAddr,
        source: IpAddr,
        server_name: &str,
        ca: &CertificateDer<'static>,
    ) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h3".to_vec()];
        let mut endpoint = Endpoint::client(SocketAddr::new(source, 0))?;
        let config = QuicClientConfig::try_from(tls).context("TLS for QUIC")?;
        endpoint.set_default_client_config(ClientConfig::new(Arc::new(config)));
        let connection = endpoint
            .connect(server, server_name)?
            .await
            .context("the QUIC handshake failed")?;
        let (mut driver, requests) = h3::client::builder()
            .enable_extended_connect(true)
            .build(h3_quinn::Connection::new(connection.clone()))
            .await
            .context("HTTP/3 did not start")?;
        let driver = tokio::spawn(async move {
            // How it ends shows in the requests.
            let _ = driver.wait_idle().await;
        });
        Ok(Self {
            requests,
            driver,
            quic: connection,
            _endpoint: endpoint,
        })
    }

    /// Sends a request with a body and reads its whole response.
    ///
    /// # Errors
    /// If the stream is reset, or the connection lost.
    pub async fn exchange(&mut self, request: Request<()>, body: &[u8]) -> anyhow::Result<Answer> {
        let mut stream = self.requests.send_request(request).await?;
        if !body.is_empty() {
            sent(stream.send_data(Bytes::copy_from_slice(body)).await)?;
        }
        sent(stream.finish().await)?;
        let head = stream.recv_response().await?;
        let mut body = Vec::new();
        while let Some(mut data) = stream.recv_data().await? {
            body.extend_from_slice(&data.copy_to_bytes(data.remaining()));
        }
        let trailers = stream.recv_trailers().await?;
        let headers = head.headers().iter();
        let headers = headers.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
        Ok(Answer {
            response: Response {
                status: head.status().as_u16(),
                headers: headers.collect(),
                body,
            },
            trailers,
        })
    }

    /// Sends a request of hand-written fields that is not ended, then `bytes`, and reads DATA until
    /// it has `length` bytes or the stream ends: the only way to CONNECT, because the library sends
    /// it with scheme and path.
    ///
    /// # Errors
    /// If the stream is reset, or the status is none that the tests expect.
    pub async fn tunnel(
        &self,
        fields: &[(&str, &str)],
        bytes: &[u8],
        length: usize,
    ) -> anyhow::Result<(u16, Vec<u8>)> {
        let (mut send, mut receive) = self.quic.open_bi().await?;
        // No dynamic table (RFC 9204, 4.5.1).
        let mut block = vec![0, 0];
        for (name, value) in fields {
            integer(&mut block, 0x20, 3, name.len());
            block.extend_from_slice(name.as_bytes());
            integer(&mut block, 0, 7, value.len());
            block.extend_from_slice(value.as_bytes());
        }
        let mut out = Vec::new();
        frame(&mut out, HEADERS, &block);
        frame(&mut out, DATA, bytes);
        send.write_all(&out).await?;
        let mut status = None;
        let mut body = Vec::new();
        while status.is_none() || body.len() < length {
            let Some(kind) = variable(&mut receive).await? else {
                break;
            };
            let size = variable(&mut receive).await?.context("half a frame")?;
            let mut payload = vec![0; usize::try_from(size)?];
            receive.read_exact(&mut payload).await?;
            match kind {
                HEADERS => status = Some(status_of(&payload)?),
                DATA => body.extend_from_slice(&payload),
                _ => {}
            }
        }
        Ok((status.context("no response")?, body))
    }
}

const DATA: u64 = 0;
const HEADERS: u64 = 1;

fn frame(out: &mut Vec<u8>, kind: u64, payload: &[u8]) {
    // Both as variable-length integers (RFC 9000, 16), the length in two bytes.
    out.push(kind as u8);
    out.extend_from_slice(&(payload.len() as u16 | 0x4000).to_be_bytes());
    out.extend_from_slice(payload);
}

/// An integer with a prefix of that many bits (RFC 7541, 5.1).
fn integer(out: &mut Vec<u8>, pattern: u8, bits: u32, value: usize) {
    let most = (1 << bits) - 1;
    if value < most {
        out.push(pattern | value as u8);
        return;
    }
    out.push(pattern | most as u8);
    let mut rest = value - most;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// A variable-length integer, or `None` at the stream's end.
async fn variable(receive: &mut RecvStream) -> anyhow::Result<Option<u64>> {
    let mut first = [0];
    if receive.read_exact(&mut first).await.is_err() {
        return Ok(None);
    }
    let mut value = u64::from(first[0] & 0x3f);
    let mut more = [0; 7];
    let more = &mut more[..(1 << (first[0] >> 6)) - 1];
    receive.read_exact(more).await?;
    for byte in more {
        value = value << 8 | u64::from(*byte);
    }
    Ok(Some(value))
}

/// The status of a field section that begins with an entry of the static table (RFC 9204,
/// appendix A), as that of a response does.
fn status_of(block: &[u8]) -> anyhow::Result<u16> {
    match block.get(2..4) {
        Some([0xd9, _]) => Ok(200),
        Some([0xff, 0x04]) => Ok(400),
        Some([0xff, 0x05]) => Ok(403),
        Some([0xff, 0x06]) => Ok(421),
        other => anyhow::bail!("a status of another form: {other:x?}"),
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
