//! Names of Kubernetes and SPIFFE: namespaces, and what identities are made of.

use crate::document::reader::{Errors, Node};

/// True for what names in Kubernetes are made of (RFC 1123).
pub(crate) fn is_of_label(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

/// True for what identities are made of: a trust domain (SPIFFE), words, a namespace, an account.
pub(crate) fn is_of_principal(byte: u8) -> bool {
    is_of_label(byte) || matches!(byte, b'.' | b'_' | b'/')
}

/// True for the name that a namespace of Kubernetes can have, and so a policy: a DNS label (RFC 1123).
pub fn is_namespace(text: &str) -> bool {
    (1..=63).contains(&text.len()) && text.bytes().all(is_of_label)
}

/// True for the key of a label of Kubernetes, `NAME` or `DOMAIN/NAME`.
pub fn is_label_key(text: &str) -> bool {
    let (domain, name) = text.rsplit_once('/').unwrap_or(("x", text));
    let is_domain = domain.len() <= 253
        && domain
            .split('.')
            .all(|label| !label.is_empty() && label.bytes().all(is_of_label));
    is_domain && !name.is_empty() && is_label_value(name)
}

/// True for the value of a label of Kubernetes; it may be empty.
pub fn is_label_value(text: &str) -> bool {
    let is_alphanumeric = |byte: Option<u8>| byte.is_none_or(|byte| byte.is_ascii_alphanumeric());
    text.len() <= 63
        && is_alphanumeric(text.bytes().next())
        && is_alphanumeric(text.bytes().next_back())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

pub(crate) fn read_namespaces(errors: &mut Errors, node: Node<'_>) -> Vec<String> {
    let mut namespaces = Vec::new();
    node.each_string(errors, |errors, path, text| {
        if is_namespace(text) {
            namespaces.push(text.to_owned());
        } else {
            errors.add_quoted(
                path,
                text,
                "is not a namespace",
                "write its name: a-z, 0-9 and -, at most 63",
            );
        }
    });
    namespaces
}
