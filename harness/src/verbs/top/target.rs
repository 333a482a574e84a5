//! Where a proxy is scraped, and the scrape.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::lab::prometheus::Samples;

/// What is asked for where an address has no path. Envoy leaves out the stats that do not match:
/// a proxy of a large mesh has a hundred thousand of them.
const PATH: &str = "/stats/prometheus?filter=meridian_";

/// The largest answer that is read: a thousand times what the filters' own metrics take.
const LIMIT: usize = 64 << 20;

/// An address to scrape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrapeTarget {
    host: String,
    port: u16,
    path: String,
    /// As it is shown.
    name: String,
}

impl fmt::Display for ScrapeTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl FromStr for ScrapeTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "write HOST:PORT or http://HOST:PORT/PATH, such as 127.0.0.1:15000";
        if text.starts_with("https://") {
            return Err(format!(
                "Envoy's admin and Istio's metrics have no TLS; {FORM}"
            ));
        }
        let (uri, is_url) = match text.contains("://") {
            true => (text.parse::<Uri>(), true),
            false => (format!("http://{text}").parse::<Uri>(), false),
        };
        let uri = uri.map_err(|error| format!("{error}; {FORM}"))?;
        let Some(authority) = uri.authority().filter(|authority| {
            uri.scheme_str() == Some("http")
                && !authority.host().is_empty()
                && !authority.as_str().contains('@')
        }) else {
            return Err(FORM.to_owned());
        };
        let port = match (authority.port_u16(), is_url) {
            (Some(port), _) => port,
            (None, true) => 80,
            (None, false) => return Err(format!("the port is missing; {FORM}")),
        };
        let path = match uri.path_and_query().map(|path| path.as_str()) {
            None | Some("" | "/") => PATH.to_owned(),
            Some(path) => path.to_owned(),
        };
        let name = match path == PATH {
            true => format!("{}:{port}", authority.host()),
            false => format!("{}:{port}{path}", authority.host()),
        };
        Ok(Self {
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port,
            path,
            name,
        })
    }
}

impl ScrapeTarget {
    /// The filters' metrics of the proxy.
    ///
    /// # Errors
    /// If there is no complete answer within `deadline`, its status is not 200, or one of our lines
    /// in it is not of the Prometheus text format.
    pub(super) async fn scrape(&self, deadline: Duration) -> anyhow::Result<Samples> {
        let text = match tokio::time::timeout(deadline, self.get()).await {
            Ok(text) => text?,
            Err(_) => bail!("no answer in {deadline:?}"),
        };
        // Whatever else is served there need not be read, and may be of a newer format.
        let ours: String = text
            .split_inclusive('\n')
            .filter(|line| line.starts_with("meridian_"))
            .collect();
        Samples::parse(&ours)
    }

    async fn get(&self) -> anyhow::Result<String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Its errors come out of the request as well.
        let connection = tokio::spawn(connection);
        let request = Request::get(&self.path)
            .header(header::HOST, format!("{}:{}", self.host, self.port))
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        if status != StatusCode::OK {
            bail!("it answers with {status}: is this the right port and path?");
        }
        let body = Limited::new(response.into_body(), LIMIT).collect().await;
        connection.abort();
        let body = body
            .map_err(|error| anyhow::anyhow!("{error}"))
            .context("the answer broke off")?;
        Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_have_a_scheme_and_a_path() {
        for (text, host, port, path, name) in [
            (
                "127.0.0.1:15000",
                "127.0.0.1",
                15000,
                PATH,
                "127.0.0.1:15000",
            ),
            ("[::1]:15000", "::1", 15000, PATH, "[::1]:15000"),
            ("http://shop.pod", "shop.pod", 80, PATH, "shop.pod:80"),
            ("http://shop:9/", "shop", 9, PATH, "shop:9"),
            (
                "shop:15020/metrics?a=b",
                "shop",
                15020,
                "/metrics?a=b",
                "shop:15020/metrics?a=b",
            ),
        ] {
            let target: ScrapeTarget = text.parse().unwrap();
            assert_eq!(
                (&*target.host, target.port, &*target.path),
                (host, port, path)
            );
            assert_eq!(target.to_string(), name);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_to_write() {
        for text in [
            "",
            "shop",
            "https://shop:9",
            "ftp://shop:9",
            "a b:9",
            "me@shop:9",
            "shop:99999",
        ] {
            let error = text.parse::<ScrapeTarget>().unwrap_err();
            assert!(error.contains("write HOST:PORT"), "{text}: {error}");
        }
    }
}
