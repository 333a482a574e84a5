//! How an [`Entry`] is read from JSON: tolerant of what is missing, null, `-`, of a wrong type, or
//! said by Istio's default names.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Entry;

/// A value of any type.
enum Field<'a> {
    Text(Cow<'a, str>),
    Number(f64),
    Nothing,
}

impl<'a> Field<'a> {
    fn text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number(number) => Some(Cow::Owned(number.to_string())),
            Self::Nothing => None,
        }
    }

    fn number(self) -> Option<f64> {
        match self {
            Self::Text(text) => text.parse().ok().filter(|number: &f64| number.is_finite()),
            Self::Number(number) => Some(number),
            Self::Nothing => None,
        }
    }

    /// A whole number of at most 16 bits; 0 is how Envoy says that there is none.
    fn small(self) -> Option<u16> {
        let number = self.number()?;
        let is_small = (1.0..=f64::from(u16::MAX)).contains(&number) && number.fract() == 0.0;
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "in range and whole"
        )]
        is_small.then_some(number as u16)
    }

    fn count(self) -> Option<u64> {
        let number = self.number().filter(|number| *number >= 0.0)?;
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a figure for people; beyond 2^53 it is rounded, and it saturates"
        )]
        Some(number as u64)
    }
}

impl<'de> Deserialize<'de> for Field<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Field<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(match text {
                    // What Envoy writes for what it does not have.
                    "" | "-" => Field::Nothing,
                    text => Field::Text(Cow::Borrowed(text)),
                })
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(match text {
                    "" | "-" => Field::Nothing,
                    text => Field::Text(Cow::Owned(text.to_owned())),
                })
            }
            #[allow(clippy::cast_precision_loss, reason = "see Field::count")]
            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Field::Number(number as f64))
            }
            #[allow(clippy::cast_precision_loss, reason = "see Field::count")]
            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Field::Number(number as f64))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
                Ok(Field::Number(number))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Field::Nothing)
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Field::Nothing)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Field::Nothing)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Field::Nothing)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Defines the keys that an entry is read from, each with the field and the kind of its value.
macro_rules! keys {
    ($($field:ident: $kind:ident = $($word:literal)|+,)+) => {
        #[allow(non_camel_case_types, reason = "the names of the fields")]
        #[derive(Clone, Copy)]
        enum FieldName { $($field,)+ Unknown }

        impl FieldName {
            fn of(word: &str) -> Self {
                match word {
                    $($($word)|+ => Self::$field,)+
                    _ => Self::Unknown,
                }
            }
        }

        impl<'a> Entry<'a> {
            /// Keeps the first value of each field: a log that has both Meridian's and Istio's name
            /// of a thing has one value for it.
            fn set(&mut self, key: FieldName, value: Field<'a>) {
                match key {
                    $(FieldName::$field => if self.$field.is_none() { self.$field = value.$kind() },)+
                    FieldName::Unknown => {}
                }
            }
        }
    };
}

keys! {
    time: text = "time" | "start_time",
    reporter: text = "reporter",
    proxy: text = "proxy",
    namespace: text = "namespace",
    direction: text = "direction",
    evidence: text = "evidence",
    component_type: text = "component_type",
    decision: text = "decision",
    rule: text = "rule",
    dry_run: text = "dry_run",
    host: text = "host",
    port: small = "port",
    listener: text = "listener",
    method: text = "method",
    authority: text = "authority",
    path: text = "path",
    protocol: text = "protocol",
    status: small = "status" | "response_code",
    details: text = "details" | "response_code_details",
    flags: text = "flags" | "response_flags",
    duration_ms: count = "duration_ms" | "duration",
    received_bytes: count = "received_bytes" | "bytes_received",
    sent_bytes: count = "sent_bytes" | "bytes_sent",
    source: text = "source" | "downstream_remote_address",
    peer: text = "peer" | "downstream_peer_uri_san",
    sni: text = "sni" | "requested_server_name",
    destination: text = "destination" | "downstream_local_address",
    cluster: text = "cluster" | "upstream_cluster",
    upstream: text = "upstream" | "upstream_host",
    request_id: text = "request_id",
}

impl<'de> Deserialize<'de> for FieldName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word;
        impl Visitor<'_> for Word {
            type Value = FieldName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_str<E>(self, word: &str) -> Result<FieldName, E> {
                Ok(FieldName::of(word))
            }
        }
        deserializer.deserialize_identifier(Word)
    }
}

impl<'de> Deserialize<'de> for Entry<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Entry<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an entry of an access log, one JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entry = Entry::default();
                while let Some(key) = map.next_key()? {
                    match key {
                        FieldName::Unknown => {
                            map.next_value::<IgnoredAny>()?;
                        }
                        key => entry.set(key, map.next_value()?),
                    }
                }
                Ok(entry)
            }
        }
        deserializer.deserialize_map(Object)
    }
}
