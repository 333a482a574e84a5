//! Which rules hold whenever another one does, as far as their texts tell.

use std::collections::HashMap;

use serde_json::Value;

use crate::policy::written::WrittenRule;

/// The conditions of every rule as sets of numbers: two conditions have one number if they are
/// written alike.
pub(super) struct ConditionSets(Vec<Box<[u32]>>);

impl ConditionSets {
    pub(super) fn of(rules: &[WrittenRule<'_>]) -> Self {
        let mut numbers: HashMap<String, u32> = HashMap::new();
        let mut number_of = |field: &str, value: &Value| {
            let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
            *numbers
                .entry(format!("{field} {}", canonical(value)))
                .or_insert(next)
        };
        let sets = rules.iter().map(|rule| {
            let conditions = rule.conditions();
            let mut set: Vec<u32> = conditions
                .map(|(field, value)| number_of(field, value))
                .collect();
            set.sort_unstable();
            set.into_boxed_slice()
        });
        Self(sets.collect())
    }

    pub(super) fn of_rule(&self, index: usize) -> &[u32] {
        self.0.get(index).map(|set| &**set).unwrap_or_default()
    }
}

/// A condition's text, in which the order of a list does not matter.
fn canonical(value: &Value) -> String {
    let Some(list) = value.as_array() else {
        return value.to_string();
    };
    let mut texts: Vec<String> = list.iter().map(Value::to_string).collect();
    texts.sort_unstable();
    texts.dedup();
    texts.join(",")
}

/// Every subset of a rule's conditions: a rule with one of them holds whenever this one does. Of
/// more conditions than there are fields to write, the empty set and the whole.
pub(super) fn subsets(conditions: &[u32]) -> impl Iterator<Item = Box<[u32]>> + '_ {
    let count = conditions.len().min(10);
    (0..1u32 << count).map(move |mask| {
        let chosen = conditions.iter().enumerate();
        chosen
            .filter(|(index, _)| mask >> index & 1 == 1)
            .map(|(_, condition)| *condition)
            .collect()
    })
}
