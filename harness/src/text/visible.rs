//! Text from outside, such as a log's or a proxy's, made fit to be shown.
//!
//! Says nothing of markup: whoever writes HTML or XML escapes that as well.

/// The longest excerpt, in characters of the text.
const MAX_EXCERPT: usize = 100;

/// `text` on one line, with every character that moves a terminal's cursor, hides, or reorders what
/// stands around it (control, format and combining characters) written as its code, as in
/// `\u{202e}`. Quotes and backslashes stay as they are.
pub fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '"' | '\'' | '\\' => visible.push(char),
            _ => visible.extend(char.escape_debug()),
        }
    }
    visible
}

/// As [`visible`], for text of several lines, which keeps its line breaks.
pub fn visible_lines(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(visible).collect();
    lines.join("\n")
}

/// As [`visible`], for text of any length that stands between quotes: quotes and backslashes are
/// escaped too, and what is longer than 100 characters ends in `…`.
pub fn excerpt(text: &str) -> String {
    let mut chars = text.chars();
    let start = chars.by_ref().take(MAX_EXCERPT);
    let mut excerpt: String = start.flat_map(char::escape_debug).collect();
    if chars.next().is_some() {
        excerpt.push('…');
    }
    excerpt
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
        // A mark that a terminal draws over the character before it.
        assert_eq!(visible("e\u{301}"), r"e\u{301}");
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(visible_lines("a\n  b\x1b\n"), "a\n  b\\u{1b}\n");
    }

    #[test]
    fn nothing_leaves_its_line() {
        let text = "a\nb\r\u{1b}[31m\u{202e}\u{2028}\u{85}\0\"";
        for shown in [visible(text), excerpt(text)] {
            assert!(
                shown
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic() || byte == b' '),
                "{shown}"
            );
        }
    }

    #[test]
    fn an_excerpt_is_short_and_keeps_within_its_quotes() {
        assert_eq!(excerpt("a\" 'b' \\n"), r#"a\" \'b\' \\n"#);
        assert_eq!(excerpt(&"é".repeat(100)), "é".repeat(100));
        assert_eq!(excerpt(&"a".repeat(1000)).chars().count(), 101);
    }
}
