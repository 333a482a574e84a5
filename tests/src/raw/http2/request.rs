//! A request as it is sent: hand-written header fields.
//!
//! They are HPACK literals without Huffman code or index (RFC 7541, 6.2.2), so any bytes can stand in
//! any field, pseudo-header fields too.

use super::frames::{MAX_FRAME, flag, frame, kind};

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

    /// Adds its HEADERS and CONTINUATION frames to `bytes`.
    pub(super) fn write(&self, bytes: &mut Vec<u8>, stream: u32) {
        let mut block = Vec::new();
        for (name, value) in &self.fields {
            // A literal that is not indexed, with a new name.
            block.push(0);
            literal(&mut block, name);
            literal(&mut block, value);
        }
        let mut pieces = block.chunks(MAX_FRAME).peekable();
        let mut kind = kind::HEADERS;
        let mut flags = if self.end_stream { flag::END_STREAM } else { 0 };
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
}

/// A string literal (RFC 7541, 5.2): its length with a prefix of 7 bits, then its bytes.
pub(super) fn literal(block: &mut Vec<u8>, bytes: &[u8]) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_can_stand_in_a_field() {
        let long = vec![b'a'; 20_000];
        let mut request = Request::get(b"\xff, \0");
        request.push("x-long", long.clone());
        let mut bytes = Vec::new();
        request.write(&mut bytes, 1);
        // HEADERS of the largest size, then CONTINUATION.
        assert_eq!(bytes[..9], [0, 0x40, 0, 1, flag::END_STREAM, 0, 0, 0, 1]);
        let rest = &bytes[9 + MAX_FRAME..];
        assert_eq!(
            rest[3..9],
            [kind::CONTINUATION, flag::END_HEADERS, 0, 0, 0, 1]
        );
        let block = [&bytes[9..9 + MAX_FRAME], &rest[9..]].concat();
        let fields = fluke_hpack::Decoder::new().decode(&block).unwrap();
        assert_eq!(fields, request.fields);
    }
}
