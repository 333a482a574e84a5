//! Which policy it is, as a number that proxies can be compared by.

use sha2::{Digest, Sha256};

/// How much of the hash is kept: what a gauge holds exactly, because Prometheus's numbers are 64-bit
/// floats.
const BYTES: usize = 6;

/// How much is hashed at once. V8 exchanges its first code of a function for faster code between two
/// calls only: one call for a whole policy takes several times as long.
const PIECE: usize = 1024;

/// The first 48 bits of the SHA-256 of a policy's JSON text without the white space between its tokens,
/// so that however a document was indented on its way, the same policy has the same revision.
pub fn revision(json: &[u8]) -> u64 {
    let mut compact = Compact::default();
    for piece in json.chunks(PIECE) {
        compact.update(piece);
    }
    let digest = compact.hash.finalize();
    digest
        .iter()
        .take(BYTES)
        .fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

/// A JSON text so far.
#[derive(Default)]
struct Compact {
    hash: Sha256,
    is_string: bool,
    is_escaped: bool,
}

impl Compact {
    #[inline(never)]
    fn update(&mut self, piece: &[u8]) {
        let Self {
            hash,
            is_string,
            is_escaped,
        } = self;
        let between_tokens = |byte: &u8| {
            let is_space = !*is_string && matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
            *is_string ^= *byte == b'"' && !*is_escaped;
            *is_escaped = *is_string && *byte == b'\\' && !*is_escaped;
            is_space
        };
        for tokens in piece.split(between_tokens) {
            hash.update(tokens);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_hash_of_the_compact_text() {
        // printf '{"a":[1,"b c"]}' | sha256sum
        let expected = 0x6845_8844_69dd;
        assert_eq!(revision(br#"{"a":[1,"b c"]}"#), expected);
        assert_eq!(revision(b"{\n  \"a\": [\r\n\t1, \"b c\" ] }\n"), expected);
    }

    #[test]
    fn only_white_space_between_tokens_is_left_out() {
        let texts = [
            r#"{"a":"b c"}"#,
            r#"{"a":"bc"}"#,
            r#"{"a":"b\" c"}"#,
            r#"{"a":"b\"c"}"#,
            r#"{"a":"b\\","c":" d"}"#,
            r#"{"a":"b\\","c":"d"}"#,
        ];
        for (index, text) in texts.iter().enumerate() {
            for other in &texts[..index] {
                assert_ne!(revision(text.as_bytes()), revision(other.as_bytes()));
            }
        }
        assert_eq!(
            revision(br#"{"a":"b\\" , "c":" d"}"#),
            revision(br#"{"a":"b\\","c":" d"}"#)
        );
    }

    #[test]
    fn it_is_the_same_wherever_the_text_is_cut() {
        let compact = format!(r#"{{"a":"{}\\\" ","b":1}}"#, " \\\\x".repeat(PIECE / 4));
        let hashed = Sha256::digest(compact.as_bytes());
        let expected = hashed
            .iter()
            .take(BYTES)
            .fold(0, |number, byte| (number << 8) | u64::from(*byte));
        for before in 0..8 {
            let text = format!("{}{compact} ", " ".repeat(before));
            assert_eq!(revision(text.as_bytes()), expected, "{before}");
        }
    }
}
