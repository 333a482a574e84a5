//! Rules that have expired, or soon will.

use meridian_policy::{ConfigError, Date, Vantage};

use super::warning;
use crate::policy::PolicyFile;

/// How many days ahead a rule is said to expire.
const AHEAD: i32 = 14;

/// A warning for every rule that has expired by `today` or expires within two weeks.
pub(super) fn of(file: &PolicyFile, today: Date) -> Vec<ConfigError> {
    let mut warnings = Vec::new();
    for vantage in Vantage::ALL {
        for (index, rule) in file.policy.section(*vantage).rules.iter().enumerate() {
            let path = format!("hosts.{vantage}.rules[{index}].expires");
            match rule.expires {
                Some(last) if last < today => warnings.push(warning(
                    path,
                    format!("is {last}, which is past: the rule no longer matches"),
                    "remove the rule, or write a later day",
                )),
                Some(last) if last <= today.plus(AHEAD) => warnings.push(warning(
                    path,
                    format!("is {last}: the rule matches until the end of that day (UTC)"),
                    "write a later day, if the rule is to stay",
                )),
                _ => {}
            }
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_weeks_ahead_are_two_weeks() {
        let file = PolicyFile::parse(
            b"hosts: {egress: {rules: [{name: a, action: allow, hosts: [a.example], expires: 2027-03-31}]}}",
        )
        .unwrap();
        let count = |today: &str| of(&file, Date::parse(today).unwrap()).len();
        assert_eq!(count("2027-03-16"), 0);
        assert_eq!(count("2027-03-17"), 1);
        assert_eq!(count("2027-03-31"), 1);
        let past = of(&file, Date::parse("2027-04-01").unwrap());
        assert_eq!(past[0].path, "hosts.egress.rules[0].expires");
        assert!(past[0].message.contains("past"), "{past:?}");
    }
}
