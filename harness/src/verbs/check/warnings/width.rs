//! Rules that allow more than their section is there for.

use meridian_policy::{Action, Direction, HostPattern, PrincipalPattern, Rule, Section};

/// True if what the rule allows to everyone may be too much: its section denies by default, and no
/// condition says who may.
pub(super) fn is_open(section: &Section, rule: &Rule) -> bool {
    let limits = rule.from.as_deref().is_some_and(|from| {
        let identities = [&from.principals, &from.namespaces];
        let mut identities = identities.into_iter().flatten();
        identities.any(|list| !list.contains(&PrincipalPattern::Present))
            || from
                .cidrs
                .as_ref()
                .is_some_and(|list| list.iter().all(|network| network.prefix_len() > 0))
    });
    let stays_inside =
        !rule.directions.is_empty() && !rule.directions.contains(&Direction::NorthSouth);
    section.default == Action::Deny
        && rule.action == Action::Allow
        && !rule.dry_run
        && !limits
        && !stays_inside
}

/// What a pattern matches that is wider than a domain or a network of one's own.
pub(super) fn width(host: &HostPattern) -> Option<String> {
    match host {
        HostPattern::Any => Some("every host".to_owned()),
        HostPattern::Suffix(name) if !name.as_str().contains('.') => {
            Some(format!("every name below {}", name.as_str()))
        }
        HostPattern::Network(network) if network.prefix_len() == 0 => {
            Some("every address".to_owned())
        }
        _ => None,
    }
}
