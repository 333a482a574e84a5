//! The texts of a policy that have a form: hosts, networks, identities, header names.

use meridian_policy::fields;
use serde_json::{Value, json};

/// The definitions that the rest of the schema refers to. Each pattern lets through every text that
/// the command line takes, names in Unicode included.
pub(super) fn terms() -> Value {
    json!({
        "host": {
            "description": "A name exactly; `*.name`, any name below it but not itself; `*`, every host; an address or a network. Each but a network may end in `:port`.",
            "type": "string",
            "pattern": r"^(?!.*:\/\/)(\*|(\*\.)?([A-Za-z0-9._:\/\[\]-]|[^\x00-\x7f])+)(:[0-9]{1,5})?$",
            "examples": ["shop.example.com", "*.example.com", "*", "10.0.0.0/8", "[2001:db8::1]:443"],
        },
        "network": {
            "description": "A network or an address.",
            "type": "string",
            "pattern": r"^(?=.*[.:])[0-9A-Fa-f:.]+(\/(0|[1-9][0-9]{0,2}))?$",
            "examples": ["10.0.0.0/8", "2001:db8::/32"],
        },
        "domain": {
            "description": "A DNS domain.",
            "type": "string",
            "pattern": "^[A-Za-z0-9._-]+$",
        },
        "trustDomain": {
            "description": "A trust domain, its name alone.",
            "type": "string",
            "pattern": r"^[a-z0-9._-]+$",
        },
        "namespace": {
            "description": "The name of a namespace.",
            "type": "string",
            "pattern": "^[a-z0-9-]{1,63}$",
        },
        "principal": {
            "description": "An identity: TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT.",
            "type": "string",
            "pattern": r"^(spiffe:\/\/)?[a-z0-9._-]+\/ns\/[a-z0-9._-]+\/sa\/[a-z0-9._-]+$",
            "examples": ["cluster.local/ns/istio-ingress/sa/istio-ingress"],
        },
        "principalPattern": {
            "description": "An identity, whole or with one `*`, first or last; `*` is any identity, but not the lack of one.",
            "type": "string",
            "pattern": r"^(\*|\*[a-z0-9._\/-]+|[a-z0-9._\/-]+\*|[a-z0-9._-]+\/ns\/[a-z0-9._-]+\/sa\/[a-z0-9._-]+)$",
            "examples": ["cluster.local/ns/shop/sa/cart", "cluster.local/ns/shop/*"],
        },
        "namespacePattern": {
            "description": "A namespace, whole or with one `*`, first or last.",
            "type": "string",
            "pattern": r"^(\*|\*?[a-z0-9-]+|[a-z0-9-]+\*)$",
        },
        "ruleName": {
            "description": "The rule's name, unique in its section; its label in metrics.",
            "type": "string",
            "pattern": format!("^[a-z0-9-]{{1,{}}}$", fields::MAX_RULE_NAME),
            "not": {"enum": fields::RESERVED_NAMES},
        },
        "gatewayName": {
            "description": "The name of a gateway.",
            "type": "string",
            "pattern": format!("^[a-z0-9-]{{1,{}}}$", fields::MAX_GATEWAY_NAME),
        },
        "header": {
            "description": "A header name of its own.",
            "type": "string",
            "maxLength": fields::MAX_HEADER_NAME,
            "pattern": "^[A-Za-z][A-Za-z0-9-]*$",
            "not": {"pattern": reserved_headers()},
        },
    })
}

/// The headers that cannot carry a tag, in any letter case.
fn reserved_headers() -> String {
    let any_case = |text: &&str| -> String {
        text.chars()
            .map(|char| match char {
                'a'..='z' => format!("[{}{char}]", char.to_ascii_uppercase()),
                char => char.to_string(),
            })
            .collect()
    };
    let whole: Vec<String> = fields::RESERVED_HEADERS.iter().map(any_case).collect();
    let prefixes: Vec<String> = fields::RESERVED_HEADER_PREFIXES
        .iter()
        .map(any_case)
        .collect();
    format!("^(({})$|{})", whole.join("|"), prefixes.join("|"))
}
