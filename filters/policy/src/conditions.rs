//! The conditions under which a rule takes part.
//!
//! Missing evidence never helps the caller: a positive condition does not hold without its
//! evidence, and a negative one holds for rules that deny and not for rules that allow.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::mesh::read_networks;
use crate::reader::{Errors, Node};
use crate::{Action, Principal, PrincipalPattern};

/// The condition `from`: who calls. All its fields must hold.
#[derive(Debug, Clone, Default)]
pub struct From {
    principals: Option<Vec<PrincipalPattern>>,
    not_principals: Option<Vec<PrincipalPattern>>,
    namespaces: Option<Vec<PrincipalPattern>>,
    not_namespaces: Option<Vec<PrincipalPattern>>,
    cidrs: Option<Vec<IpNet>>,
    not_cidrs: Option<Vec<IpNet>>,
}

impl From {
    pub(crate) fn read(errors: &mut Errors, node: Node<'_>) -> Self {
        let known = [
            "principals",
            "notPrincipals",
            "namespaces",
            "notNamespaces",
            "cidrs",
            "notCidrs",
        ];
        let Some(fields) = node.fields(errors, &known) else {
            return Self::default();
        };
        let mut patterns = |field| fields.get(field).map(|node| read_patterns(errors, node));
        let principals = patterns("principals");
        let not_principals = patterns("notPrincipals");
        let namespaces = patterns("namespaces");
        let not_namespaces = patterns("notNamespaces");
        let mut networks = |field| fields.get(field).map(|node| read_networks(errors, node));
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

    /// True if the condition holds for a rule of this action. Evidence is asked for only when a
    /// field needs it.
    pub fn holds(
        &self,
        action: Action,
        mut peer: impl FnMut() -> Option<Principal>,
        mut source: impl FnMut() -> Option<IpAddr>,
    ) -> bool {
        let missing = action == Action::Deny;
        let identity = [
            (
                &self.principals,
                false,
                Principal::as_str as fn(&Principal) -> &str,
            ),
            (&self.not_principals, true, Principal::as_str),
            (&self.namespaces, false, Principal::namespace),
            (&self.not_namespaces, true, Principal::namespace),
        ];
        for (patterns, negated, part) in identity {
            let Some(patterns) = patterns else { continue };
            let holds = match peer() {
                Some(peer) => {
                    patterns.iter().any(|pattern| pattern.matches(part(&peer))) != negated
                }
                None => negated && missing,
            };
            if !holds {
                return false;
            }
        }
        for (networks, negated) in [(&self.cidrs, false), (&self.not_cidrs, true)] {
            let Some(networks) = networks else { continue };
            let holds = match source() {
                Some(source) => networks.iter().any(|network| network.contains(&source)) != negated,
                None => negated && missing,
            };
            if !holds {
                return false;
            }
        }
        true
    }
}

fn read_patterns(errors: &mut Errors, node: Node<'_>) -> Vec<PrincipalPattern> {
    let mut patterns = Vec::new();
    node.each_string(errors, |errors, path, text| {
        if text.starts_with("spiffe://") {
            errors.add_quoted(
                path,
                text,
                "has a scheme",
                "leave spiffe:// out, as Istio does",
            );
        } else if let Some(pattern) = PrincipalPattern::parse(text) {
            patterns.push(pattern);
        } else {
            errors.add_quoted(
                path,
                text,
                "is not a pattern",
                "write it whole, or with one `*`, first or last",
            );
        }
    });
    patterns
}
