//! The workloads and the outside world: servers in this process that answer with what they saw.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::certificates::Identity;
use super::client::Call;
use super::stream::Stream;

/// A request as a server saw it; also the body of the server's answer.
///
/// Bytes that are not UTF-8 are replaced by U+FFFD.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// The server's name, such as `shop` or `api.partner.example`.
    pub server: String,
    /// The method.
    pub method: String,
    /// `:authority`, or the `Host` header of HTTP/1.
    pub authority: String,
    /// The path with its query; empty for CONNECT.
    pub path: String,
    /// Every header in its order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The address and port of whoever connected.
    pub peer: SocketAddr,
}

impl Arrival {
    /// The values of the header `name` (in lower case), in their order.
    pub fn header(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }
}

const ACCEPT_RETRY: Duration = Duration::from_millis(10);

/// How many arrivals are kept; a topology may run for days with nobody taking any.
const KEPT: usize = 10_000;

/// What all servers of a topology have seen and nobody has taken yet: the latest 10,000.
#[derive(Debug, Clone, Default)]
pub struct Arrivals(Arc<Mutex<VecDeque<Arrival>>>);

impl Arrivals {
    /// Takes everything, oldest first.
    pub fn take(&self) -> Vec<Arrival> {
        std::mem::take(&mut *self.lock()).into()
    }

    /// Takes what `wanted` says, oldest first, and leaves the rest: for callers that share a
    /// topology and mark their requests.
    pub fn take_where(&self, wanted: impl Fn(&Arrival) -> bool) -> Vec<Arrival> {
        let mut arrivals = self.lock();
        let (taken, left) = arrivals.drain(..).partition(|arrival| wanted(arrival));
        *arrivals = left;
        Vec::from(taken)
    }

    fn push(&self, arrival: Arrival) {
        let mut arrivals = self.lock();
        if arrivals.len() == KEPT {
            arrivals.pop_front();
        }
        arrivals.push_back(arrival);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Arrival>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The path below which a workload asks another host, `/fetch/HOST/PATH`.
pub const FETCH: &str = "/fetch/";

/// A server for HTTP/1 and, with prior knowledge, HTTP/2, on a port of the kernel's choice. It
/// ends with this value.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    accepting: AbortHandle,
}

impl Server {
    /// Starts the server `name`. A request is in `arrivals` before it is answered.
    ///
    /// # Errors
    /// If this machine has no such address.
    pub async fn start(name: &str, ip: Ipv4Addr, arrivals: Arrivals) -> anyhow::Result<Self> {
        Self::listen(name, ip, None, arrivals).await
    }

    /// Starts the server `name` for the same over TLS, as whoever `identity` names.
    ///
    /// # Errors
    /// If this machine has no such address, or the certificate is none for a server.
    pub async fn start_tls(
        name: &str,
        ip: Ipv4Addr,
        identity: &Identity,
        arrivals: Arrivals,
    ) -> anyhow::Result<Self> {
        let tls = super::tls::acceptor(identity)?;
        Self::listen(name, ip, Some(tls), arrivals).await
    }

    async fn listen(
        name: &str,
        ip: Ipv4Addr,
        tls: Option<TlsAcceptor>,
        arrivals: Arrivals,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((IpAddr::V4(ip), 0))
            .await
            .with_context(|| format!("cannot start the server `{name}` on {ip}"))?;
        Self::accept(listener, tls, Answers::of(name, arrivals, None))
    }

    /// Starts the server `name` on a socket that listens already, perhaps in another network; over
    /// TLS if there is an identity.
    ///
    /// # Errors
    /// If the socket is not to be had, or the certificate is none for a server.
    pub fn serve(
        name: &str,
        listener: std::net::TcpListener,
        identity: Option<&Identity>,
        arrivals: Arrivals,
    ) -> anyhow::Result<Self> {
        let answers = Answers::of(name, arrivals, None);
        Self::serve_answers(listener, identity, answers)
    }

    /// As [`Self::serve`], for a workload that asks another host when it is asked for
    /// `/fetch/HOST/PATH`, through the proxy `outbound`, and answers with what it got.
    ///
    /// # Errors
    /// As [`Self::serve`].
    pub fn serve_workload(
        name: &str,
        listener: std::net::TcpListener,
        arrivals: Arrivals,
        outbound: SocketAddr,
    ) -> anyhow::Result<Self> {
        let answers = Answers::of(name, arrivals, Some(outbound));
        Self::serve_answers(listener, None, answers)
    }

    fn serve_answers(
        listener: std::net::TcpListener,
        identity: Option<&Identity>,
        answers: Answers,
    ) -> anyhow::Result<Self> {
        listener.set_nonblocking(true)?;
        let tls = identity.map(super::tls::acceptor).transpose()?;
        Self::accept(TcpListener::from_std(listener)?, tls, answers)
    }

    fn accept(
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
        answers: Answers,
    ) -> anyhow::Result<Self> {
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(accept(listener, tls, answers)).abort_handle();
        Ok(Self { address, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// What a server answers with.
#[derive(Debug, Clone)]
struct Answers {
    server: Arc<str>,
    arrivals: Arrivals,
    /// Where the server's own requests go, if it makes any.
    outbound: Option<SocketAddr>,
}

impl Answers {
    fn of(server: &str, arrivals: Arrivals, outbound: Option<SocketAddr>) -> Self {
        Self {
            server: server.into(),
            arrivals,
            outbound,
        }
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, answers: Answers) {
    // Connections end with this set, which ends with the task.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // Most likely out of file descriptors: asking again at once would only burn a core.
            tokio::time::sleep(ACCEPT_RETRY).await;
            continue;
        };
        let (answers, tls) = (answers.clone(), tls.clone());
        connections.spawn(async move {
            let stream: Box<dyn Stream> = match tls {
                None => Box::new(stream),
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => Box::new(stream),
                    // The caller sees that its handshake failed.
                    Err(_) => return,
                },
            };
            let service = service_fn(move |request| answer(request, peer, answers.clone()));
            // A connection that breaks off is the caller's business; what arrived is recorded.
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection_with_upgrades(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(
    request: Request<Incoming>,
    peer: SocketAddr,
    answers: Answers,
) -> anyhow::Result<Response<Full<Bytes>>> {
    let lossy = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let headers = request.headers();
    let authority = match (request.uri().authority(), headers.get(header::HOST)) {
        (Some(authority), _) => authority.to_string(),
        (None, Some(host)) => lossy(host.as_bytes()),
        (None, None) => String::new(),
    };
    let arrival = Arrival {
        server: answers.server.to_string(),
        method: request.method().to_string(),
        authority,
        path: request
            .uri()
            .path_and_query()
            .map_or_else(String::new, ToString::to_string),
        headers: headers
            .iter()
            .map(|(name, value)| (name.to_string(), lossy(value.as_bytes())))
            .collect(),
        peer,
    };
    let mut body = serde_json::to_vec(&arrival)?;
    body.push(b'\n');
    let connect = request.method() == hyper::Method::CONNECT;
    let onward = answers.outbound.zip(onward(&arrival.path));
    answers.arrivals.push(arrival);
    if connect {
        // The tunnel that this opens ends at once: what is inside is nobody's subject here.
        return Ok(Response::new(Full::default()));
    }
    // An answer before the end of the request's body would make Envoy reset the connection.
    request.into_body().collect().await?;
    if let Some((outbound, (host, path))) = onward {
        return Ok(fetch(outbound, &host, &path).await);
    }
    Ok(Response::builder()
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::from(body))?)
}

/// The host and the path that a workload is asked to fetch.
fn onward(path: &str) -> Option<(String, String)> {
    let wanted = path.strip_prefix(FETCH)?;
    let (host, path) = wanted.split_once('/').unwrap_or((wanted, ""));
    Some((host.to_owned(), format!("/{path}")))
}

/// What came back from another host, or 502 with the reason.
async fn fetch(outbound: SocketAddr, host: &str, path: &str) -> Response<Full<Bytes>> {
    let call = Call::new(outbound, host).path(path);
    let (status, body) = match call.send().await {
        Ok(reply) => (reply.status, reply.body),
        Err(error) => (502, format!("{error:#}\n").into_bytes()),
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    response
}
