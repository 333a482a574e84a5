//! Rules whose own conditions contradict each other, the hosts, or the vantage point.

use std::collections::HashSet;

use meridian_policy::{
    Action, CallerConditions, Direction, Gateway, Host, HostPattern, Mesh, Pattern, Principal,
    PrincipalPattern, Rule, Vantage,
};

use crate::policy::written::WrittenHosts;

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
pub(super) fn contradiction(mesh: &Mesh, vantage: Vantage, rule: &Rule) -> Option<Contradiction> {
    let by_place = gateways(mesh, vantage, rule).or_else(|| directions(mesh, vantage, rule));
    by_place.or_else(|| {
        let from = rule.from.as_deref()?;
        no_identity(vantage, rule.action, from)
            .or_else(|| no_principal(from))
            .or_else(|| excluded(from))
    })
}

/// Gateways none of which runs the filter, where others do.
fn gateways(mesh: &Mesh, vantage: Vantage, rule: &Rule) -> Option<Contradiction> {
    if vantage != Vantage::Ingress || rule.gateways.is_empty() {
        return None;
    }
    let gateways = mesh.ingress_gateways.iter();
    let filtered: Vec<&Gateway> = gateways.filter(|gateway| gateway.filtered).collect();
    let is_named = |gateway: &&Gateway| {
        let name = gateway.name.as_deref();
        name.is_some_and(|name| rule.gateways.iter().any(|named| **named == *name))
    };
    if filtered.is_empty() || filtered.iter().any(is_named) {
        return None;
    }
    Some(Contradiction {
        field: "gateways",
        message: "names no gateway that runs the filter".to_owned(),
        hint: "name one that is filtered, or write `filtered: true` at the gateway if it is",
    })
}

/// Principals with wildcards none of which any identity begins or ends with.
fn no_principal(from: &CallerConditions) -> Option<Contradiction> {
    if from.principals.as_ref()?.iter().any(can_match) {
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
fn no_identity(vantage: Vantage, action: Action, from: &CallerConditions) -> Option<Contradiction> {
    if vantage != Vantage::Outbound {
        return None;
    }
    let is_allow = action == Action::Allow;
    let fields = [
        (&from.principals, "from.principals", true),
        (&from.namespaces, "from.namespaces", true),
        (&from.not_principals, "from.notPrincipals", is_allow),
        (&from.not_namespaces, "from.notNamespaces", is_allow),
    ];
    let (_, field, _) = fields
        .into_iter()
        .find(|(list, _, needs)| *needs && list.is_some())?;
    Some(Contradiction {
        field,
        message: "needs an identity, and at outbound the application's connection has none"
            .to_owned(),
        hint: "write the rule for egress or for the callee's inbound, where the caller has an identity",
    })
}

/// A positive list that lies wholly in its negative one.
fn excluded(from: &CallerConditions) -> Option<Contradiction> {
    let principals = from.principals.as_deref().unwrap_or_default();
    let not_principals = from.not_principals.as_deref().unwrap_or_default();
    let namespaces = from.namespaces.as_deref().unwrap_or_default();
    let not_namespaces = from.not_namespaces.as_deref().unwrap_or_default();
    let all_in = |of: &[PrincipalPattern], not: &[PrincipalPattern]| {
        !of.is_empty()
            && of
                .iter()
                .all(|one| not.iter().any(|not| holds_all(not, one)))
    };
    let contradiction = |field, message: &str| {
        Some(Contradiction {
            field,
            message: message.to_owned(),
            hint: "remove what is excluded from one of the two",
        })
    };
    if all_in(principals, not_principals) {
        return contradiction("from.notPrincipals", "leaves out all of from.principals");
    }
    if all_in(namespaces, not_namespaces) {
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
    if all_in(&of_principals, not_namespaces) {
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
    let cidrs = from.cidrs.as_deref().unwrap_or_default();
    let not_cidrs = from.not_cidrs.as_deref().unwrap_or_default();
    let mut cidrs = cidrs.iter().peekable();
    if cidrs.peek().is_some() && cidrs.all(|one| not_cidrs.iter().any(|not| not.contains(one))) {
        return contradiction("from.notCidrs", "leaves out all of from.cidrs");
    }
    None
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
    pub(super) fn of(hosts: WrittenHosts<'_>) -> Self {
        let patterns = hosts.parsed().map(|host| host.pattern);
        let keys = patterns.map(|pattern| (pattern.host.to_string(), pattern.port));
        Self(keys.collect())
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
