//! Where a proxy is scraped, and the scrape.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::bail;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use meridian_metrics::METRICS;
use tokio::net::TcpStream;

use crate::lab::prometheus::Samples;

/// What is asked for where an address has no path. Envoy leaves out the stats that do not match:
/// a proxy of a large mesh has a hundred thousand of them.
const PATH: &str = "/stats/prometheus?filter=meridian_";

/// What tells an Envoy from other servers, where it has no filter: part of a stat of each.
const ENVOY: &str = "/stats/prometheus?filter=server.live";

/// The largest answer that is read: two hundred times what the filters' own metrics take.
const LIMIT: usize = 16 << 20;

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
    /// If there is no complete answer that is read within `deadline`, its status is not 200, one of our
    /// lines in it is not of the Prometheus text format, or there is none: then it says what that is.
    pub(super) async fn scrape(&self, deadline: Duration) -> anyhow::Result<Samples> {
        let end = Instant::now() + deadline;
        match tokio::time::timeout(deadline, self.read(end)).await {
            Ok(samples) => samples,
            Err(_) => bail!("no answer in {deadline:?}"),
        }
    }

    async fn read(&self, end: Instant) -> anyhow::Result<Samples> {
        let text = self.get(&self.path).await?;
        let lines: Lines = tokio::task::spawn_blocking(move || Lines::of(&text)).await?;
        if lines.are_plain {
            return Err(WrongTarget::Unlabelled.into());
        }
        if !lines.ours.is_empty() {
            let ours = lines.ours;
            // The timeout cannot end what runs on another thread.
            let samples =
                tokio::task::spawn_blocking(move || Samples::parse_until(&ours, end)).await?;
            return samples.map_err(|error| WrongTarget::Unreadable(format!("{error:#}")).into());
        }
        let is_envoy = lines.are_envoys
            || self.path == PATH
                && self
                    .get(ENVOY)
                    .await
                    .is_ok_and(|text| Lines::of(&text).are_envoys);
        Err(match is_envoy {
            true => WrongTarget::Unfiltered.into(),
            false => WrongTarget::Foreign.into(),
        })
    }

    async fn get(&self, path: &str) -> anyhow::Result<String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Its errors come out of the request as well.
        let connection = tokio::spawn(connection);
        let request = Request::get(path)
            .header(header::HOST, format!("{}:{}", self.host, self.port))
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        if status != StatusCode::OK {
            let why = format!("it answers with {status}: is this the right port and path?");
            return Err(WrongTarget::Unreadable(why).into());
        }
        let body = Limited::new(response.into_body(), LIMIT).collect().await;
        connection.abort();
        let body = body.map_err(|error| match error.is::<LengthLimitError>() {
            true => {
                let why = format!("its answer is larger than {} MB", LIMIT >> 20);
                WrongTarget::Unreadable(why).into()
            }
            false => anyhow::anyhow!("the answer broke off: {error}"),
        })?;
        Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
    }
}

/// A target that answers, and not with what a proxy with a filter has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WrongTarget {
    /// What is not read, and why.
    Unreadable(String),
    /// Something else than an Envoy.
    Foreign,
    /// An Envoy without the filter.
    Unfiltered,
    /// An Envoy that has not been told which part of a stat's name is a label.
    Unlabelled,
}

impl WrongTarget {
    /// The same in two words.
    pub(super) fn title(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "BAD ANSWER",
            Self::Foreign => "NO PROXY",
            Self::Unfiltered => "NO FILTER",
            Self::Unlabelled => "NO LABELS",
        }
    }
}

impl fmt::Display for WrongTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable(why) => why,
            Self::Foreign => {
                "no metrics of an Envoy: is this the right port and path? Envoy's admin has \
                 /stats/prometheus, and so has port 15090 of Istio's proxies"
            }
            Self::Unfiltered => {
                "an Envoy without the filter: attach it, or look into its log if it should have one"
            }
            Self::Unlabelled => {
                "the labels are still in the metrics' names: give Envoy the `stats_tags` that `meridian \
                 render envoy` writes, or Istio the `extraStatTags` of `meridian render istio`"
            }
        })
    }
}

impl std::error::Error for WrongTarget {}

/// What the lines of an answer are.
struct Lines {
    /// Those of our metrics. Whatever else is served there need not be read.
    ours: String,
    /// Whether our metrics are there under Envoy's own names for them.
    are_plain: bool,
    /// Whether an Envoy's other metrics are there.
    are_envoys: bool,
}

impl Lines {
    fn of(text: &str) -> Self {
        let mut lines = Self {
            ours: String::new(),
            are_plain: false,
            are_envoys: false,
        };
        for line in text
            .split_inclusive('\n')
            .filter(|line| !line.starts_with('#'))
        {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            if line.starts_with("meridian_") || line.starts_with("{\"meridian_") {
                lines.ours.push_str(line);
            } else if METRICS.iter().any(|metric| name.contains(metric.name)) {
                // The labels come first in the name of a stat.
                lines.are_plain = true;
            } else if name.starts_with("envoy_") {
                lines.are_envoys = true;
            }
        }
        lines
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
