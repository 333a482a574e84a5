//! Texts of a log made safe to print: in a terminal, in a comment, in YAML.

use jiff::Timestamp;

use super::callers::Callers;
use super::tally::Tally;

/// The longest text that is shown, in characters.
const MAX_SHOWN: usize = 100;
/// How many callers are named.
const MAX_CALLERS: usize = 5;

/// The text on one line, without what would steer a terminal, and not too long.
pub fn shown(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(MAX_SHOWN)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// `12 requests`, `1 entry`
pub fn counted(count: u64, what: &str) -> String {
    match (count, what.strip_suffix('y')) {
        (1, _) => format!("1 {what}"),
        (count, Some(stem)) => format!("{count} {stem}ies"),
        (count, None) => format!("{count} {what}s"),
    }
}

/// How often, by whom and when.
pub fn asked(tally: &Tally, callers: &Callers) -> String {
    let mut text = counted(tally.requests, "request");
    if !tally.callers.is_empty() {
        let mut sorted = tally.callers.clone();
        sorted.sort_by_key(|(caller, count)| (std::cmp::Reverse(*count), *caller));
        let named: Vec<String> = sorted
            .iter()
            .take(MAX_CALLERS)
            .map(|(caller, count)| match sorted.len() {
                1 if tally.further == 0 => callers.get(*caller).name(),
                _ => format!("{} ({count})", callers.get(*caller).name()),
            })
            .collect();
        text += &format!(" by {}", named.join(", "));
        let more = sorted.len().saturating_sub(MAX_CALLERS) as u64;
        if tally.further > 0 {
            text += " and others";
        } else if more > 0 {
            text += &format!(" and {more} more");
        }
    }
    match (tally.first, tally.last) {
        (Some(first), Some(last)) if first != last => {
            text += &format!(", {} to {}", second(first), second(last));
        }
        (Some(first), _) => text += &format!(", {}", second(first)),
        _ => {}
    }
    text
}

/// The time to the second: more says nothing to a reader.
fn second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// The text as a YAML scalar, quoted unless it is a name that can be taken for nothing else.
pub fn yaml(text: &str) -> String {
    let is_plain = text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.contains('.')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte))
        && !text.ends_with(':');
    if is_plain {
        text.to_owned()
    } else {
        serde_json::Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_its_line() {
        let text = "a\nb\r\u{1b}[31m\u{202e}\u{2028}\u{85}\0\"";
        let shown = shown(text);
        assert!(
            shown
                .bytes()
                .all(|byte| byte.is_ascii_graphic() || byte == b' '),
            "{shown}"
        );
        assert_eq!(super::shown(&"a".repeat(1000)).chars().count(), 101);
    }

    #[test]
    fn only_what_is_a_name_stays_unquoted() {
        for (text, yaml) in [
            ("a.example", "a.example"),
            ("a.example:8443", "a.example:8443"),
            ("*.a.example", "\"*.a.example\""),
            ("1.2e3", "\"1.2e3\""),
            ("true", "\"true\""),
            ("_a.example", "\"_a.example\""),
        ] {
            assert_eq!(super::yaml(text), yaml);
        }
    }
}
