//! A client for the demo and the tests: who it is and what it sends are the caller's choice.
//!
//! Each request has a connection of its own, so nothing is left over from an earlier one.

use std::net::{IpAddr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::time::Duration;

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpSocket, UnixStream};

use super::raw;
use super::reply::Reply;
use super::stream::Stream;
use super::tls::Tls;
use crate::lab::config::Address;
use crate::lab::namespaces::Network;

/// How long a request may take, from the connection to the end of the body, unless told.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// A request and the client that sends it.
#[derive(Debug, Clone)]
pub struct Call {
    target: Address,
    source: Option<IpAddr>,
    network: Option<Network>,
    tls: Option<Tls>,
    http2: bool,
    deadline: Duration,
    method: Method,
    path: String,
    authority: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Call {
    /// `GET /` over HTTP/1.1 to `target`, with `authority` as `Host`.
    pub fn new(target: impl Into<Address>, authority: &str) -> Self {
        Self {
            target: target.into(),
            source: None,
            network: None,
            tls: None,
            http2: false,
            deadline: DEADLINE,
            method: Method::GET,
            path: "/".to_owned(),
            authority: authority.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Connects from `source`, an address of this machine. Without effect on a unix socket.
    pub fn from(mut self, source: impl Into<IpAddr>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Connects from another network than this process's.
    pub fn in_network(mut self, network: &Network) -> Self {
        self.network = Some(network.clone());
        self
    }

    /// Connects by TLS; the protocol is still [`Call::http2`]'s choice, and offered by ALPN.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Speaks HTTP/2, over plaintext with prior knowledge. The authority must then be one that
    /// a URI can hold.
    pub fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// Sends another method. CONNECT has no path; its target is the authority.
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// Asks for another path, with its query.
    pub fn path(mut self, path: &str) -> Self {
        self.path = path.to_owned();
        self
    }

    /// Adds a header; one name may come several times.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers
            .push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Sends a body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Allows the whole exchange another time than [`DEADLINE`].
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sends the request and reads the whole response.
    ///
    /// # Errors
    /// If there is no complete response in time; names the authority and the target.
    pub async fn send(&self) -> anyhow::Result<Reply> {
        let exchange = async {
            let stream = self.connect().await?;
            self.exchange(stream).await
        };
        self.in_time(exchange).await
    }

    /// Sends exactly `bytes` over HTTP/1, instead of what the other methods describe, and reads
    /// the response to them.
    ///
    /// # Errors
    /// As [`Call::send`], and if the answer is not HTTP/1.
    pub async fn send_raw(&self, bytes: &[u8]) -> anyhow::Result<Reply> {
        let exchange = async {
            let mut stream = self.connect().await?;
            match raw::exchange(&mut *stream, bytes).await? {
                raw::Answer::Response(response) => Ok(response.into()),
                raw::Answer::Reset(why) => bail!("no response: {why}"),
            }
        };
        self.in_time(exchange).await
    }

    async fn in_time(
        &self,
        exchange: impl Future<Output = anyhow::Result<Reply>>,
    ) -> anyhow::Result<Reply> {
        let what = || format!("{} {} at {}", self.method, self.authority, self.target);
        match tokio::time::timeout(self.deadline, exchange).await {
            Ok(reply) => reply.with_context(what),
            Err(_) => bail!("{}: no answer in {:?}", what(), self.deadline),
        }
    }

    /// The connection as a byte stream, with TLS on it if asked for: for callers that speak their
    /// own protocol. The deadline is theirs too.
    ///
    /// # Errors
    /// If the connection or the TLS handshake fails.
    pub async fn connect(&self) -> anyhow::Result<Box<dyn Stream>> {
        let stream: Box<dyn Stream> = match &self.target {
            Address::Socket(address) => Box::new(self.connect_tcp(*address).await?),
            Address::Pipe(path) => Box::new(connect_pipe(path)?),
            Address::Name(name, _) => bail!("{name} is not an address"),
        };
        let Some(tls) = &self.tls else {
            return Ok(stream);
        };
        let protocol: &[u8] = if self.http2 { b"h2" } else { b"http/1.1" };
        let stream = tls.handshake(stream, protocol).await?;
        Ok(Box::new(stream))
    }

    async fn connect_tcp(&self, target: SocketAddr) -> anyhow::Result<tokio::net::TcpStream> {
        let create = if target.is_ipv4() {
            TcpSocket::new_v4
        } else {
            TcpSocket::new_v6
        };
        let socket = match &self.network {
            Some(network) => network.enter(create)?,
            None => create()?,
        };
        if let Some(source) = self.source {
            socket
                .bind(SocketAddr::new(source, 0))
                .with_context(|| format!("cannot connect from {source}"))?;
        }
        socket
            .connect(target)
            .await
            .with_context(|| format!("cannot connect to {target}"))
    }

    async fn exchange(&self, stream: Box<dyn Stream>) -> anyhow::Result<Reply> {
        let request = self.request()?;
        let io = TokioIo::new(stream);
        let (response, connection) = if self.http2 {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
            let connection = Abort(tokio::spawn(async move { drop(connection.await) }));
            (sender.send_request(request).await?, connection)
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
            let connection = Abort(tokio::spawn(async move { drop(connection.await) }));
            (sender.send_request(request).await?, connection)
        };
        let (head, body) = response.into_parts();
        let tunnel = self.method == Method::CONNECT && head.status.is_success();
        let body = if tunnel {
            Bytes::new()
        } else {
            body.collect()
                .await
                .context("the body broke off")?
                .to_bytes()
        };
        drop(connection);
        Ok(Reply {
            status: head.status.as_u16(),
            headers: head
                .headers
                .iter()
                .map(|(name, value)| {
                    let value = String::from_utf8_lossy(value.as_bytes());
                    (name.to_string(), value.into_owned())
                })
                .collect(),
            body: body.to_vec(),
        })
    }

    fn request(&self) -> anyhow::Result<Request<Full<Bytes>>> {
        let connect = self.method == Method::CONNECT;
        let uri = match (connect, self.http2) {
            (true, _) => self.authority.clone(),
            (false, true) => format!("http://{}{}", self.authority, self.path),
            (false, false) => self.path.clone(),
        };
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(uri)
            .body(Full::from(self.body.clone()))
            .with_context(|| format!("`{}` cannot be sent; send_raw can", self.authority))?;
        if !self.http2 {
            request.headers_mut().insert(
                hyper::header::HOST,
                HeaderValue::from_bytes(self.authority.as_bytes())?,
            );
        }
        for (name, value) in &self.headers {
            request.headers_mut().append(
                HeaderName::from_bytes(name.as_bytes())?,
                HeaderValue::from_bytes(value)?,
            );
        }
        Ok(request)
    }
}

/// Ends a connection's task with the request.
struct Abort(tokio::task::JoinHandle<()>);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn connect_pipe(path: &str) -> anyhow::Result<UnixStream> {
    let address = match path.strip_prefix('@') {
        Some(name) => std::os::unix::net::SocketAddr::from_abstract_name(name)?,
        None => std::os::unix::net::SocketAddr::from_pathname(path)?,
    };
    let stream = std::os::unix::net::UnixStream::connect_addr(&address)
        .with_context(|| format!("cannot connect to {path}"))?;
    stream.set_nonblocking(true)?;
    Ok(UnixStream::from_std(stream)?)
}
