//! Rules of one section against each other: hosts that another rule always decides, and hosts that
//! are listed twice; and rules that are wider than their section.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};

use meridian_policy::{Action, ConfigError, HostPattern, Rule, Section, Vantage};

use super::condition_sets::{ConditionSets, subsets};
use super::conditions::{self, NotHosts};
use super::warning;
use super::width::{is_open, width};
use crate::policy::PolicyFile;
use crate::policy::written::{WrittenHost, WrittenHosts, WrittenRule};

/// The warnings of a section.
pub(super) fn of(file: &PolicyFile, vantage: Vantage) -> Vec<ConfigError> {
    let rules: Vec<WrittenRule<'_>> = file.written().rules(vantage).collect();
    let count = rules.len();
    let mut check = Check {
        vantage,
        section: file.policy.section(vantage),
        conditions: ConditionSets::of(&rules),
        rules,
        listed: Vec::new(),
        hasher: RandomState::new(),
        findings: Findings::default(),
        warnings: BTreeMap::new(),
    };
    for index in 0..count {
        check.read_rule(file, index);
    }
    check.compare();
    check.report()
}

/// A host of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Listed {
    rule: usize,
    host: usize,
    port: Option<u16>,
}

/// What a rule needs to decide on a host: its conditions, the port, and whether it is in dry run.
type Claim = (Box<[u32]>, Option<u16>, bool);

/// What is wrong with a host of a rule, and the other rule that makes it so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Finding {
    /// The rule lists it already, or lists it for every port.
    Repeated,
    /// A rule of equal action and conditions lists it too.
    Duplicate(usize),
    /// A rule that denies lists it too, and holds whenever this one does.
    DeniedBy(usize),
    /// An earlier rule of the same action lists it too, and holds whenever this one does.
    DecidedBy(usize),
    /// The rule's own conditions exclude it.
    Excluded(&'static str),
}

/// The findings of each rule: for each kind the first host and how many there are.
type Findings = BTreeMap<(usize, Finding), (usize, usize)>;

struct Check<'p> {
    vantage: Vantage,
    section: &'p Section,
    rules: Vec<WrittenRule<'p>>,
    conditions: ConditionSets,
    /// Hashes of canonical hosts, and who lists them; without the hosts that can never match. Of a
    /// million hosts nearly all have a hash of their own.
    listed: Vec<(u64, Listed)>,
    hasher: RandomState,
    findings: Findings,
    /// By rule, those that do not come of findings.
    warnings: BTreeMap<usize, Vec<ConfigError>>,
}

impl<'p> Check<'p> {
    fn place(&self, rule: usize) -> String {
        format!("hosts.{}.rules[{rule}]", self.vantage)
    }

    fn rule(&self, index: usize) -> Option<&'p Rule> {
        self.rules.get(index).map(|rule| rule.compiled)
    }

    fn name(&self, index: usize) -> &str {
        self.rule(index).map(|rule| &*rule.name).unwrap_or_default()
    }

    fn hosts(&self, rule: usize) -> WrittenHosts<'p> {
        let rule = self.rules.get(rule).copied();
        rule.map(WrittenRule::hosts).unwrap_or_default()
    }

    fn read_rule(&mut self, file: &PolicyFile, index: usize) {
        let Some(written) = self.rules.get(index).copied() else {
            return;
        };
        let rule = written.compiled;
        let mesh = &file.policy.mesh;
        if let Some(found) = conditions::contradiction(mesh, self.vantage, rule) {
            let place = format!("{}.{}", self.place(index), found.field);
            let message = format!("{}, so rule {:?} can never match", found.message, rule.name);
            let warning = warning(place, message, found.hint);
            self.warnings.entry(index).or_default().push(warning);
            return;
        }
        let not_hosts = NotHosts::of(written.not_hosts());
        let is_open = is_open(self.section, rule);
        for WrittenHost {
            index: host,
            text,
            pattern,
        } in written.hosts().parsed()
        {
            if is_open && let Some(width) = width(&pattern.host) {
                let warning = warning(
                    format!("{}.hosts[{host}]", self.place(index)),
                    format!("{text:?} allows {width}, in a section that denies by default"),
                    "list the hosts that are meant, or say in `from` who may reach them all",
                );
                self.warnings.entry(index).or_default().push(warning);
            }
            let excluded =
                conditions::host_contradiction(mesh, self.vantage, rule, &not_hosts, &pattern);
            if let Some(why) = excluded {
                self.find(index, Finding::Excluded(why), host);
                continue;
            }
            let listed = Listed {
                rule: index,
                host,
                port: pattern.port,
            };
            let hash = match &pattern.host {
                HostPattern::Any => self.hasher.hash_one(0u8),
                HostPattern::Exact(name) => self.hasher.hash_one((1u8, name.as_str())),
                HostPattern::Suffix(name) => self.hasher.hash_one((2u8, name.as_str())),
                HostPattern::Network(network) => self.hasher.hash_one((3u8, network)),
            };
            self.listed.push((hash, listed));
        }
    }

    fn find(&mut self, rule: usize, finding: Finding, host: usize) {
        let (_, count) = self.findings.entry((rule, finding)).or_insert((host, 0));
        *count += 1;
    }

    /// Compares the rules that list the same host.
    fn compare(&mut self) {
        let mut listed = std::mem::take(&mut self.listed);
        listed.sort_unstable_by_key(|(hash, _)| *hash);
        let same_hash = listed.chunk_by(|(one, _), (next, _)| one == next);
        for same in same_hash.filter(|same| same.len() > 1) {
            let mut same: Vec<Listed> = same.iter().map(|(_, listed)| *listed).collect();
            // The order in which a decision looks at them.
            same.sort_unstable_by_key(|one| {
                let is_allow = self.rule(one.rule).map(|rule| rule.action) == Some(Action::Allow);
                (is_allow, one.rule, one.port, one.host)
            });
            let mut before: HashMap<Claim, Listed> = HashMap::new();
            for one in same {
                let Some(rule) = self.rule(one.rule) else {
                    continue;
                };
                let (is_dry, action) = (rule.dry_run, rule.action);
                let own = self.conditions.of_rule(one.rule);
                let ports = if one.port.is_some() {
                    vec![None, one.port]
                } else {
                    vec![None]
                };
                // A dry run is never carried out, so it takes a host from other dry runs alone.
                let dry: &[bool] = if is_dry { &[false, true] } else { &[false] };
                let earlier = subsets(own).find_map(|conditions| {
                    let keys = ports
                        .iter()
                        .flat_map(|port| dry.iter().map(move |dry| (*port, *dry)));
                    keys.into_iter().find_map(|(port, dry)| {
                        before.get(&(conditions.clone(), port, dry)).copied()
                    })
                });
                before.entry((own.into(), one.port, is_dry)).or_insert(one);
                let Some(earlier) = earlier else { continue };
                let other = earlier.rule;
                let is_equal = self.conditions.of_rule(other) == own
                    && self.rule(other).map(|rule| (rule.action, rule.dry_run))
                        == Some((action, is_dry));
                let finding = if other == one.rule {
                    Finding::Repeated
                } else if is_equal {
                    Finding::Duplicate(other)
                } else if self.rule(other).map(|rule| rule.action) != Some(action) {
                    Finding::DeniedBy(other)
                } else {
                    Finding::DecidedBy(other)
                };
                let entry = self
                    .findings
                    .entry((one.rule, finding))
                    .or_insert((one.host, 0));
                // Hosts come in the order of their hashes.
                *entry = (entry.0.min(one.host), entry.1 + 1);
            }
        }
    }

    fn report(mut self) -> Vec<ConfigError> {
        let findings = std::mem::take(&mut self.findings);
        for index in 0..self.rules.len() {
            let of_rule = findings.range((index, Finding::Repeated)..);
            let of_rule: Vec<_> = of_rule
                .take_while(|((rule, _), _)| *rule == index)
                .collect();
            let lost: usize = of_rule.iter().map(|(_, (_, count))| count).sum();
            let is_lost = lost > 0 && self.hosts(index).len() == lost;
            let mut warnings: Vec<ConfigError> = of_rule
                .into_iter()
                .map(|((_, finding), (host, count))| self.describe(index, *finding, *host, *count))
                .collect();
            if is_lost {
                // One warning says it, with one reason. Hosts that are repeated come first in the
                // order of findings, and are lost only because of another finding.
                let name = self.name(index);
                let reason = warnings.pop();
                warnings = reason.into_iter().collect();
                for reason in &mut warnings {
                    reason.message = format!("rule {name:?} can never match: {}", reason.message);
                    reason.path = self.place(index);
                }
            }
            self.warnings.entry(index).or_default().extend(warnings);
        }
        self.warnings.into_values().flatten().collect()
    }

    fn describe(&self, rule: usize, finding: Finding, host: usize, count: usize) -> ConfigError {
        let place = format!("{}.hosts[{host}]", self.place(rule));
        let written = self.hosts(rule).get(host);
        let text = written.map(|host| host.text).unwrap_or_default();
        let subject = match count {
            1 => format!("{text:?}"),
            2 => format!("{text:?} and 1 more host"),
            _ => format!("{text:?} and {} more hosts", count - 1),
        };
        let verb = if count == 1 { "is" } else { "are" };
        match finding {
            Finding::Repeated => warning(
                place,
                format!(
                    "{subject} {verb} in this rule already{}",
                    self.spelling(rule, host)
                ),
                "keep one of the two",
            ),
            Finding::Duplicate(other) => warning(
                place,
                format!(
                    "{subject} {verb} in rule {:?} too, of the same action and conditions",
                    self.name(other)
                ),
                "keep it in one of the two rules",
            ),
            Finding::DeniedBy(other) => warning(
                place,
                format!(
                    "{subject} {verb} denied by rule {:?} too, and at a tie deny wins",
                    self.name(other)
                ),
                "remove it from one of the two rules, or give the one that denies a condition",
            ),
            Finding::DecidedBy(other) => warning(
                place,
                format!(
                    "{subject} {verb} in the earlier rule {:?} too, which holds whenever this one does",
                    self.name(other)
                ),
                "remove it from one of the two rules",
            ),
            Finding::Excluded(why) => {
                let others = match count {
                    1 => String::new(),
                    _ => format!(", and {} more likewise", count - 1),
                };
                warning(
                    place,
                    format!("{text:?} {why}{others}"),
                    "remove the host, or mend the condition",
                )
            }
        }
    }

    /// How the same host is written elsewhere in the rule, where that differs.
    fn spelling(&self, rule: usize, host: usize) -> String {
        let hosts = self.hosts(rule);
        let Some(WrittenHost { text, pattern, .. }) = hosts.get(host) else {
            return String::new();
        };
        let mut others = hosts.parsed().filter(|other| other.index != host);
        let same = others.find(|other| {
            let port = other.pattern.port;
            other.pattern.host == pattern.host && (port.is_none() || port == pattern.port)
        });
        match same {
            Some(other) if other.text != text => format!(", as {:?}", other.text),
            _ => String::new(),
        }
    }
}
