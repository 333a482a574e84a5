//! A policy document as it was written: a tree that keeps duplicate keys and stores long lists of
//! strings compactly.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::ConfigError;

/// A node of a policy document, from JSON or YAML.
///
/// Unlike `serde_json::Value` it keeps a key that is given twice, so that it can be reported, and
/// holds a list of a million hosts in two allocations instead of a million.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// Text.
    String(String),
    /// A list of texts.
    Strings(StringList),
    /// A list in which something is not text.
    List(Vec<Document>),
    /// A mapping in the order of the document, duplicates included.
    Mapping(Vec<(String, Document)>),
}

impl Document {
    /// Reads JSON.
    ///
    /// # Errors
    /// One, of the document itself, when the text is not JSON.
    pub fn from_json(json: &[u8]) -> Result<Self, ConfigError> {
        serde_json::from_slice(json).map_err(|error| ConfigError {
            path: String::new(),
            message: format!("is not JSON: {error}"),
            hint: "write one JSON object, the policy".to_owned(),
        })
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

/// Strings one after the other in one buffer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StringList {
    text: String,
    ends: Vec<u32>,
}

impl StringList {
    /// Adds a string. False when the buffer would pass 4 GiB.
    #[must_use]
    pub fn push(&mut self, string: &str) -> bool {
        let Ok(end) = u32::try_from(self.text.len() + string.len()) else {
            return false;
        };
        self.text.push_str(string);
        self.ends.push(end);
        true
    }

    /// The strings in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let string = self.text.get(start..end as usize).unwrap_or_default();
            start = end as usize;
            string
        })
    }

    /// How many strings there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DocumentVisitor)
    }
}

struct DocumentVisitor;

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON or YAML")
    }

    fn visit_unit<E>(self) -> Result<Document, E> {
        Ok(Document::Null)
    }

    fn visit_none<E>(self) -> Result<Document, E> {
        Ok(Document::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Document, D::Error> {
        Document::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Document, E> {
        Ok(Document::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Document, E> {
        Ok(Document::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Document, E> {
        Ok(i64::try_from(value).map_or(Document::Float(value as f64), Document::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Document, E> {
        Ok(Document::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Document, E> {
        Ok(Document::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Document, E> {
        Ok(Document::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Document, A::Error> {
        let mut strings = StringList::default();
        let mut list: Option<Vec<Document>> = None;
        while let Some(element) = seq.next_element::<Document>()? {
            match (&mut list, element) {
                (None, Document::String(text)) => {
                    if !strings.push(&text) {
                        return Err(A::Error::custom("a list of strings is longer than 4 GiB"));
                    }
                }
                (None, other) => {
                    let texts = strings.iter().map(|text| Document::String(text.to_owned()));
                    list = Some(texts.chain([other]).collect());
                }
                (Some(list), element) => list.push(element),
            }
        }
        Ok(list.map_or(Document::Strings(strings), Document::List))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry::<String, Document>()? {
            entries.push(entry);
        }
        Ok(Document::Mapping(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_duplicate_keys_and_mixed_lists() {
        let document = Document::from_json(br#"{"a": ["x", "y"], "a": ["x", 1, "y"]}"#).unwrap();
        let Document::Mapping(entries) = document else {
            panic!("{document:?}")
        };
        let Document::Strings(strings) = &entries[0].1 else {
            panic!("{entries:?}")
        };
        assert_eq!(strings.iter().collect::<Vec<_>>(), ["x", "y"]);
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
