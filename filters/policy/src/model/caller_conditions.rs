//! `from`: the conditions of a rule on who calls.

use ipnet::IpNet;

use crate::document::reader::{Errors, Node};
use crate::model::mesh::read_networks;
use crate::model::names::{is_of_label, is_of_principal};
use crate::{Principal, PrincipalPattern};

/// The condition `from`: who calls. All its fields must hold; a list that is there is not empty.
#[derive(Debug, Clone, Default)]
pub struct CallerConditions {
    /// The identities that may call.
    pub principals: Option<Vec<PrincipalPattern>>,
    /// The identities that may not.
    pub not_principals: Option<Vec<PrincipalPattern>>,
    /// The namespaces whose workloads may call.
    pub namespaces: Option<Vec<PrincipalPattern>>,
    /// The namespaces whose workloads may not.
    pub not_namespaces: Option<Vec<PrincipalPattern>>,
    /// The networks of source addresses that may call.
    pub cidrs: Option<Vec<IpNet>>,
    /// The networks of source addresses that may not.
    pub not_cidrs: Option<Vec<IpNet>>,
}

impl CallerConditions {
    pub(crate) fn read(errors: &mut Errors, node: Node<'_>) -> Self {
        let Some(fields) = node.fields(errors, crate::fields::FROM) else {
            return Self::default();
        };
        let mut patterns = |field, of_principals| {
            let node = fields.condition(errors, field)?;
            Some(read_patterns(errors, node, of_principals))
        };
        let principals = patterns("principals", true);
        let not_principals = patterns("notPrincipals", true);
        let namespaces = patterns("namespaces", false);
        let not_namespaces = patterns("notNamespaces", false);
        let mut networks = |field| {
            let node = fields.condition(errors, field)?;
            Some(read_networks(errors, node))
        };
        let (cidrs, not_cidrs) = (networks("cidrs"), networks("notCidrs"));
        Self {
            principals,
            not_principals,
            namespaces,
            not_namespaces,
            cidrs,
            not_cidrs,
        }
    }

    /// Calls `each` with every namespace that is named in full.
    pub(crate) fn each_namespace(&self, each: &mut dyn FnMut(&str)) {
        for patterns in [&self.namespaces, &self.not_namespaces] {
            for pattern in patterns.iter().flatten() {
                if let PrincipalPattern::Exact(namespace) = pattern {
                    each(namespace);
                }
            }
        }
        for patterns in [&self.principals, &self.not_principals] {
            for pattern in patterns.iter().flatten() {
                if let PrincipalPattern::Exact(principal) | PrincipalPattern::Prefix(principal) =
                    pattern
                {
                    // `TRUST_DOMAIN/ns/NAMESPACE/…`
                    let mut parts = principal.split('/').skip(1);
                    if let (Some("ns"), Some(namespace), Some(_)) =
                        (parts.next(), parts.next(), parts.next())
                    {
                        each(namespace);
                    }
                }
            }
        }
    }
}

/// Reads patterns of principals or namespaces that can match: a byte that stands in no name never does,
/// and without a `*` a principal must be whole.
fn read_patterns(
    errors: &mut Errors,
    node: Node<'_>,
    of_principals: bool,
) -> Vec<PrincipalPattern> {
    let is_known = |byte| match of_principals {
        true => is_of_principal(byte),
        false => is_of_label(byte),
    };
    let mut patterns = Vec::new();
    node.each_string(errors, |errors, path, text| {
        let can_match = text.bytes().all(|byte| byte == b'*' || is_known(byte))
            && (!of_principals || text.contains('*') || Principal::parse(text).is_some());
        match PrincipalPattern::parse(text) {
            Some(pattern) if can_match => patterns.push(pattern),
            _ => errors.add_quoted(
                path,
                text,
                "can never match",
                "write cluster.local/ns/NAMESPACE/sa/ACCOUNT or NAMESPACE, in lower case, whole or with one `*` at an end",
            ),
        }
    });
    patterns
}
