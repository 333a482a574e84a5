//! HTTP/1 that tidies nothing: exact bytes out, one response in.

use std::io::ErrorKind;

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::stream::Stream;

/// No response is longer, in bytes.
pub const MAX_RESPONSE: usize = 1 << 20;

/// A response as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The headers in their order, names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body; empty where a tunnel begins.
    pub body: Vec<u8>,
}

impl Response {
    /// The first value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_slice())
    }
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A response.
    Response(Response),
    /// None: the peer reset the stream or gave the connection up; says how.
    Reset(String),
}

/// Writes `request` and reads one response, see [`Reader::response`]. The deadline is the caller's.
///
/// # Errors
/// If what arrives is not HTTP/1, or ends in the middle.
pub async fn exchange(stream: &mut dyn Stream, request: &[u8]) -> anyhow::Result<Answer> {
    // A server that refuses early closes before it has read all; its answer is there to read.
    let _ = stream.write_all(request).await;
    let _ = stream.flush().await;
    let method = request.split(|byte| *byte == b' ').next();
    Reader::new(stream)
        .response(method.unwrap_or_default())
        .await
}

/// The server's side of a connection, on which several responses may come. It waits for as long as
/// it takes: the deadline is the caller's.
pub struct Reader<'s> {
    stream: &'s mut dyn Stream,
    buffer: Vec<u8>,
}

impl<'s> Reader<'s> {
    /// Nothing of the connection has been read yet.
    pub fn new(stream: &'s mut dyn Stream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Sends exactly `bytes`.
    ///
    /// # Errors
    /// If the server has closed the connection.
    pub async fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// The next response to a request with `method`: as long as it says it is, or to the
    /// connection's end. Of a tunnel nothing is read. Passes 100 and 103 over.
    ///
    /// # Errors
    /// If what arrives is not HTTP/1, or ends in the middle.
    pub async fn response(&mut self, method: &[u8]) -> anyhow::Result<Answer> {
        loop {
            if self.buffer.is_empty() && !self.more().await? {
                return Ok(Answer::Reset("the connection was closed".to_owned()));
            }
            let mut response = self.head().await?;
            // 100 and 103 announce the real one.
            if (100..200).contains(&response.status) && response.status != 101 {
                continue;
            }
            let is_tunnel = method == b"CONNECT" && (200..300).contains(&response.status);
            let is_bare = method == b"HEAD" || matches!(response.status, 101 | 204 | 304);
            if !is_tunnel && !is_bare {
                response.body = self.body(&response).await?;
            }
            return Ok(Answer::Response(response));
        }
    }

    /// True once the server has closed the connection without a further byte.
    ///
    /// # Errors
    /// If the connection fails other than by a reset.
    pub async fn is_at_end(&mut self) -> anyhow::Result<bool> {
        Ok(self.buffer.is_empty() && !self.more().await?)
    }

    /// Reads more; false at the end.
    async fn more(&mut self) -> anyhow::Result<bool> {
        ensure!(
            self.buffer.len() < MAX_RESPONSE,
            "the response is longer than {MAX_RESPONSE} bytes"
        );
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(count) => Ok(count > 0),
            // Without TLS' own end, or with unread bytes at the peer; what arrived before counts.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof
                ) =>
            {
                Ok(false)
            }
            Err(error) => Err(error).context("reading the response"),
        }
    }

    /// Takes the bytes before `end`, and `end` with them.
    async fn until(&mut self, end: &[u8]) -> anyhow::Result<Vec<u8>> {
        loop {
            let found = self
                .buffer
                .windows(end.len())
                .position(|window| window == end);
            if let Some(at) = found {
                let mut taken: Vec<u8> = self.buffer.drain(..at + end.len()).collect();
                taken.truncate(at);
                return Ok(taken);
            }
            ensure!(
                self.more().await?,
                "the connection ended inside a response: {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        }
    }

    /// The next `length` bytes, of a tunnel for example.
    ///
    /// # Errors
    /// If the connection ends before them.
    pub async fn exactly(&mut self, length: usize) -> anyhow::Result<Vec<u8>> {
        while self.buffer.len() < length {
            ensure!(self.more().await?, "the connection ended inside a body");
        }
        Ok(self.buffer.drain(..length).collect())
    }

    /// The next status line with its headers, 100 and 103 too.
    ///
    /// # Errors
    /// If what arrives is not HTTP/1, or ends in the middle.
    pub async fn head(&mut self) -> anyhow::Result<Response> {
        let head = self.until(b"\r\n\r\n").await?;
        let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let status_line = lines.next().unwrap_or_default();
        let shown = String::from_utf8_lossy(status_line);
        let status = shown
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.split(' ').nth(1))
            .and_then(|status| status.parse().ok())
            .with_context(|| format!("not a status line of HTTP/1: {shown:?}"))?;
        let headers = lines
            .map(|line| {
                let colon = line
                    .iter()
                    .position(|byte| *byte == b':')
                    .with_context(|| format!("not a header: {line:?}"))?;
                let (name, value) = line.split_at(colon);
                let name = String::from_utf8_lossy(name).to_ascii_lowercase();
                Ok((name, value[1..].trim_ascii().to_vec()))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Response {
            status,
            headers,
            body: Vec::new(),
        })
    }

    async fn body(&mut self, head: &Response) -> anyhow::Result<Vec<u8>> {
        if head
            .header("transfer-encoding")
            .is_some_and(|value| value.ends_with(b"chunked"))
        {
            return self.chunks().await;
        }
        if let Some(length) = head.header("content-length") {
            let length = std::str::from_utf8(length)?
                .parse()
                .context("content-length is not a number")?;
            return self.exactly(length).await;
        }
        while self.more().await? {}
        Ok(std::mem::take(&mut self.buffer))
    }

    async fn chunks(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.until(b"\r\n").await?;
            let line = String::from_utf8_lossy(&line);
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16)
                .with_context(|| format!("not a chunk's size: {line:?}"))?;
            ensure!(size <= MAX_RESPONSE, "a chunk of {size} bytes");
            body.extend(self.exactly(size).await?);
            if size == 0 {
                // Trailers end with an empty line.
                while !self.until(b"\r\n").await?.is_empty() {}
                return Ok(body);
            }
            self.until(b"\r\n").await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(request: &[u8], response: &[u8]) -> anyhow::Result<Answer> {
        let (mut client, mut server) = tokio::io::duplex(4096);
        server.write_all(response).await?;
        server.shutdown().await?;
        exchange(&mut client, request).await
    }

    async fn response(request: &[u8], response: &[u8]) -> Response {
        match read(request, response).await.unwrap() {
            Answer::Response(response) => response,
            Answer::Reset(why) => panic!("{why}"),
        }
    }

    const GET: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

    #[tokio::test]
    async fn the_body_ends_where_the_response_says() {
        for (bytes, body) in [
            (&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc"[..], "ab"),
            (b"HTTP/1.0 400 Bad\r\n\r\nto the end", "to the end"),
            (
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n2;x\r\nbc\r\n0\r\n\r\n",
                "abc",
            ),
            (
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na",
                "a",
            ),
        ] {
            assert_eq!(response(GET, bytes).await.body, body.as_bytes());
        }
    }

    #[tokio::test]
    async fn values_keep_their_bytes() {
        let response = response(GET, b"HTTP/1.1 204 No\r\nX-A:  \xff \r\n\r\n").await;
        assert_eq!(response.header("x-a"), Some(&b"\xff"[..]));
    }

    #[tokio::test]
    async fn a_tunnel_is_not_read() {
        let response = response(b"CONNECT a:1 HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nx").await;
        assert_eq!((response.status, response.body), (200, Vec::new()));
    }

    #[tokio::test]
    async fn nothing_is_a_reset_and_half_a_response_an_error() {
        assert!(matches!(read(GET, b"").await.unwrap(), Answer::Reset(_)));
        let error = read(GET, b"HTTP/1.1 200").await.unwrap_err().to_string();
        assert!(error.contains("HTTP/1.1 200"), "{error}");
    }
}
