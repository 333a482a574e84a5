//! Whether the conditions of a rule hold.
//!
//! Missing evidence never helps the caller. Without a source address `cidrs` and `notCidrs` hold for
//! rules that deny and not for rules that allow. Without an identity `notPrincipals` and
//! `notNamespaces` do so too, but `principals` and `namespaces` hold for neither: they are about
//! callers that are known.

use crate::decide::facts::Facts;
use crate::host::pattern::contains;
use crate::{Action, Authority, CallerConditions, Direction, Evidence, Principal, Rule};

/// The condition that keeps a rule from taking part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmet {
    /// `gateways`
    Gateways,
    /// The port of the host pattern.
    HostPort,
    /// A rule that allows needs a host, and a connection can go to one that is not known.
    HostUnknown,
    /// `ports`
    Ports,
    /// `notHosts`
    NotHosts,
    /// `directions`
    Directions,
    /// `expires`
    Expires,
    /// `from.principals`
    Principals,
    /// `from.notPrincipals`
    NotPrincipals,
    /// `from.namespaces`
    Namespaces,
    /// `from.notNamespaces`
    NotNamespaces,
    /// `from.cidrs`
    Cidrs,
    /// `from.notCidrs`
    NotCidrs,
}

/// True if the rule is one of other gateways.
pub(super) fn is_of_others<E: Evidence>(rule: &Rule, facts: &Facts<'_, E>) -> bool {
    let is_one = facts.evidence.is_gateway(&rule.gateways);
    // Not to know the gateway never helps the caller.
    !is_one.unwrap_or(rule.action == Action::Deny) && !rule.gateways.is_empty()
}

/// The first condition that keeps the rule from taking part, beside its gateways, hosts and ports;
/// `None` when all hold.
pub(super) fn unmet<E: Evidence>(
    rule: &Rule,
    authority: &Authority,
    direction: Direction,
    facts: &mut Facts<'_, E>,
) -> Option<Unmet> {
    if !rule.directions.is_empty() && !rule.directions.contains(&direction) {
        return Some(Unmet::Directions);
    }
    if let Some(last) = rule.expires {
        let is_past = facts.evidence.today().map(|today| today > last);
        // Not to know the day never helps the caller.
        if is_past.unwrap_or(rule.action == Action::Allow) {
            return Some(Unmet::Expires);
        }
    }
    if !rule.ports.is_empty()
        && !facts.port_holds(rule.action, authority, &|port| rule.ports.contains(&port))
    {
        return Some(Unmet::Ports);
    }
    if facts.is_excluded(rule, authority) {
        return Some(Unmet::NotHosts);
    }
    if let Some(from) = &rule.from
        && let Some(condition) = unmet_by_caller(from, rule.action, facts)
    {
        return Some(condition);
    }
    // Not to be known never helps the caller.
    (rule.action == Action::Allow && authority.host.is_none()).then_some(Unmet::HostUnknown)
}

/// The first field of `from` that keeps a rule of this action from taking part; `None` when all hold.
/// Evidence is asked for only when a field needs it.
fn unmet_by_caller<E: Evidence>(
    from: &CallerConditions,
    action: Action,
    facts: &mut Facts<'_, E>,
) -> Option<Unmet> {
    let missing = action == Action::Deny;
    let as_str = Principal::as_str as fn(&Principal) -> &str;
    let identity = [
        (&from.principals, false, as_str, Unmet::Principals),
        (&from.not_principals, true, as_str, Unmet::NotPrincipals),
        (
            &from.namespaces,
            false,
            Principal::namespace,
            Unmet::Namespaces,
        ),
        (
            &from.not_namespaces,
            true,
            Principal::namespace,
            Unmet::NotNamespaces,
        ),
    ];
    for (patterns, negated, part, condition) in identity {
        let Some(patterns) = patterns else { continue };
        let holds = match facts.peer() {
            Some(peer) => patterns.iter().any(|pattern| pattern.matches(part(peer))) != negated,
            None => negated && missing,
        };
        if !holds {
            return Some(condition);
        }
    }
    let networks = [
        (&from.cidrs, false, Unmet::Cidrs),
        (&from.not_cidrs, true, Unmet::NotCidrs),
    ];
    for (networks, negated, condition) in networks {
        let Some(networks) = networks else { continue };
        let holds = match facts.source() {
            Some(source) => networks.iter().any(|network| contains(network, source)) != negated,
            // A caller who hides or forges its address is refused as if it were listed.
            None => missing,
        };
        if !holds {
            return Some(condition);
        }
    }
    None
}
