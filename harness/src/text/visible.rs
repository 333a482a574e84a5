//! Text of strangers, made fit to be shown.

/// `text` with every character that moves a terminal's cursor, hides, or reorders what stands around
/// it (control, format and combining characters) written as its code, as in `\u{202e}`.
///
/// Says nothing of markup: whoever writes HTML escapes that as well.
pub fn visible(text: &str) -> String {
    text.chars()
        .map(|char| match char {
            '"' | '\'' | '\\' => char.to_string(),
            _ => char.escape_debug().to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_is_what_is_there() {
        assert_eq!(visible("a \"b\" \\ 'c' <é> 漢"), "a \"b\" \\ 'c' <é> 漢");
        assert_eq!(
            visible("\x1b[2J\n\u{202e}\u{200b}\0"),
            r"\u{1b}[2J\n\u{202e}\u{200b}\0"
        );
    }
}
