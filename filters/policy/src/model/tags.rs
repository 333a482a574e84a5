//! The headers in which a request carries its tags.

use crate::document::fields::{MAX_HEADER_NAME, RESERVED_HEADER_PREFIXES, RESERVED_HEADERS};
use crate::document::reader::{Errors, Fields, Node};
use crate::{Direction, Vantage};

/// The section `tags`: header names in lower case; a header that is not written is never touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tags {
    /// Carries the [`Direction`]; `x-traffic-direction` by default.
    pub direction_header: String,
    /// Carries the [`crate::ComponentType`].
    pub component_header: Option<String>,
    /// Carries the [`crate::DirectionEvidence`].
    pub evidence_header: Option<String>,
    /// True if each decision is also put into Envoy's filter state, for access logs and traces.
    pub filter_state: bool,
}

/// What becomes of the tag headers of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagWrite {
    /// They are replaced by the filter's own truth.
    Replace,
    /// They are removed: the request leaves the mesh, or may.
    Remove,
}

impl TagWrite {
    /// Tags never leave the mesh, so where it is not certain that a request stays, they go.
    pub fn of(vantage: Vantage, direction: Direction) -> Self {
        match vantage {
            Vantage::Ingress | Vantage::Inbound => Self::Replace,
            Vantage::Egress | Vantage::Outbound => match direction {
                Direction::EastWest => Self::Replace,
                Direction::NorthSouth | Direction::Unknown => Self::Remove,
            },
        }
    }
}

impl Default for Tags {
    fn default() -> Self {
        Self {
            direction_header: "x-traffic-direction".to_owned(),
            component_header: None,
            evidence_header: None,
            filter_state: false,
        }
    }
}

impl Tags {
    pub(crate) fn read(errors: &mut Errors, node: Option<Node<'_>>) -> Self {
        let mut tags = Self::default();
        let Some(node) = node else { return tags };
        let Some(fields) = node.fields(errors, crate::fields::TAGS) else {
            return tags;
        };
        if fields.is_null("directionHeader") {
            errors.add(
                &crate::document::reader::Path::Field(&node.path, "directionHeader"),
                "is null",
                "write a header name, or leave the field out for x-traffic-direction",
            );
        }
        if let Some(header) = read_header(errors, fields, "directionHeader") {
            tags.direction_header = header;
        }
        tags.component_header = read_header(errors, fields, "componentHeader");
        tags.evidence_header = read_header(errors, fields, "evidenceHeader");
        tags.filter_state = fields.flag(errors, "filterState");
        let names = [
            Some(&tags.direction_header),
            tags.component_header.as_ref(),
            tags.evidence_header.as_ref(),
        ];
        for (index, name) in names.iter().enumerate().filter(|(_, name)| name.is_some()) {
            if names.iter().take(index).any(|earlier| earlier == name) {
                errors.add(
                    &node.path,
                    "two tags share a header",
                    "give each its own header",
                );
            }
        }
        tags
    }
}

fn read_header(errors: &mut Errors, fields: Fields<'_>, field: &'static str) -> Option<String> {
    let node = fields.get(field)?;
    let text = node.string(errors)?;
    let name = text.to_ascii_lowercase();
    let is_name = name.len() <= MAX_HEADER_NAME
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !RESERVED_HEADERS.contains(&name.as_str())
        && !RESERVED_HEADER_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix));
    if !is_name {
        errors.add_quoted(
            &node.path,
            text,
            "cannot carry a tag",
            "write a header name of its own, of letters, digits and -, such as x-traffic-direction",
        );
        return None;
    }
    Some(name)
}
