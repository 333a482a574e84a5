//! An upstream that records what reaches it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// No request of a test has a longer head, in bytes.
const MAX_HEAD: usize = 1 << 20;

/// A request as it reached the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    /// The request line.
    pub(crate) line: String,
    /// The headers in their order, names in lower case.
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

impl Received {
    /// Every value of a header, by its name in lower case, bytes that are not UTF-8 replaced.
    pub(crate) fn values(&self, name: &str) -> Vec<String> {
        self.headers
            .iter()
            .filter(|(known, _)| known == name)
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            .collect()
    }
}

/// A server for HTTP/1.1 that answers every request with 200, whatever its method, and closes. It
/// ends with this value.
#[derive(Debug)]
pub(crate) struct Echo {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    serving: JoinHandle<()>,
}

impl Echo {
    /// Listens on a port of the kernel's choice.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let received = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&received);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let record = Arc::clone(&record);
                tokio::spawn(async move {
                    if let Err(error) = serve(stream, &record).await {
                        eprintln!("the upstream: {error:#}");
                    }
                });
            }
        });
        Ok(Self {
            address,
            received,
            serving,
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What has arrived since it was last asked.
    pub(crate) fn take(&self) -> Vec<Received> {
        std::mem::take(&mut *self.received.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(mut stream: TcpStream, record: &Mutex<Vec<Received>>) -> anyhow::Result<()> {
    let mut buffer = Vec::new();
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end;
        }
        anyhow::ensure!(buffer.len() < MAX_HEAD, "a request without an end");
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    };
    let mut lines = buffer[..end]
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii);
    let line = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let headers = lines
        .map(|line| {
            let colon = line.iter().position(|byte| *byte == b':');
            let (name, value) = line.split_at(colon.context("a header without a colon")?);
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            Ok((name, value[1..].trim_ascii().to_vec()))
        })
        .collect::<anyhow::Result<_>>()?;
    let is_connect = line.starts_with("CONNECT ");
    // Recorded before it is answered, so that whoever has the answer finds the record.
    record
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(Received { line, headers });
    let answer: &[u8] = if is_connect {
        b"HTTP/1.1 200 OK\r\n\r\n"
    } else {
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\necho\n"
    };
    stream.write_all(answer).await?;
    if is_connect {
        // The tunnel is open until its other end closes it.
        while stream.read_buf(&mut buffer).await? > 0 {
            buffer.clear();
        }
    }
    stream.shutdown().await?;
    Ok(())
}
