//! Reads a [`Document`] strictly: every error is located and collected, none stops the reading.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::InsertError;
use crate::quoted::{Escaped, Quoted};
use crate::{ConfigError, Document, HostMap};

/// An enumeration whose values are words of the policy document.
pub(crate) trait Word: Copy + 'static {
    /// Every value.
    const ALL: &'static [Self];
    /// The words of [`Self::ALL`], in the same order.
    const WORDS: &'static [&'static str];
}

/// The errors of a document so far.
#[derive(Debug)]
pub(crate) struct Errors {
    errors: Vec<ConfigError>,
    /// The text that the document was read from, for the maps of its hosts; empty if it was not
    /// JSON.
    source: Arc<Vec<u8>>,
    /// True if the document is what a filter was given.
    pub(crate) is_for_filter: bool,
    /// True for the document of an image, whose hosts are not in it.
    pub(crate) has_image: bool,
}

impl Errors {
    pub(crate) fn new(source: Arc<Vec<u8>>, is_for_filter: bool) -> Self {
        Self {
            errors: Vec::new(),
            source,
            is_for_filter,
            has_image: false,
        }
    }

    /// A map for hosts of this document.
    pub(crate) fn host_map(&self) -> HostMap {
        HostMap::new(&self.source)
    }

    /// Adds the hosts of a list to a map, all under `value`.
    pub(crate) fn read_hosts(&mut self, node: Node<'_>, hosts: &mut HostMap, value: u16) {
        if let Document::Strings(list) = node.document {
            hosts.reserve(list.len());
        }
        node.each_string(self, |errors, path, text| {
            match hosts.insert_text(text, value) {
                Ok(()) => {}
                Err(InsertError::Pattern(error)) => errors.add(path, &error.message, &error.hint),
                Err(InsertError::Full) => errors.add(
                    path,
                    "is one host too many",
                    "keep the policy under 256 MiB",
                ),
            }
        });
    }

    pub(crate) fn add(&mut self, path: &Path<'_>, message: &str, hint: &str) {
        self.errors.push(ConfigError {
            path: path.to_string(),
            message: message.to_owned(),
            hint: hint.to_owned(),
        });
    }

    /// An error of the text at `path`, which the message begins with.
    pub(crate) fn add_quoted(&mut self, path: &Path<'_>, text: &str, message: &str, hint: &str) {
        self.add(path, &format!("{} {message}", Quoted(text)), hint);
    }

    pub(crate) fn into_result<T>(self, value: T) -> Result<T, Vec<ConfigError>> {
        if self.errors.is_empty() {
            Ok(value)
        } else {
            Err(self.errors)
        }
    }
}

/// A place in a document; text only when it is needed for an error.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Path<'p> {
    Root,
    Field(&'p Path<'p>, &'p str),
    Index(&'p Path<'p>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Self::Root, name) => write!(f, "{}", Escaped(name)),
            Self::Field(parent, name) => write!(f, "{parent}.{}", Escaped(name)),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// A node with its place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node<'d> {
    pub(crate) document: &'d Document<'d>,
    pub(crate) path: Path<'d>,
}

impl<'d> Node<'d> {
    pub(crate) fn root(document: &'d Document<'d>) -> Self {
        Self {
            document,
            path: Path::Root,
        }
    }

    fn mistyped(&self, errors: &mut Errors, wanted: &str) {
        errors.add(
            &self.path,
            &format!("is {}", self.document.kind()),
            &format!("write {wanted}"),
        );
    }

    /// The mapping here, whose fields may only be `known`. Unknown and repeated fields are errors;
    /// the known ones can still be read.
    pub(crate) fn fields(&self, errors: &mut Errors, known: &[&str]) -> Option<Fields<'_>> {
        let Document::Mapping(entries) = self.document else {
            self.mistyped(
                errors,
                &format!("a mapping with the fields {}", known.join(", ")),
            );
            return None;
        };
        for (index, (name, _)) in entries.iter().enumerate() {
            let place = Path::Field(&self.path, name);
            if !known.contains(&name.as_str()) {
                errors.add(
                    &place,
                    "is not a field",
                    &format!("the fields here are {}", known.join(", ")),
                );
            } else if entries
                .iter()
                .take(index)
                .any(|(earlier, _)| earlier == name)
            {
                errors.add(&place, "is given twice", "keep one of the two");
            }
        }
        Some(Fields {
            entries,
            path: &self.path,
        })
    }

    /// The fields of the mapping here, whatever they are; `None` if it is none.
    pub(crate) fn mapping(&self) -> Option<Fields<'_>> {
        match self.document {
            Document::Mapping(entries) => Some(Fields {
                entries,
                path: &self.path,
            }),
            _ => None,
        }
    }

    pub(crate) fn string(&self, errors: &mut Errors) -> Option<&'d str> {
        if let Document::String(text) = self.document {
            return Some(text);
        }
        self.mistyped(errors, "a string");
        None
    }

    pub(crate) fn boolean(&self, errors: &mut Errors) -> Option<bool> {
        if let Document::Bool(value) = self.document {
            return Some(*value);
        }
        self.mistyped(errors, "true or false");
        None
    }

    /// A whole number from `low` to `high`.
    pub(crate) fn number(&self, errors: &mut Errors, low: u16, high: u16) -> Option<u16> {
        let wanted = format!("a whole number from {low} to {high}");
        match self.document {
            Document::Integer(value) => match u16::try_from(*value) {
                Ok(number) if (low..=high).contains(&number) => return Some(number),
                _ => errors.add(
                    &self.path,
                    &format!("is {value}"),
                    &format!("write {wanted}"),
                ),
            },
            _ => self.mistyped(errors, &wanted),
        }
        None
    }

    /// One of the words of an enumeration.
    pub(crate) fn word<T: Word>(&self, errors: &mut Errors) -> Option<T> {
        let index = self.word_index(errors, T::WORDS)?;
        T::ALL.get(index).copied()
    }

    fn word_index(&self, errors: &mut Errors, words: &[&str]) -> Option<usize> {
        let text = self.string(errors)?;
        let index = words.iter().position(|word| *word == text);
        if index.is_none() {
            let message = format!("is {}", Quoted(text));
            errors.add(
                &self.path,
                &message,
                &format!("write one of {}", words.join(", ")),
            );
        }
        index
    }

    /// Calls `each` with every node of the list here.
    pub(crate) fn each(&self, errors: &mut Errors, mut each: impl FnMut(&mut Errors, Node<'_>)) {
        match self.document {
            Document::List(list) => {
                for (index, document) in list.iter().enumerate() {
                    each(
                        errors,
                        Node {
                            document,
                            path: Path::Index(&self.path, index),
                        },
                    );
                }
            }
            Document::Strings(list) => {
                for (index, text) in list.iter().enumerate() {
                    let document = Document::String(Cow::Borrowed(text));
                    each(
                        errors,
                        Node {
                            document: &document,
                            path: Path::Index(&self.path, index),
                        },
                    );
                }
            }
            _ => self.mistyped(errors, "a list"),
        }
    }

    /// Calls `each` with every string of the list here and its place.
    pub(crate) fn each_string(
        &self,
        errors: &mut Errors,
        mut each: impl FnMut(&mut Errors, &Path<'_>, &str),
    ) {
        if let Document::Strings(list) = self.document {
            // The long lists of hosts come here: no allocation for each.
            for (index, text) in list.iter().enumerate() {
                each(errors, &Path::Index(&self.path, index), text);
            }
        } else {
            self.each(errors, |errors, node| {
                if let Some(text) = node.string(errors) {
                    each(errors, &node.path, text);
                }
            });
        }
    }
}

/// The fields of a mapping.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'d> {
    entries: &'d [(String, Document<'d>)],
    path: &'d Path<'d>,
}

impl<'d> Fields<'d> {
    /// The field of this name. A field that is `null` counts as absent, as in Kubernetes manifests.
    pub(crate) fn get(&self, name: &'static str) -> Option<Node<'d>> {
        self.entries
            .iter()
            .find(|(key, document)| key == name && *document != Document::Null)
            .map(|(_, document)| Node {
                document,
                path: Path::Field(self.path, name),
            })
    }

    /// The field of this name, which limits a rule. One that is written but says nothing is an
    /// error: a template that left it empty must not make a rule hold for everything, or never.
    pub(crate) fn condition(&self, errors: &mut Errors, name: &'static str) -> Option<Node<'d>> {
        let node = self.get(name);
        let is_empty = match node.map(|node| node.document) {
            None => self.is_null(name),
            Some(Document::Strings(list)) => list.is_empty(),
            Some(Document::Mapping(entries)) => entries.is_empty(),
            Some(_) => false,
        };
        if is_empty {
            errors.add(
                &Path::Field(self.path, name),
                "says nothing",
                "write what the rule is limited to, or leave the field out",
            );
        }
        node
    }

    /// The field of this name, true or false; false without it.
    pub(crate) fn flag(&self, errors: &mut Errors, name: &'static str) -> bool {
        self.get(name)
            .and_then(|node| node.boolean(errors))
            .unwrap_or(false)
    }

    /// The field of this name; its absence is an error.
    pub(crate) fn require(
        &self,
        errors: &mut Errors,
        name: &'static str,
        hint: &str,
    ) -> Option<Node<'d>> {
        let node = self.get(name);
        if node.is_none() {
            errors.add(&Path::Field(self.path, name), "is missing", hint);
        }
        node
    }

    /// True if the field is written, be it as `null`.
    pub(crate) fn is_null(&self, name: &str) -> bool {
        self.entries
            .iter()
            .any(|(key, document)| key == name && *document == Document::Null)
    }
}
