//! The load: a fixed number of requests on a fixed number of connections, each answer checked.
//!
//! hyper's client on one thread. What is measured is Envoy's CPU time for a number of requests, so
//! the load need not outrun Envoy; that it nearly does is shown by how busy the worker was.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::{http1, http2};
use hyper::{Method, Request, Response, Uri, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

/// Where requests come from: outside the mesh of the measured policies.
pub const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 9, 1, 1));

/// How long a batch may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// What is asked, except for the authority.
#[derive(Debug, Clone)]
pub struct Ask {
    /// HTTP/2 with prior knowledge instead of HTTP/1.1.
    pub http2: bool,
    /// The path.
    pub path: &'static str,
    /// The body, sent with POST; without one it is a GET.
    pub body: Bytes,
    /// The status that every answer must have.
    pub status: u16,
    /// How many bytes the body of every answer must have.
    pub answer_bytes: usize,
}

/// Open connections to one listener.
#[derive(Debug)]
pub struct Connections {
    streams: Vec<Stream>,
    /// They drive the connections, and end with this value.
    _drivers: JoinSet<()>,
}

/// What sends one request at a time.
#[derive(Debug)]
enum Stream {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// How a batch went.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// From the first request to the end of the last answer.
    pub wall: Duration,
    /// Of each request, in nanoseconds, in no order.
    pub latencies: Vec<f64>,
}

impl Connections {
    /// Opens connections for `streams` requests at a time: over HTTP/1 one each, over HTTP/2 four
    /// share one.
    ///
    /// # Errors
    /// If nobody listens at `address`.
    pub async fn open(address: SocketAddr, http2: bool, streams: usize) -> anyhow::Result<Self> {
        let mut open = Vec::with_capacity(streams);
        let mut drivers = JoinSet::new();
        while open.len() < streams {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind(SocketAddr::new(SOURCE, 0))?;
            let stream = socket
                .connect(address)
                .await
                .with_context(|| format!("cannot connect to {address}"))?;
            stream.set_nodelay(true)?;
            let stream = TokioIo::new(stream);
            // The errors of a connection come out of its requests as well.
            if http2 {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
                drivers.spawn(async move {
                    let _ = connection.await;
                });
                let shared = (streams - open.len()).min(4);
                open.extend((0..shared).map(|_| Stream::Http2(sender.clone())));
            } else {
                let (sender, connection) = http1::handshake(stream).await?;
                drivers.spawn(async move {
                    let _ = connection.await;
                });
                open.push(Stream::Http1(sender));
            }
        }
        Ok(Self {
            streams: open,
            _drivers: drivers,
        })
    }

    /// Sends a request for each of `authorities`, as many at a time as there are streams, and takes
    /// the whole answers.
    ///
    /// # Errors
    /// If an answer is not as `ask` says, or none comes.
    pub async fn send(&mut self, ask: &Ask, authorities: &[Arc<str>]) -> anyhow::Result<Batch> {
        let count = self.streams.len();
        let mut tasks = JoinSet::new();
        let begin = Instant::now();
        for (number, mut stream) in self.streams.drain(..).enumerate() {
            let share: Vec<Arc<str>> = authorities
                .iter()
                .skip(number)
                .step_by(count)
                .cloned()
                .collect();
            let ask = ask.clone();
            tasks.spawn(async move {
                let latencies = stream.send_all(&ask, &share).await?;
                anyhow::Ok((stream, latencies))
            });
        }
        let mut batch = Batch::default();
        let all = async {
            while let Some(ended) = tasks.join_next().await {
                let (stream, latencies) = ended??;
                self.streams.push(stream);
                batch.latencies.extend(latencies);
            }
            anyhow::Ok(())
        };
        match tokio::time::timeout(DEADLINE, all).await {
            Ok(result) => result?,
            Err(_) => bail!("requests are unanswered after {} s", DEADLINE.as_secs()),
        }
        batch.wall = begin.elapsed();
        Ok(batch)
    }
}

impl Stream {
    async fn send_all(&mut self, ask: &Ask, authorities: &[Arc<str>]) -> anyhow::Result<Vec<f64>> {
        let mut latencies = Vec::with_capacity(authorities.len());
        for authority in authorities {
            let request = ask.request(authority)?;
            let begin = Instant::now();
            let response = match self {
                Self::Http1(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await?
                }
                Self::Http2(sender) => sender.send_request(request).await?,
            };
            let status = response.status().as_u16();
            let length = read(response).await?;
            latencies.push(begin.elapsed().as_nanos() as f64);
            if (status, length) != (ask.status, ask.answer_bytes) {
                bail!(
                    "{authority}{} was answered with status {status} and {length} bytes, not {} \
                     and {}",
                    ask.path,
                    ask.status,
                    ask.answer_bytes
                );
            }
        }
        Ok(latencies)
    }
}

impl Ask {
    fn request(&self, authority: &str) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(if self.body.is_empty() {
                Method::GET
            } else {
                Method::POST
            })
            .header(header::USER_AGENT, "meridian-bench")
            .header(header::ACCEPT, "*/*");
        request = if self.http2 {
            request.uri(
                Uri::builder()
                    .scheme("http")
                    .authority(authority)
                    .path_and_query(self.path)
                    .build()?,
            )
        } else {
            request.uri(self.path).header(header::HOST, authority)
        };
        Ok(request.body(Full::new(self.body.clone()))?)
    }
}

/// Takes a body frame by frame, without gathering it.
async fn read(response: Response<hyper::body::Incoming>) -> anyhow::Result<usize> {
    let mut body = response.into_body();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame?.data_ref().map_or(0, Bytes::len);
    }
    Ok(length)
}
