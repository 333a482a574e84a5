//! What was learned of the logs, before it is written in any format.

use meridian_policy::Vantage;

use super::callers::Callers;
use super::group::ProposedRule;
use super::judge::Suspicious;
use super::observe::Observations;

/// What was learned.
#[derive(Debug)]
pub struct Learned<'o> {
    /// The rules, comments among them.
    pub rules: Vec<ProposedRule>,
    /// What is to be looked at first.
    pub suspicious: Vec<Suspicious<'o>>,
    /// Hosts that the policy allows already.
    pub allowed: usize,
    /// Rules that their section has no room for.
    pub without_room: usize,
    /// What it was learned from.
    pub observations: &'o Observations,
}

impl Learned<'_> {
    /// Who called.
    pub fn callers(&self) -> &Callers {
        &self.observations.callers
    }

    /// The rules of one section.
    pub fn rules_at(&self, vantage: Vantage) -> impl Iterator<Item = &ProposedRule> {
        self.rules.iter().filter(move |rule| rule.at == vantage)
    }

    /// How many rules are no comments.
    pub fn proposed(&self) -> usize {
        let rules = self.rules.iter();
        rules.filter(|rule| rule.reasons.is_empty()).count()
    }
}
