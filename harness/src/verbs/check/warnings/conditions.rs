//! Rules whose own conditions contradict each other, the hosts, or the vantage point.

use std::collections::HashSet;

use meridian_policy::{
    Action, Direction, Host, HostPattern, Mesh, Pattern, Principal, PrincipalPattern, Rule, Vantage,
};
use serde_json::Value;

/// Why a rule can never match, whatever the host: the field and what is wrong with it.
pub(super) struct Contradiction {
    /// The field below the rule, such as `from.principals`.
    pub(super) field: &'static str,
    /// What is wrong, to be followed by "so rule … can never match".
    pub(super) message: String,
    /// What to write instead.
    pub(super) hint: &'static str,
}

/// The contradiction in a rule's conditions, if there is one.
pub(super) fn contradiction(
    mesh: &Mesh,
    vantage: Vantage,
    rule: &Rule,
    written: &Value,
) -> Option<Contradiction> {
    directions(mesh, vantage, rule)
        .or_else(|| no_identity(vantage, rule, &written["from"]))
        .or_else(|| no_principal(&written["from"]))
        .or_else(|| excluded(&written["from"]))
}

/// Principals with wildcards none of which any identity begins or ends with.
fn no_principal(from: &Value) -> Option<Contradiction> {
    let written = from["principals"].as_array()?;
    let can_match = |text: &Value| {
        let pattern = text.as_str().and_then(PrincipalPattern::parse);
        pattern.is_some_and(|pattern| can_match(&pattern))
    };
    if written.iter().any(can_match) {
        return None;
    }
    Some(Contradiction {
        field: "from.principals",
        message: "holds no identity, which is TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT".to_owned(),
        hint: "write a beginning or an end of that, such as cluster.local/ns/shop/* or */sa/cart",
    })
}

/// True if there is an identity that the pattern matches.
fn can_match(pattern: &PrincipalPattern) -> bool {
    // What begins or ends an identity can be completed with an end or a beginning of the shortest.
    const SHORTEST: &str = "x/ns/x/sa/x";
    let is_identity = |text: String| Principal::parse(&text).is_some();
    (0..=SHORTEST.len()).any(|cut| {
        let (begin, end) = SHORTEST.split_at(cut);
        match pattern {
            PrincipalPattern::Present => true,
            PrincipalPattern::Exact(text) => is_identity(text.to_string()),
            PrincipalPattern::Prefix(text) => is_identity(format!("{text}{end}")),
            PrincipalPattern::Suffix(text) => is_identity(format!("{begin}{text}")),
        }
    })
}

fn directions(mesh: &Mesh, vantage: Vantage, rule: &Rule) -> Option<Contradiction> {
    if rule.directions.is_empty()
        || rule
            .directions
            .iter()
            .any(|direction| can_be(mesh, vantage, *direction))
    {
        return None;
    }
    let words: Vec<&str> = rule.directions.iter().map(|word| word.as_str()).collect();
    Some(Contradiction {
        field: "directions",
        message: format!("no request is {} at {vantage}", words.join(" or ")),
        hint: "write a direction that requests have there, or leave the field out",
    })
}

/// True if a request that is judged by rules can have the direction.
fn can_be(mesh: &Mesh, vantage: Vantage, direction: Direction) -> bool {
    let knows_callers = !mesh.trust_domains.is_empty() || !mesh.cidrs.is_empty();
    match (vantage, direction) {
        // Only an invalid host is neither inside nor outside, and no rule is asked about those.
        (Vantage::Egress, Direction::Unknown) => false,
        (Vantage::Ingress, Direction::EastWest) => knows_callers,
        (Vantage::Inbound, Direction::EastWest) => {
            knows_callers || mesh.ingress_gateways.iter().any(|gateway| gateway.filtered)
        }
        _ => true,
    }
}

/// An application's own connection to its sidecar is not TLS of the mesh.
fn no_identity(vantage: Vantage, rule: &Rule, from: &Value) -> Option<Contradiction> {
    if vantage != Vantage::Outbound {
        return None;
    }
    let is_allow = rule.action == Action::Allow;
    let fields = [
        ("principals", "from.principals", true),
        ("namespaces", "from.namespaces", true),
        ("notPrincipals", "from.notPrincipals", is_allow),
        ("notNamespaces", "from.notNamespaces", is_allow),
    ];
    let (_, field, _) = fields
        .into_iter()
        .find(|(name, _, needs)| *needs && !from[*name].is_null())?;
    Some(Contradiction {
        field,
        message: "needs an identity, and at outbound the application's connection has none"
            .to_owned(),
        hint: "write the rule for egress or for the callee's inbound, where the caller has an identity",
    })
}

/// A positive list that lies wholly in its negative one.
fn excluded(from: &Value) -> Option<Contradiction> {
    let strings = |name: &str| -> Vec<&str> {
        let list = from[name].as_array().map(Vec::as_slice);
        list.unwrap_or_default()
            .iter()
            .filter_map(Value::as_str)
            .collect()
    };
    let patterns = |name| -> Vec<PrincipalPattern> {
        let texts = strings(name).into_iter();
        texts.filter_map(PrincipalPattern::parse).collect()
    };
    let all_in = |of: &[PrincipalPattern], not: &[PrincipalPattern]| {
        !of.is_empty()
            && of
                .iter()
                .all(|one| not.iter().any(|not| holds_all(not, one)))
    };
    let principals = patterns("principals");
    let namespaces = patterns("namespaces");
    let contradiction = |field, message: &str| {
        Some(Contradiction {
            field,
            message: message.to_owned(),
            hint: "remove what is excluded from one of the two",
        })
    };
    if all_in(&principals, &patterns("notPrincipals")) {
        return contradiction("from.notPrincipals", "leaves out all of from.principals");
    }
    if all_in(&namespaces, &patterns("notNamespaces")) {
        return contradiction("from.notNamespaces", "leaves out all of from.namespaces");
    }
    // An exact principal tells its namespace.
    let of_principals: Option<Vec<PrincipalPattern>> = principals
        .iter()
        .map(|pattern| match pattern {
            PrincipalPattern::Exact(text) => Some(PrincipalPattern::Exact(
                Principal::parse(text)?.namespace().into(),
            )),
            _ => None,
        })
        .collect();
    let of_principals = of_principals.unwrap_or_default();
    if all_in(&of_principals, &patterns("notNamespaces")) {
        return contradiction("from.notNamespaces", "leaves out all of from.principals");
    }
    let is_elsewhere = |pattern: &PrincipalPattern| {
        !namespaces
            .iter()
            .any(|namespace| holds_all(namespace, pattern))
    };
    if !namespaces.is_empty() && !of_principals.is_empty() && of_principals.iter().all(is_elsewhere)
    {
        return contradiction(
            "from.namespaces",
            "has the namespace of none of from.principals",
        );
    }
    let networks = |name| -> Vec<HostPattern> {
        let texts = strings(name).into_iter();
        texts
            .filter_map(|text| Some(Pattern::parse(&bracketed(text)).ok()?.host))
            .collect()
    };
    let (cidrs, not) = (networks("cidrs"), networks("notCidrs"));
    let in_not = |one: &HostPattern| {
        not.iter().any(|not| {
            matches!((one, not),
        (HostPattern::Network(one), HostPattern::Network(not)) if not.contains(one))
        })
    };
    if !cidrs.is_empty() && cidrs.iter().all(in_not) {
        return contradiction("from.notCidrs", "leaves out all of from.cidrs");
    }
    None
}

/// A host pattern has an IPv6 address in brackets, a network has none.
fn bracketed(network: &str) -> String {
    if network.contains(':') && !network.contains('/') {
        format!("[{network}]")
    } else {
        network.to_owned()
    }
}

/// True if `wide` matches all that `narrow` matches.
fn holds_all(wide: &PrincipalPattern, narrow: &PrincipalPattern) -> bool {
    match (wide, narrow) {
        (PrincipalPattern::Present, _) => true,
        (wide, PrincipalPattern::Exact(text)) => wide.matches(text),
        (PrincipalPattern::Prefix(wide), PrincipalPattern::Prefix(narrow)) => {
            narrow.starts_with(&**wide)
        }
        (PrincipalPattern::Suffix(wide), PrincipalPattern::Suffix(narrow)) => {
            narrow.ends_with(&**wide)
        }
        _ => false,
    }
}

/// The `notHosts` of a rule, by canonical text, each with the ports it is for.
pub(super) struct NotHosts(HashSet<(String, Option<u16>)>);

impl NotHosts {
    pub(super) fn of(written: &Value) -> Self {
        let list = written["notHosts"].as_array().map(Vec::as_slice);
        let patterns = list.unwrap_or_default().iter().filter_map(|text| {
            let pattern = Pattern::parse(text.as_str()?).ok()?;
            Some((pattern.host.to_string(), pattern.port))
        });
        Self(patterns.collect())
    }

    /// True if they hold all that a pattern matches.
    fn hold(&self, pattern: &Pattern) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let has = |key: String| {
            self.0.contains(&(key.clone(), None))
                || pattern.port.is_some() && self.0.contains(&(key, pattern.port))
        };
        if has("*".to_owned()) || has(pattern.host.to_string()) {
            return true;
        }
        match &pattern.host {
            HostPattern::Any => false,
            HostPattern::Exact(name) | HostPattern::Suffix(name) => {
                let dots = name.as_str().match_indices('.');
                let mut above = dots.filter_map(|(dot, _)| name.as_str().get(dot + 1..));
                above.any(|suffix| has(format!("*.{suffix}")))
            }
            HostPattern::Network(network) => {
                let mut above =
                    std::iter::successors(network.supernet(), |network| network.supernet());
                above.any(|network| has(network.to_string()))
            }
        }
    }
}

/// Why one host of a rule can never match.
pub(super) fn host_contradiction(
    mesh: &Mesh,
    vantage: Vantage,
    rule: &Rule,
    not_hosts: &NotHosts,
    pattern: &Pattern,
) -> Option<&'static str> {
    if let Some(port) = pattern.port
        && !rule.ports.is_empty()
        && !rule.ports.contains(&port)
    {
        return Some("is for a port that is not in ports");
    }
    if not_hosts.hold(pattern) {
        return Some("is in notHosts");
    }
    if vantage == Vantage::Egress && !rule.directions.is_empty() {
        let host = match &pattern.host {
            HostPattern::Exact(name) => Host::Name(name.clone()),
            HostPattern::Network(network) if network.prefix_len() == network.max_prefix_len() => {
                Host::Address(network.addr())
            }
            _ => return None,
        };
        // Where mesh.hosts names ports, whether a host is inside may depend on the request's.
        if pattern.port.is_none() && !mesh.hosts.is_empty() {
            return None;
        }
        let is_inside = mesh.has_host(&host, &mut || pattern.port.unwrap_or(80));
        return match is_inside {
            true if !rule.directions.contains(&Direction::EastWest) => {
                Some("is inside the mesh, and east-west is not in directions")
            }
            false if !rule.directions.contains(&Direction::NorthSouth) => {
                Some("is outside the mesh, and north-south is not in directions")
            }
            _ => None,
        };
    }
    None
}
