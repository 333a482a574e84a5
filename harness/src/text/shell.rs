//! Command lines that can be pasted into a shell.

/// A word of a POSIX shell.
pub fn word(text: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "-_./:=@%+,".contains(char);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_not_plain_is_quoted() {
        for (text, expected) in [
            ("shop.example.com:443", "shop.example.com:443"),
            ("", "''"),
            ("outbound|80||a.b", "'outbound|80||a.b'"),
            ("it's", r"'it'\''s'"),
            ("$(id)", "'$(id)'"),
        ] {
            assert_eq!(word(text), expected);
        }
    }
}
