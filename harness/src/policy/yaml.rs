//! A bound on what the aliases of a YAML text make of it.
//!
//! The YAML reader follows aliases up to a hundred times for each event of the text, whatever they
//! stand for: a kilobyte can stand for terabytes.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use crate::text::visible::visible;

/// What any text may come to, in bytes.
const ALLOWANCE: usize = 500_000;
/// What more it may come to, in its own length: enough for a long list at all four vantage points.
const TIMES: usize = 5;
/// What a value takes beside the bytes of a string. Without aliases no text comes to more than four times
/// its length (`?` and a line break are a key and a value).
const VALUE: usize = 4;

/// Characters of a name that an error quotes.
const MAX_NAME: usize = 64;

/// A text whose aliases make too much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TooLarge {
    /// The node at which it does, as in `hosts.ingress.rules[0]`.
    pub(crate) path: String,
    /// The bound that it exceeds, in bytes.
    limit: usize,
}

impl TooLarge {
    /// What to write instead.
    pub(crate) const HINT: &'static str =
        "write out what the aliases (*NAME) stand for, or less of it";
}

/// What is wrong, without the place.
impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = self.limit;
        write!(
            f,
            "is where the file comes to more than {limit} bytes, with what its aliases stand for"
        )
    }
}

/// Sees, without keeping anything of it, that `text` comes to no more than five times its length and
/// 500,000 bytes. One without anchors is not looked at, and one that is not YAML is left to its reader.
///
/// # Errors
/// If its aliases make more of it.
pub(crate) fn bound(text: &str) -> Result<(), TooLarge> {
    if !text.contains('&') {
        return Ok(());
    }
    let limit = TIMES * text.len() + ALLOWANCE;
    let left = Cell::new(Some(limit));
    let place = RefCell::default();
    let weigh = Weigh {
        left: &left,
        place: &place,
        is_key: false,
    };
    match weigh.deserialize(yaml_serde::Deserializer::from_str(text)) {
        Err(error) if left.get().is_none() || is_repetition(&error) => {
            let steps = place.into_inner().into_iter().rev();
            let path: String = steps.collect();
            Err(TooLarge {
                path: path.trim_start_matches('.').to_owned(),
                limit,
            })
        }
        _ => Ok(()),
    }
}

/// The reader's own bound, which aliases for little meet first.
fn is_repetition(error: &yaml_serde::Error) -> bool {
    error.to_string().contains("repetition limit exceeded")
}

/// Takes the weight of each value from what is left; nothing is left once that does not do.
#[derive(Clone, Copy)]
struct Weigh<'w> {
    left: &'w Cell<Option<usize>>,
    /// The steps to the node of the error, the last one first.
    place: &'w RefCell<Vec<String>>,
    /// True for a key of a mapping, whose text is the value.
    is_key: bool,
}

impl Weigh<'_> {
    fn take<E: Error>(self, weight: usize) -> Result<String, E> {
        let left = self.left.get().and_then(|left| left.checked_sub(weight));
        self.left.set(left);
        left.map(|_| String::new())
            .ok_or_else(|| E::custom("too large"))
    }

    /// Notes where an error was met.
    fn at<T, E>(self, result: Result<T, E>, step: impl FnOnce() -> String) -> Result<T, E> {
        if result.is_err() {
            self.place.borrow_mut().push(step());
        }
        result
    }
}

impl<'de> DeserializeSeed<'de> for Weigh<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Weigh<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of YAML")
    }

    fn visit_unit<E: Error>(self) -> Result<String, E> {
        self.take(VALUE)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<String, E> {
        self.take(VALUE)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<String, E> {
        self.take(VALUE)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<String, E> {
        self.take(VALUE)
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<String, E> {
        self.take(VALUE)
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<String, E> {
        self.take(VALUE)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<String, E> {
        self.take(VALUE)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        self.take(VALUE + text.len())?;
        Ok(if self.is_key {
            text.to_owned()
        } else {
            String::new()
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<String, A::Error> {
        self.take::<A::Error>(VALUE)?;
        let element = Weigh {
            is_key: false,
            ..self
        };
        for index in 0.. {
            let next = seq.next_element_seed(element);
            if self.at(next, || format!("[{index}]"))?.is_none() {
                break;
            }
        }
        Ok(String::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<String, A::Error> {
        self.take::<A::Error>(VALUE)?;
        let key = Weigh {
            is_key: true,
            ..self
        };
        let value = Weigh {
            is_key: false,
            ..self
        };
        while let Some(name) = map.next_key_seed(key)? {
            let read = map.next_value_seed(value);
            self.at(read, || {
                let name: String = name.chars().take(MAX_NAME).collect();
                format!(".{}", visible(&name))
            })?;
        }
        Ok(String::new())
    }

    /// A value with a tag.
    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<String, A::Error> {
        let (_tag, value) = tagged.variant_seed(self)?;
        value.newtype_variant_seed(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten aliases in each of so many lists, each of the list before it.
    fn laughs(lists: usize) -> String {
        let mut text = "a0: &a0 [x]\n".to_owned();
        for list in 1..=lists {
            let aliases = vec![format!("*a{}", list - 1); 10].join(", ");
            text.push_str(&format!("a{list}: &a{list} [{aliases}]\n"));
        }
        text
    }

    #[test]
    fn few_aliases_are_fine_and_many_are_not() {
        assert_eq!(bound(&laughs(3)), Ok(()));
        for lists in [5, 20] {
            let error = bound(&laughs(lists)).unwrap_err();
            assert!(error.path.starts_with('a'), "{error:?}");
            assert!(error.path.ends_with(']'), "{error:?}");
        }
    }

    #[test]
    fn a_long_string_counts_by_its_length() {
        let text = |aliases: usize| {
            let string = "x".repeat(20_000);
            format!(
                "a: &a {string}\nb: {{c: [{}]}}\n",
                vec!["*a"; aliases].join(", ")
            )
        };
        assert_eq!(bound(&text(5)), Ok(()));
        let error = bound(&text(50)).unwrap_err();
        let limit = 5 * text(50).len() + 500_000;
        // Before the first alias: three mappings and lists, three keys, and the string itself.
        let fit = (limit - (3 * 4 + 3 * 5 + 20_004)) / 20_004;
        assert_eq!(error.path, format!("b.c[{fit}]"));
        assert_eq!(
            error.to_string(),
            format!(
                "is where the file comes to more than {limit} bytes, with what its aliases stand for"
            )
        );
    }

    #[test]
    fn without_aliases_any_text_is_fine() {
        // As much for its length as YAML can say.
        for part in ["a,", "-\n", "?\n", "[],", "\"\\L\",", "{a},"] {
            let flow = part.ends_with(',');
            let (open, close) = if flow { ("[", "]") } else { ("", "") };
            let text = format!("# &\n{open}{}{close}", part.repeat(200_000));
            let parsed = yaml_serde::from_str::<serde::de::IgnoredAny>(&text);
            assert!(parsed.is_ok(), "{part}");
            assert_eq!(bound(&text), Ok(()), "{part}");
        }
        // Left to its reader.
        assert_eq!(bound("&"), Ok(()));
    }

    #[test]
    fn tags_and_every_kind_of_value_are_followed() {
        let long = "x".repeat(1_000);
        for value in [
            "!Tag [X]",
            "{X: 1}",
            "{1: X}",
            "[1, -1, 1.5, true, null, 99999999999999999999, X]",
        ] {
            let value = value.replace('X', &long);
            let aliases = vec!["*a"; 1_000].join(", ");
            let text = format!("a: &a {value}\nb: [{aliases}]\n");
            let path = bound(&text).map_err(|error| error.path).unwrap_err();
            assert!(path.starts_with("b["), "{path}: {value}");
        }
    }
}
