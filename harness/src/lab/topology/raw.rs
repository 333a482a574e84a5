//! The response to raw bytes over HTTP/1, read by a parser that tidies nothing.

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::{Reply, Stream};

/// No response of a test is longer.
const MAX_RESPONSE: usize = 1 << 20;

/// Writes `bytes` and reads one response: to the length that it states, or to the end.
pub(super) async fn exchange(mut stream: Box<dyn Stream>, bytes: &[u8]) -> anyhow::Result<Reply> {
    // An Envoy that refuses early closes before it has read all, and its answer is there to read.
    let _ = stream.write_all(bytes).await;
    let _ = stream.flush().await;
    let method = bytes.split(|byte| *byte == b' ').next().unwrap_or_default();
    let mut reader = Reader {
        stream,
        buffer: Vec::new(),
    };
    loop {
        let mut reply = reader.head().await?;
        // 100 and 103 announce the real one.
        if (100..200).contains(&reply.status) && reply.status != 101 {
            continue;
        }
        let tunnel = method == b"CONNECT" && (200..300).contains(&reply.status);
        let bare = method == b"HEAD" || matches!(reply.status, 101 | 204 | 304);
        if !tunnel && !bare {
            reply.body = reader.body(&reply).await?;
        }
        return Ok(reply);
    }
}

struct Reader {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

impl Reader {
    /// Reads more; false at the end.
    async fn more(&mut self) -> anyhow::Result<bool> {
        ensure!(self.buffer.len() < MAX_RESPONSE, "the response has no end");
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(count) => Ok(count > 0),
            // An Envoy that refuses early may reset the connection after its answer.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(error).context("reading the response"),
        }
    }

    /// Takes the bytes before `end`, and `end` too.
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
            if !self.more().await? {
                bail!(
                    "the connection ended in the middle of a response: {:?}",
                    String::from_utf8_lossy(&self.buffer)
                );
            }
        }
    }

    async fn exactly(&mut self, length: usize) -> anyhow::Result<Vec<u8>> {
        while self.buffer.len() < length {
            ensure!(self.more().await?, "the connection ended inside a body");
        }
        Ok(self.buffer.drain(..length).collect())
    }

    async fn head(&mut self) -> anyhow::Result<Reply> {
        let head = self.until(b"\r\n\r\n").await?;
        let head = String::from_utf8_lossy(&head);
        let mut lines = head.split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let status = status_line
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.split(' ').nth(1))
            .and_then(|status| status.parse().ok())
            .with_context(|| format!("not a status line of HTTP/1: {status_line:?}"))?;
        let headers = lines
            .map(|line| {
                let (name, value) = line
                    .split_once(':')
                    .with_context(|| format!("not a header: {line:?}"))?;
                Ok((name.to_owned(), value.trim().to_owned()))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Reply {
            status,
            headers,
            body: Vec::new(),
        })
    }

    async fn body(&mut self, head: &Reply) -> anyhow::Result<Vec<u8>> {
        if head
            .header("transfer-encoding")
            .is_some_and(|value| value.ends_with("chunked"))
        {
            return self.chunks().await;
        }
        if let Some(length) = head.header("content-length") {
            let length = length.parse().context("content-length is not a number")?;
            return self.exactly(length).await;
        }
        while self.more().await? {}
        Ok(std::mem::take(&mut self.buffer))
    }

    async fn chunks(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let size = self.until(b"\r\n").await?;
            let size = String::from_utf8_lossy(&size);
            let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)
                .with_context(|| format!("not a chunk's size: {size:?}"))?;
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

    async fn read(request: &[u8], response: &[u8]) -> anyhow::Result<Reply> {
        let (client, mut server) = tokio::io::duplex(1024);
        server.write_all(response).await.unwrap();
        drop(server.shutdown().await);
        exchange(Box::new(client), request).await
    }

    #[tokio::test]
    async fn the_body_ends_where_the_response_says() {
        let body = |response: &'static [u8]| async move {
            read(b"GET / HTTP/1.1\r\n\r\n", response)
                .await
                .unwrap()
                .text()
        };
        assert_eq!(
            body(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc").await,
            "ab"
        );
        assert_eq!(
            body(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n2;x\r\nbc\r\n0\r\n\r\n").await,
            "abc"
        );
        assert_eq!(
            body(b"HTTP/1.0 400 Bad\r\n\r\nuntil the end").await,
            "until the end"
        );
        assert_eq!(
            body(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na")
                .await,
            "a"
        );
    }

    #[tokio::test]
    async fn a_tunnel_has_no_body() {
        let reply = read(
            b"CONNECT a:1 HTTP/1.1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\nbytes",
        )
        .await
        .unwrap();
        assert_eq!((reply.status, reply.body), (200, Vec::new()));
    }

    #[tokio::test]
    async fn half_a_response_is_an_error_that_quotes_it() {
        let error = read(b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200")
            .await
            .unwrap_err();
        assert!(error.to_string().contains("HTTP/1.1 200"), "{error}");
    }
}
