//! What stands behind the gateway: a server for HTTP/1.1 and HTTP/2, and the end of tunnels.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::ext::Protocol;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// What both servers say first in a tunnel; after it they send back what they receive.
pub(crate) const GREETING: &[u8] = b"hello from the other end\n";

/// The path of a page that loads [`SCRIPT`] from `api.example.com`, at the port it came from itself.
pub(crate) const PAGE: &str = "/page";
/// The path of a script, which writes [`SCRIPT_RAN`] into its page.
pub(crate) const SCRIPT: &str = "/script.js";
/// What a page says whose script was served.
pub(crate) const SCRIPT_RAN: &str = "the script ran";

/// A request as it reached the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arrived {
    /// `METHOD AUTHORITY PATH`, such as `GET shop.example.com /first`.
    pub(crate) what: String,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The body as text; empty where a tunnel begins.
    pub(crate) body: String,
    /// The trailers.
    pub(crate) trailers: HeaderMap,
}

#[derive(Debug, Default)]
struct Record {
    connections: AtomicUsize,
    arrived: Mutex<Vec<Arrived>>,
}

/// A server on a port of the kernel's choice; it ends with this value.
#[derive(Debug)]
pub(crate) struct Upstream {
    address: SocketAddr,
    record: Arc<Record>,
    accepting: JoinHandle<()>,
}

impl Upstream {
    /// Answers `METHOD AUTHORITY PATH BODY` to every request, as a gRPC message with trailers if
    /// the request is gRPC; agrees to every upgrade and CONNECT.
    pub(crate) async fn http() -> anyhow::Result<Self> {
        Self::start(serve_http).await
    }

    /// The end of tunnels, for bytes of any protocol.
    pub(crate) async fn tunnel_end() -> anyhow::Result<Self> {
        Self::start(|stream, _| async move { echo(stream).await }).await
    }

    async fn start<S>(
        serve: impl Fn(TcpStream, Arc<Record>) -> S + Send + 'static,
    ) -> anyhow::Result<Self>
    where
        S: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let record = Arc::<Record>::default();
        let shared = Arc::clone(&record);
        let accepting = tokio::spawn(async move {
            // Dropped with this task, and all connections with it.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                connections.spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Ok(Self {
            address,
            record,
            accepting,
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has accepted.
    pub(crate) fn connections(&self) -> usize {
        self.record.connections.load(Ordering::SeqCst)
    }

    /// What has arrived since it was last asked. A request is here before it is answered.
    pub(crate) fn take(&self) -> Vec<Arrived> {
        let arrived = &self.record.arrived;
        std::mem::take(&mut *arrived.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve_http(stream: TcpStream, record: Arc<Record>) {
    let service = service_fn(|request| record_and_reply(request, Arc::clone(&record)));
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http2().enable_connect_protocol();
    // How a connection ends is what the tests look at from the other side.
    let _ = server
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await;
}

type Body = BoxBody<Bytes, std::convert::Infallible>;

/// Keeps what has arrived and answers as [`Upstream::http`] says.
async fn record_and_reply(
    mut request: Request<Incoming>,
    record: Arc<Record>,
) -> anyhow::Result<Response<Body>> {
    let authority = match request.uri().authority() {
        Some(authority) => authority.to_string(),
        None => {
            let host = request.headers().get("host");
            String::from_utf8_lossy(host.map_or(b"", |host| host.as_bytes())).into_owned()
        }
    };
    let what = format!("{} {authority} {}", request.method(), request.uri().path());
    let protocol = request.headers().get(UPGRADE).cloned();
    let is_extended = request.extensions().get::<Protocol>().is_some();
    let is_tunnel = protocol.is_some() || request.method() == Method::CONNECT;
    let (body, trailers) = if is_tunnel {
        (Bytes::new(), HeaderMap::new())
    } else {
        let collected = request.body_mut().collect().await?;
        let trailers = collected.trailers().cloned().unwrap_or_default();
        (collected.to_bytes(), trailers)
    };
    let body = String::from_utf8_lossy(&body).into_owned();
    let text = format!("{what} {body}\n");
    record
        .arrived
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(Arrived {
            what,
            headers: request.headers().clone(),
            body,
            trailers,
        });
    if is_tunnel {
        return Ok(tunnel(request, protocol, is_extended));
    }
    let kind = request.headers().get(CONTENT_TYPE);
    if kind.is_some_and(|kind| kind == "application/grpc") {
        return Ok(grpc(&text));
    }
    let (kind, text) = match request.uri().path() {
        PAGE => ("text/html", page(&authority)),
        SCRIPT => ("text/javascript", format!("document.write('{SCRIPT_RAN}')")),
        _ => ("text/plain", text),
    };
    Ok(Response::builder()
        .header(CONTENT_TYPE, kind)
        .body(Full::from(text).boxed())?)
}

fn tunnel(
    request: Request<Incoming>,
    protocol: Option<HeaderValue>,
    is_extended: bool,
) -> Response<Body> {
    let is_http1 = request.version() == Version::HTTP_11;
    tokio::spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(request).await {
            echo(TokioIo::new(upgraded)).await;
        }
    });
    let mut response = Response::new(Full::default().boxed());
    if let (Some(protocol), true, false) = (protocol, is_http1, is_extended) {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
    response
}

fn page(authority: &str) -> String {
    let port = authority.rsplit(':').next().unwrap_or_default();
    // Without an icon of its own a browser asks for one.
    format!(
        "<!doctype html><link rel=icon href='data:,'>\
         <script src='https://api.example.com:{port}{SCRIPT}'></script>"
    )
}

/// One message, and the status OK in trailers.
fn grpc(text: &str) -> Response<Body> {
    let mut message = vec![0];
    message.extend((text.len() as u32).to_be_bytes());
    message.extend(text.as_bytes());
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::from(message).with_trailers(async { Some(Ok(trailers)) });
    let mut response = Response::new(body.boxed());
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut buffer = [0; 4096];
    let mut pending: &[u8] = GREETING;
    while stream.write_all(pending).await.is_ok() && stream.flush().await.is_ok() {
        match stream.read(&mut buffer).await {
            Ok(length) if length > 0 => pending = &buffer[..length],
            _ => break,
        }
    }
    let _ = stream.shutdown().await;
}
