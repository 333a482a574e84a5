//! The upstream: a server in this process, on the load's CPU, that takes a whole request before it
//! answers, as long as the request's body was.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};

use super::variants::{ECHO, SMALL, TAG};

/// A running upstream; it ends with this value.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    accepting: AbortHandle,
}

impl Upstream {
    /// Starts it on a port of the kernel's choice.
    ///
    /// # Errors
    /// If this machine has no loopback network.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("cannot start the upstream")?;
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(accept(listener)).abort_handle();
        Ok(Self { address, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener) {
    // Connections end with this set, which ends with the task.
    let mut connections = JoinSet::new();
    // Without a socket to accept Envoy answers 503, and the run ends with that.
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(async move {
            if stream.set_nodelay(true).is_ok() {
                // A connection that breaks off is seen by who sent the request.
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(answer))
                    .await;
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let tag = request.headers().get(TAG).cloned();
    let body = request.into_body().collect().await;
    let body = match body.map(http_body_util::Collected::to_bytes) {
        Ok(body) if !body.is_empty() => body,
        Ok(_) | Err(_) => Bytes::from_static(SMALL.as_bytes()),
    };
    let mut response = Response::new(Full::new(body));
    if let Some(tag) = tag {
        response.headers_mut().insert(ECHO, tag);
    }
    Ok(response)
}
