//! HTTP/2: one request of hand-written header fields on a fresh connection, one response.
//!
//! Header fields are sent as HPACK literals without Huffman code or index (RFC 7541, 6.2.2), so any
//! bytes can stand in any field, pseudo-header fields too.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use fluke_hpack::Decoder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Answer, MAX_RESPONSE, Response, Stream};

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The largest frame that is read and written: SETTINGS_MAX_FRAME_SIZE as it is without settings.
const MAX_FRAME: usize = 16_384;

const STREAM: u32 = 1;

pub(super) mod kind {
    pub(in crate::raw) const DATA: u8 = 0;
    pub(in crate::raw) const HEADERS: u8 = 1;
    pub(in crate::raw) const RST_STREAM: u8 = 3;
    pub(in crate::raw) const SETTINGS: u8 = 4;
    pub(in crate::raw) const PING: u8 = 6;
    pub(in crate::raw) const GOAWAY: u8 = 7;
    pub(in crate::raw) const CONTINUATION: u8 = 9;
}

pub(super) mod flag {
    pub(in crate::raw) const ACK: u8 = 1;
    pub(in crate::raw) const END_STREAM: u8 = 1;
    pub(in crate::raw) const END_HEADERS: u8 = 4;
    pub(in crate::raw) const PADDED: u8 = 8;
    pub(in crate::raw) const PRIORITY: u8 = 32;
}

/// A request: its header fields in the order in which they are sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Names and values, the pseudo-header fields first where the request is to be valid.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// True if nothing follows the header fields. A CONNECT stays open.
    pub end_stream: bool,
}

impl Request {
    /// `GET /` with this `:authority`.
    pub fn get(authority: &[u8]) -> Self {
        Self {
            fields: vec![
                (b":method".to_vec(), b"GET".to_vec()),
                (b":scheme".to_vec(), b"http".to_vec()),
                (b":path".to_vec(), b"/".to_vec()),
                (b":authority".to_vec(), authority.to_vec()),
            ],
            end_stream: true,
        }
    }

    /// `CONNECT` to this `:authority`, without scheme and path (RFC 9113, 8.5).
    pub fn connect(authority: &[u8]) -> Self {
        Self {
            fields: vec![
                (b":method".to_vec(), b"CONNECT".to_vec()),
                (b":authority".to_vec(), authority.to_vec()),
            ],
            end_stream: false,
        }
    }

    /// Adds a header field at the end.
    pub fn push(&mut self, name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.fields.push((name.into(), value.into()));
    }
}

/// Opens HTTP/2 on a fresh connection, sends `request` and reads its response; after a 2xx to
/// CONNECT only the header fields.
///
/// # Errors
/// If nothing complete arrives within `deadline`, or what arrives is not HTTP/2.
pub async fn exchange(
    stream: &mut dyn Stream,
    request: &Request,
    deadline: Duration,
) -> anyhow::Result<Answer> {
    let conversation = async {
        let mut bytes = PREFACE.to_vec();
        frame(&mut bytes, kind::SETTINGS, 0, 0, &[]);
        request_frames(&mut bytes, STREAM, request);
        // A server that gives up early closes before it has read all; its answer is to be read.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.flush().await;
        let is_connect = request
            .fields
            .iter()
            .any(|(name, value)| name == b":method" && value == b"CONNECT");
        let mut reader = Reader {
            stream,
            is_connect,
            decoder: Decoder::new(),
            block: Vec::new(),
            response: None,
        };
        reader.answer().await
    };
    match tokio::time::timeout(deadline, conversation).await {
        Ok(answer) => answer,
        Err(_) => bail!("no complete response within {deadline:?}"),
    }
}

/// HEADERS and CONTINUATION of a request.
pub(super) fn request_frames(bytes: &mut Vec<u8>, stream: u32, request: &Request) {
    let mut block = Vec::new();
    for (name, value) in &request.fields {
        // A literal that is not indexed, with a new name.
        block.push(0);
        literal(&mut block, name);
        literal(&mut block, value);
    }
    let mut pieces = block.chunks(MAX_FRAME).peekable();
    let mut kind = kind::HEADERS;
    let mut flags = if request.end_stream {
        flag::END_STREAM
    } else {
        0
    };
    loop {
        let piece = pieces.next().unwrap_or_default();
        if pieces.peek().is_none() {
            flags |= flag::END_HEADERS;
        }
        frame(bytes, kind, flags, stream, piece);
        if flags & flag::END_HEADERS != 0 {
            return;
        }
        (kind, flags) = (kind::CONTINUATION, 0);
    }
}

/// A string literal (RFC 7541, 5.2): its length with a prefix of 7 bits, then its bytes.
fn literal(block: &mut Vec<u8>, bytes: &[u8]) {
    let mut rest = bytes.len();
    if rest < 0x7f {
        block.push(rest as u8);
    } else {
        block.push(0x7f);
        rest -= 0x7f;
        while rest >= 0x80 {
            block.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        block.push(rest as u8);
    }
    block.extend_from_slice(bytes);
}

pub(super) fn frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    // The length has 24 bits; no payload is longer than MAX_FRAME.
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
}

pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

struct Reader<'s> {
    stream: &'s mut dyn Stream,
    is_connect: bool,
    decoder: Decoder<'static>,
    /// The header block that has begun.
    block: Vec<u8>,
    response: Option<Response>,
}

impl Reader<'_> {
    async fn answer(&mut self) -> anyhow::Result<Answer> {
        loop {
            let Some(frame) = next_frame(self.stream).await? else {
                return Ok(Answer::Reset("the connection was closed".to_owned()));
            };
            let ends = frame.flags & flag::END_STREAM != 0;
            match (frame.kind, frame.stream) {
                (kind::SETTINGS, _) if frame.flags & flag::ACK == 0 => {
                    self.send(kind::SETTINGS, flag::ACK, &[]).await;
                }
                (kind::PING, _) if frame.flags & flag::ACK == 0 => {
                    self.send(kind::PING, flag::ACK, &frame.payload).await;
                }
                (kind::GOAWAY, _) => {
                    let code = frame.payload.get(4..8).unwrap_or_default();
                    return Ok(Answer::Reset(format!("GOAWAY {}", code_of(code))));
                }
                (kind::RST_STREAM, STREAM) => {
                    return Ok(Answer::Reset(format!(
                        "RST_STREAM {}",
                        code_of(&frame.payload)
                    )));
                }
                (kind::HEADERS | kind::CONTINUATION, STREAM) => {
                    self.block.extend_from_slice(unpadded(&frame)?);
                    if frame.flags & flag::END_HEADERS != 0 {
                        self.header_fields()?;
                    }
                    let is_tunnel = self.is_connect
                        && self
                            .response
                            .as_ref()
                            .is_some_and(|response| (200..300).contains(&response.status));
                    if ends || is_tunnel {
                        return self.finish();
                    }
                }
                (kind::DATA, STREAM) => {
                    let response = self.response.as_mut().context("DATA before HEADERS")?;
                    response.body.extend_from_slice(unpadded(&frame)?);
                    ensure!(
                        response.body.len() < MAX_RESPONSE,
                        "the response is longer than {MAX_RESPONSE} bytes"
                    );
                    if ends {
                        return self.finish();
                    }
                }
                _ => {}
            }
        }
    }

    fn finish(&mut self) -> anyhow::Result<Answer> {
        let response = self.response.take().context("the stream ended in 1xx")?;
        Ok(Answer::Response(response))
    }

    /// Takes the header block that is complete: a response's, or its trailers, which are added.
    fn header_fields(&mut self) -> anyhow::Result<()> {
        let block = std::mem::take(&mut self.block);
        let fields = self
            .decoder
            .decode(&block)
            .map_err(|error| anyhow::anyhow!("not HPACK: {error:?}"))?;
        let mut status = None;
        let mut headers = Vec::new();
        for (name, value) in fields {
            if name == b":status" {
                status = Some(std::str::from_utf8(&value)?.parse::<u16>()?);
            } else {
                headers.push((String::from_utf8_lossy(&name).into_owned(), value));
            }
        }
        match (status, &mut self.response) {
            // 100 and 103 announce the real one.
            (Some(100..200), None) => {}
            (Some(status), None) => {
                self.response = Some(Response {
                    status,
                    headers,
                    body: Vec::new(),
                });
            }
            (None, Some(response)) => response.headers.extend(headers),
            _ => bail!("header fields out of order"),
        }
        Ok(())
    }

    async fn send(&mut self, kind: u8, flags: u8, payload: &[u8]) {
        let mut bytes = Vec::new();
        frame(&mut bytes, kind, flags, 0, payload);
        // What matters is what can still be read.
        let _ = self.stream.write_all(&bytes).await;
        let _ = self.stream.flush().await;
    }
}

/// The next frame, or `None` at the connection's end.
pub(super) async fn next_frame(stream: &mut dyn Stream) -> anyhow::Result<Option<Frame>> {
    let mut head = [0; 9];
    if stream.read_exact(&mut head).await.is_err() {
        return Ok(None);
    }
    let [a, b, c, kind, flags, id @ ..] = head;
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    ensure!(
        length <= MAX_FRAME,
        "not HTTP/2: {:?}",
        String::from_utf8_lossy(&head)
    );
    let mut payload = vec![0; length];
    stream
        .read_exact(&mut payload)
        .await
        .context("the connection ended inside a frame")?;
    Ok(Some(Frame {
        kind,
        flags,
        // The first bit is reserved.
        stream: u32::from_be_bytes(id) & 0x7fff_ffff,
        payload,
    }))
}

/// The payload of DATA or HEADERS without padding and priority (RFC 9113, 6.1 and 6.2).
pub(super) fn unpadded(frame: &Frame) -> anyhow::Result<&[u8]> {
    let mut payload = frame.payload.as_slice();
    if frame.kind == kind::CONTINUATION {
        return Ok(payload);
    }
    if frame.flags & flag::PADDED != 0 {
        let (padding, rest) = payload.split_first().context("an empty padded frame")?;
        let length = rest.len().checked_sub(usize::from(*padding));
        payload = &rest[..length.context("more padding than frame")?];
    }
    if frame.kind == kind::HEADERS && frame.flags & flag::PRIORITY != 0 {
        payload = payload.get(5..).context("HEADERS without its priority")?;
    }
    Ok(payload)
}

/// An error code (RFC 9113, 7) by name where a test is likely to meet it.
pub(super) fn code_of(bytes: &[u8]) -> String {
    match bytes.try_into().map(u32::from_be_bytes) {
        Ok(0) => "NO_ERROR".to_owned(),
        Ok(1) => "PROTOCOL_ERROR".to_owned(),
        Ok(7) => "REFUSED_STREAM".to_owned(),
        Ok(8) => "CANCEL".to_owned(),
        Ok(code) => code.to_string(),
        Err(_) => "without a code".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_can_stand_in_a_field() {
        let long = vec![b'a'; 20_000];
        let mut request = Request::get(b"\xff, \0");
        request.push("x-long", long.clone());
        let mut bytes = Vec::new();
        request_frames(&mut bytes, STREAM, &request);
        // HEADERS of the largest size, then CONTINUATION.
        assert_eq!(bytes[..9], [0, 0x40, 0, 1, flag::END_STREAM, 0, 0, 0, 1]);
        let rest = &bytes[9 + MAX_FRAME..];
        assert_eq!(
            rest[3..9],
            [kind::CONTINUATION, flag::END_HEADERS, 0, 0, 0, 1]
        );
        let block = [&bytes[9..9 + MAX_FRAME], &rest[9..]].concat();
        let fields = Decoder::new().decode(&block).unwrap();
        assert_eq!(fields, request.fields);
    }

    async fn answer_to(frames: &[u8], request: &Request) -> Answer {
        let (mut client, mut server) = tokio::io::duplex(4096);
        server.write_all(frames).await.unwrap();
        server.shutdown().await.unwrap();
        exchange(&mut client, request, Duration::from_secs(5))
            .await
            .unwrap()
    }

    fn response_head(status: &[u8], flags: u8) -> Vec<u8> {
        let mut block = vec![0];
        literal(&mut block, b":status");
        literal(&mut block, status);
        let mut bytes = Vec::new();
        frame(&mut bytes, kind::SETTINGS, 0, 0, &[]);
        frame(
            &mut bytes,
            kind::HEADERS,
            flags | flag::END_HEADERS,
            STREAM,
            &block,
        );
        bytes
    }

    #[tokio::test]
    async fn a_response_is_read_to_its_end() {
        let mut bytes = response_head(b"200", 0);
        frame(&mut bytes, kind::DATA, flag::PADDED, STREAM, b"\x02ab\0\0");
        frame(&mut bytes, kind::DATA, flag::END_STREAM, STREAM, b"c");
        let Answer::Response(response) = answer_to(&bytes, &Request::get(b"a")).await else {
            panic!("reset");
        };
        assert_eq!(
            (response.status, response.body.as_slice()),
            (200, &b"abc"[..])
        );
    }

    #[tokio::test]
    async fn a_tunnel_ends_at_its_header_fields_and_a_reset_is_named() {
        let bytes = response_head(b"200", 0);
        let answer = answer_to(&bytes, &Request::connect(b"a:1")).await;
        assert!(matches!(answer, Answer::Response(response) if response.status == 200));
        let mut bytes = Vec::new();
        frame(&mut bytes, kind::RST_STREAM, 0, STREAM, &[0, 0, 0, 1]);
        let answer = answer_to(&bytes, &Request::get(b"a")).await;
        assert_eq!(
            answer,
            Answer::Reset("RST_STREAM PROTOCOL_ERROR".to_owned())
        );
    }
}
