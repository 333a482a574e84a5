//! One HTTP/2 connection with any number of streams.
//!
//! Bodies are small: flow control is left to the windows that a connection starts with.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use fluke_hpack::Decoder;
use tokio::io::AsyncWriteExt;

use super::frames::{PREFACE, code_of, flag, frame, kind, next_frame, unpadded};
use super::request::Request;
use crate::raw::{Answer, MAX_RESPONSE, Response, Stream};

/// The setting by which a server offers extended CONNECT (RFC 8441, 3).
pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;

/// What has come of one stream so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// The response without what is still to come.
    pub response: Option<Response>,
    /// The trailers.
    pub trailers: Vec<(String, Vec<u8>)>,
    /// True if the header fields of the response ended the stream too.
    pub is_headers_alone: bool,
    /// True once the server has ended the stream.
    pub is_ended: bool,
    /// Why the stream or the whole connection was given up.
    pub reset: Option<String>,
}

/// An open connection. It waits for as long as it takes: the deadline is the caller's.
pub struct Session {
    stream: Box<dyn Stream>,
    decoder: Decoder<'static>,
    block: Vec<u8>,
    streams: BTreeMap<u32, Progress>,
    settings: BTreeMap<u16, u32>,
    next: u32,
    out: Vec<u8>,
}

impl Session {
    /// Opens HTTP/2 with prior knowledge; the preface goes with the first request.
    pub fn open(stream: Box<dyn Stream>) -> Self {
        let mut out = PREFACE.to_vec();
        frame(&mut out, kind::SETTINGS, 0, 0, &[]);
        Self {
            stream,
            decoder: Decoder::new(),
            block: Vec::new(),
            streams: BTreeMap::new(),
            settings: BTreeMap::new(),
            next: 1,
            out,
        }
    }

    /// Queues a request and returns its stream. What is queued goes out at once when something is
    /// waited for.
    pub fn request(&mut self, request: &Request) -> u32 {
        let id = self.next;
        self.next += 2;
        self.streams.insert(id, Progress::default());
        request.write(&mut self.out, id);
        id
    }

    /// Queues DATA.
    pub fn data(&mut self, id: u32, bytes: &[u8], ends: bool) {
        let flags = if ends { flag::END_STREAM } else { 0 };
        frame(&mut self.out, kind::DATA, flags, id, bytes);
    }

    /// Queues trailers, with which the request ends.
    pub fn request_trailers(&mut self, id: u32, fields: &[(&str, &str)]) {
        let fields = fields
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        let trailers = Request {
            fields: fields.collect(),
            end_stream: true,
        };
        trailers.write(&mut self.out, id);
    }

    /// Waits until the stream has ended.
    ///
    /// # Errors
    /// If what arrives is not HTTP/2.
    pub async fn end(&mut self, id: u32) -> anyhow::Result<Progress> {
        self.until(id, |progress| progress.is_ended).await
    }

    /// Waits for the response's header fields.
    ///
    /// # Errors
    /// If what arrives is not HTTP/2.
    pub async fn head(&mut self, id: u32) -> anyhow::Result<Progress> {
        self.until(id, |progress| progress.response.is_some()).await
    }

    /// Waits until the response's body has `length` bytes.
    ///
    /// # Errors
    /// If what arrives is not HTTP/2.
    pub async fn body(&mut self, id: u32, length: usize) -> anyhow::Result<Progress> {
        let has = move |progress: &Progress| {
            let body = progress.response.as_ref().map(|response| &response.body);
            body.is_some_and(|body| body.len() >= length)
        };
        self.until(id, has).await
    }

    /// The response of a stream once it has ended, its trailers left out.
    ///
    /// # Errors
    /// If what arrives is not HTTP/2.
    pub async fn answer(&mut self, id: u32) -> anyhow::Result<Answer> {
        let progress = self.end(id).await?;
        match (progress.reset, progress.response) {
            (Some(why), _) => Ok(Answer::Reset(why)),
            (None, Some(response)) => Ok(Answer::Response(response)),
            (None, None) => anyhow::bail!("the stream ended without a response"),
        }
    }

    /// Waits for the server's settings, which it sends first, and returns the value of one.
    ///
    /// # Errors
    /// If what arrives is not HTTP/2, or the connection ends before the settings.
    pub async fn setting(&mut self, name: u16) -> anyhow::Result<Option<u32>> {
        while self.settings.is_empty() {
            ensure!(self.step().await?, "the connection ended without settings");
        }
        Ok(self.settings.get(&name).copied())
    }

    async fn until(
        &mut self,
        id: u32,
        is_enough: impl Fn(&Progress) -> bool,
    ) -> anyhow::Result<Progress> {
        loop {
            self.flush().await;
            let progress = self.streams.get(&id).context("no such stream")?;
            if progress.reset.is_some() || is_enough(progress) {
                return Ok(progress.clone());
            }
            self.step().await?;
        }
    }

    async fn flush(&mut self) {
        // A server that gives up closes before it has read all; what it said is to be read.
        let _ = self.stream.write_all(&self.out).await;
        let _ = self.stream.flush().await;
        self.out.clear();
    }

    /// Takes one frame in; false at the connection's end.
    async fn step(&mut self) -> anyhow::Result<bool> {
        self.flush().await;
        let Some(received) = next_frame(&mut *self.stream).await? else {
            self.give_up("the connection was closed");
            return Ok(false);
        };
        let ends = received.flags & flag::END_STREAM != 0;
        match received.kind {
            kind::SETTINGS if received.flags & flag::ACK == 0 => {
                for setting in received.payload.chunks_exact(6) {
                    let [a, b, value @ ..] = setting else {
                        continue;
                    };
                    let value = u32::from_be_bytes(value.try_into()?);
                    self.settings.insert(u16::from_be_bytes([*a, *b]), value);
                }
                frame(&mut self.out, kind::SETTINGS, flag::ACK, 0, &[]);
            }
            kind::PING if received.flags & flag::ACK == 0 => {
                frame(&mut self.out, kind::PING, flag::ACK, 0, &received.payload);
            }
            kind::GOAWAY => {
                let code = code_of(received.payload.get(4..8).unwrap_or_default());
                // Without an error the streams that are open still end by themselves.
                if code != "NO_ERROR" {
                    self.give_up(&format!("GOAWAY {code}"));
                }
            }
            kind::RST_STREAM => {
                let code = code_of(&received.payload);
                let progress = self.progress(received.stream)?;
                // After its answer a server may tell the client to send no more (RFC 9113, 8.1).
                if !progress.is_ended {
                    progress.reset = Some(format!("RST_STREAM {code}"));
                    progress.is_ended = true;
                }
            }
            kind::HEADERS | kind::CONTINUATION => {
                self.block.extend_from_slice(unpadded(&received)?);
                if received.flags & flag::END_HEADERS != 0 {
                    self.header_fields(received.stream, ends)?;
                }
            }
            kind::DATA => {
                let bytes = unpadded(&received)?;
                let progress = self.progress(received.stream)?;
                let response = progress.response.as_mut().context("DATA before HEADERS")?;
                response.body.extend_from_slice(bytes);
                ensure!(
                    response.body.len() < MAX_RESPONSE,
                    "the response is longer than {MAX_RESPONSE} bytes"
                );
                progress.is_ended |= ends;
            }
            _ => {}
        }
        Ok(true)
    }

    fn header_fields(&mut self, id: u32, ends: bool) -> anyhow::Result<()> {
        let block = std::mem::take(&mut self.block);
        let fields = self
            .decoder
            .decode(&block)
            .map_err(|error| anyhow::anyhow!("not HPACK: {error:?}"))?;
        let progress = self.progress(id)?;
        progress.is_ended |= ends;
        let mut status = None;
        let mut headers = Vec::new();
        for (name, value) in fields {
            if name == b":status" {
                status = Some(std::str::from_utf8(&value)?.parse::<u16>()?);
            } else {
                headers.push((String::from_utf8_lossy(&name).into_owned(), value));
            }
        }
        match status {
            // 100 and 103 announce the real one.
            Some(100..200) => {}
            Some(status) => {
                ensure!(progress.response.is_none(), "two responses to one request");
                progress.is_headers_alone = ends;
                progress.response = Some(Response {
                    status,
                    headers,
                    body: Vec::new(),
                });
            }
            None => progress.trailers = headers,
        }
        Ok(())
    }

    fn progress(&mut self, id: u32) -> anyhow::Result<&mut Progress> {
        self.streams
            .get_mut(&id)
            .with_context(|| format!("a frame of stream {id}, which nobody opened"))
    }

    fn give_up(&mut self, why: &str) {
        let open = self.streams.values_mut();
        for progress in open.filter(|progress| !progress.is_ended) {
            progress.is_ended = true;
            progress.reset = Some(why.to_owned());
        }
    }
}
