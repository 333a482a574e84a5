//! Text broken into lines.

/// The paragraphs, list items and tables of `text` with lines of at most `width` characters, where
/// words allow it. An item's further lines are indented to its text; rows of tables stay whole.
pub fn wrap(text: &str, width: usize) -> String {
    text.split('\n')
        .map(|line| match line.starts_with('|') {
            true => line.to_owned(),
            false => wrap_line(line, width),
        })
        .collect::<Vec<_>>()
        .join("\n")
}

fn wrap_line(line: &str, width: usize) -> String {
    let indent = match line.split_once(' ') {
        Some((marker, _)) if is_marker(marker) => " ".repeat(marker.len() + 1),
        _ => String::new(),
    };
    let mut wrapped = String::with_capacity(line.len());
    let mut column = 0;
    for word in line.split(' ') {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > width {
            wrapped.push('\n');
            wrapped.push_str(&indent);
            column = indent.len();
        } else if column > 0 {
            wrapped.push(' ');
            column += 1;
        }
        wrapped.push_str(word);
        column += length;
    }
    wrapped
}

/// `-`, or a number and a dot.
fn is_marker(word: &str) -> bool {
    let number = word.strip_suffix('.').unwrap_or_default();
    word == "-" || (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrap("one two three\n\nfour", 8), "one two\nthree\n\nfour");
        assert_eq!(
            wrap("- one two three\n12. one two", 9),
            "- one two\n  three\n12. one\n    two"
        );
        assert_eq!(
            wrap("| a row | that is long |", 8),
            "| a row | that is long |"
        );
        assert_eq!(wrap("averylongword b", 4), "averylongword\nb");
    }
}
