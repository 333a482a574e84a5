//! Texts of a log made safe to print: in a terminal, in a comment, in YAML.

use jiff::Timestamp;

use super::callers::Callers;
use super::tally::Tally;
use crate::text::numbers::counted;

/// How many callers are named.
const MAX_CALLERS: usize = 5;

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
