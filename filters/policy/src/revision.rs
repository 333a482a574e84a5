//! Which policy it is, as a number that proxies can be compared by.

use hmac_sha256::Hash;

/// How much of the hash is kept: what a gauge holds exactly, because Prometheus's numbers are 64-bit
/// floats.
const BYTES: usize = 6;

/// The first 48 bits of the SHA-256 of a policy's JSON text without the white space between its tokens,
/// so that however a document was indented on its way, the same policy has the same revision.
pub fn revision(json: &[u8]) -> u64 {
    let mut hash = Hash::new();
    let mut is_string = false;
    let mut is_escaped = false;
    let between_tokens = |byte: &u8| {
        let is_space = !is_string && matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        is_string ^= *byte == b'"' && !is_escaped;
        is_escaped = is_string && *byte == b'\\' && !is_escaped;
        is_space
    };
    for tokens in json.split(between_tokens) {
        hash.update(tokens);
    }
    let digest = hash.finalize();
    digest
        .iter()
        .take(BYTES)
        .fold(0, |number, byte| (number << 8) | u64::from(*byte))
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
}
