//! The admin interface of a running Envoy.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// How long one request to the admin may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Where an Envoy's admin listens. Each request opens a connection of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admin {
    address: SocketAddr,
}

impl Admin {
    /// The admin at `address`; nothing is asked yet.
    pub fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// The admin's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The body of `GET path`.
    ///
    /// # Errors
    /// If there is no answer in 10 s or its status is not 200; names path and status.
    pub async fn get(&self, path: &str) -> anyhow::Result<String> {
        self.expect_ok(Method::GET, path).await
    }

    /// The body of `POST path`, which is sent without a body.
    ///
    /// # Errors
    /// As [`Admin::get`].
    pub async fn post(&self, path: &str) -> anyhow::Result<String> {
        self.expect_ok(Method::POST, path).await
    }

    /// True if `GET /ready` says that Envoy is live: every listener and cluster is warm.
    ///
    /// # Errors
    /// If the admin does not answer.
    pub async fn is_ready(&self) -> anyhow::Result<bool> {
        let (status, _) = self.request(Method::GET, "/ready").await?;
        Ok(status == StatusCode::OK)
    }

    /// The bound address of the listener called `name`, with the port that the kernel chose.
    ///
    /// # Errors
    /// If there is no such listener (the error lists those there are), or it listens on a pipe.
    pub async fn listener_address(&self, name: &str) -> anyhow::Result<SocketAddr> {
        let text = self.get("/listeners?format=json").await?;
        find_listener(&text, name)
    }

    async fn expect_ok(&self, method: Method, path: &str) -> anyhow::Result<String> {
        let (status, body) = self.request(method.clone(), path).await?;
        if status != StatusCode::OK {
            bail!(
                "Envoy's admin answers {method} {path} with {status}: {}",
                body.trim()
            );
        }
        Ok(body)
    }

    async fn request(&self, method: Method, path: &str) -> anyhow::Result<(StatusCode, String)> {
        let what = format!("{method} {path} at Envoy's admin {}", self.address);
        match tokio::time::timeout(REQUEST_TIMEOUT, self.exchange(method, path)).await {
            Ok(answer) => answer.context(what),
            Err(_) => bail!("{what}: no answer in {} s", REQUEST_TIMEOUT.as_secs()),
        }
    }

    async fn exchange(&self, method: Method, path: &str) -> anyhow::Result<(StatusCode, String)> {
        let stream = TcpStream::connect(self.address).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Its errors come out of the request as well.
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.address.to_string())
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        connection.abort();
        Ok((status, String::from_utf8(body.into())?))
    }
}

/// Finds a listener in the answer of `/listeners?format=json`.
fn find_listener(text: &str, name: &str) -> anyhow::Result<SocketAddr> {
    let listeners: Value = serde_json::from_str(text).context("/listeners is not JSON")?;
    let listeners = match &listeners["listener_statuses"] {
        Value::Array(listeners) => listeners.as_slice(),
        _ => &[],
    };
    let Some(listener) = listeners.iter().find(|listener| listener["name"] == name) else {
        let names: Vec<&str> = listeners
            .iter()
            .filter_map(|listener| listener["name"].as_str())
            .collect();
        bail!(
            "Envoy has no listener `{name}`, only [{}]",
            names.join(", ")
        );
    };
    let socket = &listener["local_address"]["socket_address"];
    let address = socket["address"]
        .as_str()
        .and_then(|address| address.parse().ok());
    let port = socket["port_value"]
        .as_u64()
        .and_then(|port| u16::try_from(port).ok());
    match (address, port) {
        (Some(address), Some(port)) => Ok(SocketAddr::new(address, port)),
        _ => bail!(
            "the listener `{name}` is not on an IP address but on {}",
            listener["local_address"]
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTENERS: &str = r#"{"listener_statuses": [
        {"name": "v4", "local_address": {"socket_address": {"address": "127.1.0.1", "port_value": 4242}}},
        {"name": "v6", "local_address": {"socket_address": {"address": "::1", "port_value": 4243}}},
        {"name": "pipe", "local_address": {"pipe": {"path": "/run/envoy.sock"}}}
    ]}"#;

    #[test]
    fn a_listener_is_found_by_name() {
        let address = |name| find_listener(LISTENERS, name).unwrap().to_string();
        assert_eq!(address("v4"), "127.1.0.1:4242");
        assert_eq!(address("v6"), "[::1]:4243");
    }

    #[test]
    fn a_listener_without_an_ip_address_is_an_error_that_says_what_there_is() {
        let error = |text, name| find_listener(text, name).unwrap_err().to_string();
        assert_eq!(
            error(LISTENERS, "v5"),
            "Envoy has no listener `v5`, only [v4, v6, pipe]"
        );
        assert_eq!(error("{}", "v4"), "Envoy has no listener `v4`, only []");
        assert!(error(LISTENERS, "pipe").ends_with(r#"on {"pipe":{"path":"/run/envoy.sock"}}"#));
    }
}
