//! A YAML text as a tree whose nodes know where they stand in it.

use saphyr_parser::{Event, Parser, Span};

/// A node of the document with its place, in bytes.
#[derive(Debug)]
pub(super) struct YamlNode {
    pub(super) kind: NodeKind,
    /// Its first byte.
    pub(super) start: usize,
    /// Behind the last byte of its last leaf.
    pub(super) end: usize,
    /// True for `[…]` and `{…}`.
    pub(super) is_flow: bool,
}

#[derive(Debug)]
pub(super) enum NodeKind {
    Scalar,
    Alias,
    Sequence(Vec<YamlNode>),
    Mapping(Vec<(String, YamlNode, YamlNode)>),
}

/// The value of a key.
pub(super) fn find<'n>(
    entries: &'n [(String, YamlNode, YamlNode)],
    key: &str,
) -> Option<&'n YamlNode> {
    let entry = entries.iter().find(|(word, _, _)| word == key);
    entry.map(|(_, _, node)| node)
}

/// The first document, which is the only one of a policy.
pub(super) fn parse(text: &str) -> Option<YamlNode> {
    let mut reader = TreeReader {
        text,
        events: Parser::new_from_str(text),
        offset: (0, 0),
    };
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamStart | Event::DocumentStart(_) | Event::Nothing => {}
            event => return reader.node(event, span),
        }
    }
}

struct TreeReader<'t, P> {
    text: &'t str,
    events: P,
    /// A place in characters and the same in bytes, because events tell characters.
    offset: (usize, usize),
}

impl<'t, P> TreeReader<'t, P>
where
    P: Iterator<Item = Result<(Event<'t>, Span), saphyr_parser::ScanError>>,
{
    fn next(&mut self) -> Option<(Event<'t>, Span)> {
        self.events.next()?.ok()
    }

    /// A place in bytes; places are asked for mostly in ascending order.
    fn byte(&mut self, characters: usize) -> usize {
        if characters < self.offset.0 {
            self.offset = (0, 0);
        }
        let rest = self.text.get(self.offset.1..).unwrap_or_default();
        let step = rest
            .char_indices()
            .nth(characters - self.offset.0)
            .map_or(rest.len(), |(at, _)| at);
        self.offset = (characters, self.offset.1 + step);
        self.offset.1
    }

    fn node(&mut self, event: Event<'t>, span: Span) -> Option<YamlNode> {
        let start = self.byte(span.start.index());
        let first = self.text.as_bytes().get(start);
        let mut end = self.byte(span.end.index());
        let kind = match event {
            Event::Scalar(..) => NodeKind::Scalar,
            Event::Alias(_) => NodeKind::Alias,
            Event::SequenceStart(..) => {
                let mut list = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, span) => {
                            end = self.end_of(first == Some(&b'['), end, &list, span);
                            break NodeKind::Sequence(list);
                        }
                        (event, span) => list.push(self.node(event, span)?),
                    }
                }
            }
            Event::MappingStart(..) => {
                let mut entries = Vec::new();
                let mut leaves = None;
                loop {
                    match self.next()? {
                        (Event::MappingEnd, span) => {
                            let is_flow = first == Some(&b'{');
                            end = match (is_flow, leaves) {
                                (false, Some(leaf)) => leaf,
                                _ => self.byte(span.start.index()) + 1,
                            };
                            break NodeKind::Mapping(entries);
                        }
                        (event, span) => {
                            let word = match &event {
                                Event::Scalar(word, ..) => word.to_string(),
                                _ => String::new(),
                            };
                            let key = self.node(event, span)?;
                            let (event, span) = self.next()?;
                            let value = self.node(event, span)?;
                            leaves = Some(value.end.max(key.end));
                            entries.push((word, key, value));
                        }
                    }
                }
            }
            _ => return None,
        };
        let is_flow = matches!(
            (&kind, first),
            (NodeKind::Sequence(_), Some(b'[')) | (NodeKind::Mapping(_), Some(b'{'))
        );
        Some(YamlNode {
            kind,
            start,
            end,
            is_flow,
        })
    }

    fn end_of(&mut self, is_flow: bool, end: usize, list: &[YamlNode], span: Span) -> usize {
        match list.last() {
            Some(last) if !is_flow => last.end,
            None if !is_flow => end,
            // The event tells of what stands behind the bracket too.
            _ => self.byte(span.start.index()) + 1,
        }
    }
}
