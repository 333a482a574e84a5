//! Frames of HTTP/2 (RFC 9113, 4 and 6), as they are on the wire.

use anyhow::{Context, ensure};
use tokio::io::AsyncReadExt;

use crate::raw::Stream;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The largest frame that is read and written: SETTINGS_MAX_FRAME_SIZE as it is without settings.
pub(super) const MAX_FRAME: usize = 16_384;

pub(super) mod kind {
    pub(in crate::raw::http2) const DATA: u8 = 0;
    pub(in crate::raw::http2) const HEADERS: u8 = 1;
    pub(in crate::raw::http2) const RST_STREAM: u8 = 3;
    pub(in crate::raw::http2) const SETTINGS: u8 = 4;
    pub(in crate::raw::http2) const PING: u8 = 6;
    pub(in crate::raw::http2) const GOAWAY: u8 = 7;
    pub(in crate::raw::http2) const CONTINUATION: u8 = 9;
}

pub(super) mod flag {
    pub(in crate::raw::http2) const ACK: u8 = 1;
    pub(in crate::raw::http2) const END_STREAM: u8 = 1;
    pub(in crate::raw::http2) const END_HEADERS: u8 = 4;
    pub(in crate::raw::http2) const PADDED: u8 = 8;
    pub(in crate::raw::http2) const PRIORITY: u8 = 32;
}

/// Adds a frame to `bytes`.
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
