//! The order in which the rules that name one host are asked.

use std::cmp::Reverse;

use crate::{Action, HostPattern};

/// How closely a pattern describes the hosts that it matches; the closest is the least.
///
/// Of two patterns that match one host: a name before every wildcard, a wildcard with the longer
/// suffix first, a network with the longer prefix first, and `*` last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Specificity {
    /// A name.
    Exact,
    /// The names below a suffix of this many bytes.
    Suffix(Reverse<usize>),
    /// The addresses of a network with a prefix of this many bits.
    Network(Reverse<u8>),
    /// `*`
    Any,
}

impl HostPattern {
    /// How closely the pattern describes the hosts that it matches.
    pub fn specificity(&self) -> Specificity {
        match self {
            Self::Exact(_) => Specificity::Exact,
            Self::Suffix(name) => Specificity::Suffix(Reverse(name.as_bytes().len())),
            Self::Network(network) => Specificity::Network(Reverse(network.prefix_len())),
            Self::Any => Specificity::Any,
        }
    }
}

/// A rule's place among the rules that name a host with the same pattern; the least is asked first:
/// deny before allow, then in the order of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank(u16);

/// Rules that deny have ranks below this, those that allow from here on.
const ALLOW: u16 = 1 << 15;

impl Rank {
    /// The rank of the rule of this index in its section, which holds fewer than 2¹⁵.
    pub fn new(action: Action, index: usize) -> Self {
        let index = u16::try_from(index).unwrap_or(u16::MAX).min(ALLOW - 1);
        match action {
            Action::Deny => Self(index),
            Action::Allow => Self(ALLOW | index),
        }
    }

    /// The rule's index in its section.
    pub fn index(self) -> usize {
        usize::from(self.0 & (ALLOW - 1))
    }
}

impl From<Rank> for u16 {
    /// As a value of a [`crate::HostMap`], whose order is that of ranks.
    fn from(rank: Rank) -> Self {
        rank.0
    }
}

impl From<u16> for Rank {
    fn from(value: u16) -> Self {
        Self(value)
    }
}

/// Where a rule stands among those that name a host; the least is asked first, and the first whose
/// conditions hold decides. [`crate::HostMap::visit`] goes by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Precedence {
    /// The rule's pattern that matches the host.
    pub specificity: Specificity,
    /// The rule, among those with the same pattern.
    pub rank: Rank,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pattern;

    fn precedence(pattern: &str, action: Action, index: usize) -> Precedence {
        Precedence {
            specificity: Pattern::parse(pattern).unwrap().host.specificity(),
            rank: Rank::new(action, index),
        }
    }

    #[test]
    fn the_closest_pattern_comes_first_then_deny_then_the_document() {
        use Action::{Allow, Deny};
        for order in [
            &[
                precedence("a.b.example.com", Deny, 7),
                precedence("a.b.example.com", Allow, 0),
                precedence("a.b.example.com", Allow, 1),
                precedence("*.b.example.com", Deny, 3),
                precedence("*.b.example.com", Allow, 2),
                precedence("*.example.com", Deny, 0),
                precedence("*.com", Allow, 0),
                precedence("*", Deny, 9_999),
                precedence("*", Allow, 0),
            ][..],
            &[
                precedence("10.1.2.3", Allow, 5),
                precedence("10.1.0.0/16", Deny, 9),
                precedence("10.0.0.0/8", Deny, 0),
                precedence("*", Deny, 0),
            ],
        ] {
            assert!(
                order.is_sorted_by(|before, after| before < after),
                "{order:?}"
            );
        }
    }

    #[test]
    fn a_rank_keeps_its_rule() {
        for action in Action::ALL {
            for index in [0, 1, crate::MAX_RULES - 1] {
                let rank = Rank::new(*action, index);
                assert_eq!(rank.index(), index);
                assert_eq!(Rank::from(u16::from(rank)), rank);
            }
        }
    }
}
