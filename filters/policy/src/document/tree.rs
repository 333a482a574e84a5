//! A policy document as it was written: a tree that keeps duplicate keys and leaves long lists of
//! strings in the text that they were read from.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::ConfigError;

/// A node of a policy document, from JSON or YAML.
///
/// Unlike `serde_json::Value` it keeps a key that is given twice, so that it can be reported, and
/// a list of a million hosts is a piece of the JSON text instead of a million allocations.
#[derive(Debug, Clone, PartialEq)]
pub enum Document<'s> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// Text.
    String(Cow<'s, str>),
    /// A list of texts.
    Strings(StringList<'s>),
    /// A list in which something is not text.
    List(Vec<Document<'s>>),
    /// A mapping in the order of the document, duplicates included.
    Mapping(Vec<(String, Document<'s>)>),
}

impl<'s> Document<'s> {
    /// Reads JSON.
    ///
    /// # Errors
    /// One, of the document itself, when the text is not JSON.
    pub fn from_json(json: &'s [u8]) -> Result<Self, ConfigError> {
        let error = |message: String, hint: &str| ConfigError {
            path: String::new(),
            message,
            hint: hint.to_owned(),
        };
        let text = std::str::from_utf8(json).map_err(|invalid| {
            error(
                format!("is not UTF-8 at byte {}", invalid.valid_up_to()),
                "save the policy in UTF-8",
            )
        })?;
        if text.trim_ascii().is_empty() {
            return Err(Self::nothing());
        }
        // From bytes: the reader of `str` brings the panics of slicing, and all of `char`'s Debug.
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        DocumentSeed { source: Some(text) }
            .deserialize(&mut deserializer)
            .and_then(|document| deserializer.end().map(|()| document))
            .map_err(|invalid| {
                error(
                    format!("is not JSON: {invalid}"),
                    "write one JSON object, the policy",
                )
            })
    }

    /// The error of a document in which nothing is written.
    pub fn nothing() -> ConfigError {
        ConfigError {
            path: String::new(),
            message: "is empty".to_owned(),
            hint: "write the policy as one JSON object, or YAML on the command line".to_owned(),
        }
    }

    /// What this node is, in the words of YAML.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::String(_) => "a string",
            Self::Strings(_) | Self::List(_) => "a list",
            Self::Mapping(_) => "a mapping",
        }
    }
}

/// A list of strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StringList<'s>(Strings<'s>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Strings<'s> {
    /// A piece of JSON in which no string has an escape, from the first quote to the last.
    Source { text: &'s str, count: usize },
    /// Strings one after the other, with their ends.
    Owned { text: String, ends: Vec<usize> },
}

impl Default for StringList<'_> {
    fn default() -> Self {
        Self(Strings::Owned {
            text: String::new(),
            ends: Vec::new(),
        })
    }
}

impl<'s> StringList<'s> {
    /// Adds a string.
    pub fn push(&mut self, string: &str) {
        if let Strings::Source { .. } = self.0 {
            let mut owned = StringList::default();
            for string in self.iter() {
                owned.push(string);
            }
            self.0 = owned.0;
        }
        if let Strings::Owned { text, ends } = &mut self.0 {
            text.push_str(string);
            ends.push(text.len());
        }
    }

    /// The strings in their order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let (mut at, mut index) = (0, 0);
        std::iter::from_fn(move || match &self.0 {
            Strings::Source { text, .. } => {
                let start = find_quote(text, at)? + 1;
                let end = find_quote(text, start)?;
                at = end + 1;
                text.get(start..end)
            }
            Strings::Owned { text, ends } => {
                let start = at;
                at = *ends.get(index)?;
                index += 1;
                text.get(start..at)
            }
        })
    }

    /// How many strings there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Strings::Source { count, .. } => *count,
            Strings::Owned { ends, .. } => ends.len(),
        }
    }

    /// True if the list has no text.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes up the next string of a list that is a piece of `source` so far. False if it is not
    /// the next one there.
    fn extend_source(&mut self, source: &'s str, string: &'s str) -> bool {
        let offset = |part: &str| (part.as_ptr() as usize).checked_sub(source.as_ptr() as usize);
        let (start, count) = match &self.0 {
            Strings::Source { text, count } => (offset(text), *count),
            Strings::Owned { ends, .. } if ends.is_empty() => {
                (offset(string).and_then(|start| start.checked_sub(1)), 0)
            }
            Strings::Owned { .. } => return false,
        };
        // With the quotes around them, which makes the end of an empty string one too.
        let text = start
            .zip(offset(string))
            .and_then(|(start, last)| source.get(start..last + string.len() + 1));
        let Some(text) = text else { return false };
        self.0 = Strings::Source {
            text,
            count: count + 1,
        };
        true
    }
}

/// Where the next quote is, at `from` or behind it.
fn find_quote(text: &str, from: usize) -> Option<usize> {
    let mut bytes = text.as_bytes().get(from..)?.iter();
    bytes.position(|byte| *byte == b'"').map(|at| from + at)
}

impl<'de> Deserialize<'de> for Document<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        DocumentSeed { source: None }.deserialize(deserializer)
    }
}

/// Reads a node, with the JSON text that it is read from.
#[derive(Clone, Copy)]
struct DocumentSeed<'de> {
    source: Option<&'de str>,
}

impl<'de> DeserializeSeed<'de> for DocumentSeed<'de> {
    type Value = Document<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Document<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for DocumentSeed<'de> {
    type Value = Document<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON or YAML")
    }

    fn visit_unit<E>(self) -> Result<Document<'de>, E> {
        Ok(Document::Null)
    }

    fn visit_none<E>(self) -> Result<Document<'de>, E> {
        Ok(Document::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Document<'de>, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Document<'de>, E> {
        Ok(Document::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Document<'de>, E> {
        Ok(Document::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Document<'de>, E> {
        Ok(i64::try_from(value).map_or(Document::Float(value as f64), Document::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Document<'de>, E> {
        Ok(Document::Float(value))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Document<'de>, E> {
        Ok(Document::String(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Document<'de>, E> {
        Ok(Document::String(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Document<'de>, A::Error> {
        let mut strings = StringList::default();
        let mut list: Option<Vec<Document<'de>>> = None;
        while let Some(element) = seq.next_element_seed(self)? {
            match (&mut list, element) {
                (None, Document::String(text)) => {
                    let is_source = match (self.source, &text) {
                        (Some(source), Cow::Borrowed(text)) => strings.extend_source(source, text),
                        _ => false,
                    };
                    if !is_source {
                        strings.push(&text);
                    }
                }
                (None, other) => {
                    let owned = |text: &str| Document::String(Cow::Owned(text.to_owned()));
                    list = Some(strings.iter().map(owned).chain([other]).collect());
                }
                (Some(list), element) => list.push(element),
            }
        }
        Ok(list.map_or(Document::Strings(strings), Document::List))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document<'de>, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            entries.push((key, map.next_value_seed(self)?));
        }
        Ok(Document::Mapping(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(json: &str) -> Vec<String> {
        match Document::from_json(json.as_bytes()).unwrap() {
            Document::Strings(list) => {
                let strings: Vec<String> = list.iter().map(str::to_owned).collect();
                assert_eq!(strings.len(), list.len());
                strings
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_list_is_the_same_in_place_and_apart() {
        assert_eq!(strings(r#"["a", "bc" ,"",  "d"]"#), ["a", "bc", "", "d"]);
        assert_eq!(strings(r#"["a", "b\"c", "", "d"]"#), ["a", "b\"c", "", "d"]);
        assert_eq!(strings(r#"["\u0061", "b", "c"]"#), ["a", "b", "c"]);
        assert_eq!(strings(r#"["", ""]"#), ["", ""]);
        assert_eq!(strings("[]"), [""; 0]);
    }

    #[test]
    fn keeps_duplicate_keys_and_mixed_lists() {
        let document = Document::from_json(br#"{"a": ["x"], "a": ["x", 1, "y"]}"#).unwrap();
        let Document::Mapping(entries) = document else {
            panic!("{document:?}")
        };
        assert_eq!(entries.len(), 2);
        assert_eq!(
            entries[1].1,
            Document::List(vec![
                Document::String("x".into()),
                Document::Integer(1),
                Document::String("y".into())
            ])
        );
    }
}
