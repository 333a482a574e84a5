//! What a log says of hosts, kept in bounded memory whatever a client writes.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use meridian_policy::{Action, Host, Vantage};

use super::callers::Callers;
use super::tally::{Protocol, Tally};
use crate::access_log::Entry;

/// How many hosts are kept.
pub const MAX_HOSTS: usize = 100_000;
/// How many authorities that are no hosts are kept.
const MAX_INVALID: usize = 1_000;
/// The longest part of such an authority that is kept, in characters.
const MAX_INVALID_LENGTH: usize = 100;

/// Which entries are looked at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Selection {
    /// Only of this vantage, which is also that of entries that do not tell theirs.
    pub at: Option<Vantage>,
    /// Only from this moment on.
    pub since: Option<Timestamp>,
    /// Only before this moment.
    pub until: Option<Timestamp>,
    /// Also what was allowed.
    pub all: bool,
}

/// One host at one vantage.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// What was, or in dry run would have been, refused by the default; with `all` also what was
    /// allowed.
    pub open: Tally,
    /// What was refused by other reasons: a rule's name or `sni-mismatch`, and how often.
    pub refused: Option<(Box<str>, Tally)>,
}

/// Everything that was seen.
#[derive(Debug)]
pub struct Observations {
    max_hosts: usize,
    hosts: [HashMap<Box<str>, Observed>; 4],
    /// The callers that the tallies name.
    pub callers: Callers,
    /// Authorities that are no hosts, cut to 100 characters, and how often.
    pub invalid: BTreeMap<(Vantage, String), u64>,
    /// True once so many hosts were asked for twice that no more are taken.
    is_full: bool,
    /// Entries that the selection takes.
    pub taken: u64,
    /// Entries that do not tell their vantage.
    pub without_vantage: u64,
    /// Entries of further hosts, for which there was no room.
    pub overflow: u64,
    /// Entries of invalid hosts beyond those that are kept.
    pub invalid_overflow: u64,
}

impl Default for Observations {
    fn default() -> Self {
        Self::new(MAX_HOSTS)
    }
}

/// What an entry says of its host.
enum Finding<'e> {
    Open,
    Refused(&'e str),
    Invalid,
}

impl Observations {
    /// Keeps at most `max_hosts` hosts.
    pub fn new(max_hosts: usize) -> Self {
        Self {
            max_hosts,
            hosts: Default::default(),
            callers: Callers::default(),
            invalid: BTreeMap::new(),
            is_full: false,
            taken: 0,
            without_vantage: 0,
            overflow: 0,
            invalid_overflow: 0,
        }
    }

    /// Looks at one entry.
    pub fn add(&mut self, entry: &Entry<'_>, selection: &Selection) {
        let Some(finding) = finding(entry, selection.all) else {
            return;
        };
        let time = entry.timestamp();
        if selection.since.is_some_and(|since| time < Some(since)) {
            return;
        }
        if let Some(until) = selection.until
            && time.is_none_or(|time| time >= until)
        {
            return;
        }
        let Some(vantage) = entry.vantage().or(selection.at) else {
            self.without_vantage += 1;
            return;
        };
        if selection.at.is_some_and(|at| at != vantage) {
            return;
        }
        let target = match (finding, entry.target()) {
            (Finding::Invalid, _) | (_, Some(Err(_))) => {
                self.taken += 1;
                self.add_invalid(vantage, entry);
                return;
            }
            (finding, Some(Ok(target))) => (finding, target),
            // A connection that tells neither server name nor address: nothing to name in a rule.
            (_, None) => return,
        };
        self.taken += 1;
        let (finding, authority) = target;
        let caller = self.callers.of(entry);
        let protocol = match (entry.is_connection(), &entry.sni) {
            (false, _) => Protocol::Http,
            (true, Some(_)) => Protocol::Tls,
            (true, None) => Protocol::Tcp,
        };
        let port = (authority.port, protocol);
        let observed = match &authority.host {
            Host::Name(name) => self.observed(vantage, name.as_str()),
            address => self.observed(vantage, &address.to_string()),
        };
        let Some(observed) = observed else {
            self.overflow += 1;
            return;
        };
        match finding {
            Finding::Open | Finding::Invalid => observed.open.add(caller, port, time),
            Finding::Refused(rule) => {
                let (_, tally) = observed
                    .refused
                    .get_or_insert_with(|| (rule.into(), Tally::default()));
                tally.add(caller, port, time);
            }
        }
    }

    /// The hosts of a vantage by name.
    pub fn hosts(&self, vantage: Vantage) -> BTreeMap<&str, &Observed> {
        self.hosts[vantage.index()]
            .iter()
            .map(|(host, observed)| (&**host, observed))
            .collect()
    }

    /// True if a host was seen at the vantage.
    pub fn has_hosts(&self, vantage: Vantage) -> bool {
        !self.hosts[vantage.index()].is_empty()
    }

    fn observed(&mut self, vantage: Vantage, host: &str) -> Option<&mut Observed> {
        if !self.hosts[vantage.index()].contains_key(host) {
            if self.hosts.iter().map(HashMap::len).sum::<usize>() >= self.max_hosts {
                self.make_room();
            }
            if self.is_full {
                return None;
            }
            self.hosts[vantage.index()].insert(host.into(), Observed::default());
        }
        self.hosts[vantage.index()].get_mut(host)
    }

    /// Forgets the hosts that were asked for once: of many they are the ones that nobody misses. When
    /// that hardly helps, no more are taken, because to search again and again would take forever.
    fn make_room(&mut self) {
        if self.is_full {
            return;
        }
        let mut forgotten = 0;
        for hosts in &mut self.hosts {
            hosts.retain(|_, observed| {
                let refused = observed.refused.as_ref();
                let requests =
                    observed.open.requests + refused.map_or(0, |(_, tally)| tally.requests);
                forgotten += usize::from(requests <= 1);
                requests > 1
            });
        }
        self.overflow += forgotten as u64;
        self.is_full = forgotten <= self.max_hosts / 10;
    }

    fn add_invalid(&mut self, vantage: Vantage, entry: &Entry<'_>) {
        let raw = [&entry.authority, &entry.sni, &entry.host];
        let raw = raw.into_iter().flatten().next();
        let raw = raw.map_or("", |raw| raw.as_ref());
        let key = (vantage, raw.chars().take(MAX_INVALID_LENGTH).collect());
        if let Some(count) = self.invalid.get_mut(&key) {
            *count += 1;
        } else if self.invalid.len() < MAX_INVALID {
            self.invalid.insert(key, 1);
        } else {
            self.invalid_overflow += 1;
        }
    }
}

fn finding<'e>(entry: &'e Entry<'_>, all: bool) -> Option<Finding<'e>> {
    let by_rule = |rule| match rule {
        "default" => Finding::Open,
        "invalid-host" => Finding::Invalid,
        rule => Finding::Refused(rule),
    };
    if entry.decision() == Some(Action::Deny) {
        // Without a rule it was refused for want of a policy, which no rule would mend.
        return entry.rule().map(by_rule);
    }
    if let Some(would) = entry.dry_run()
        && would.decision == Action::Deny
    {
        return Some(by_rule(would.rule));
    }
    // NR, NC, DF: no route, no cluster, no address. It was let through, but led nowhere.
    let leads_nowhere = entry.flags.as_deref().is_some_and(|flags| {
        flags
            .split(',')
            .any(|flag| matches!(flag, "NR" | "NC" | "DF"))
    });
    (all && !leads_nowhere).then_some(Finding::Open)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(observations: &mut Observations, host: &str) {
        let entry = Entry {
            reporter: Some("egress".into()),
            authority: Some(host.into()),
            method: Some("GET".into()),
            details: Some("meridian_deny{default}".into()),
            ..Entry::default()
        };
        observations.add(&entry, &Selection::default());
    }

    #[test]
    fn a_flood_of_names_leaves_room_for_the_hosts_that_are_asked_for_again() {
        let mut observations = Observations::new(100);
        for number in 0..1_000 {
            add(&mut observations, &format!("{number}.flood.example"));
            add(&mut observations, "api.partner.example");
        }
        let hosts = observations.hosts(Vantage::Egress);
        assert!(hosts.len() <= 100);
        assert_eq!(hosts["api.partner.example"].open.requests, 1_000);
        let kept: u64 = hosts.values().map(|observed| observed.open.requests).sum();
        assert_eq!(kept + observations.overflow, 2_000);
    }

    #[test]
    fn a_flood_of_names_asked_for_twice_is_counted() {
        let mut observations = Observations::new(100);
        add(&mut observations, "api.partner.example");
        add(&mut observations, "api.partner.example");
        for number in 0..1_000 {
            add(&mut observations, &format!("{number}.flood.example"));
            add(&mut observations, &format!("{number}.flood.example"));
        }
        let hosts = observations.hosts(Vantage::Egress);
        assert!(hosts.len() <= 100);
        assert_eq!(hosts["api.partner.example"].open.requests, 2);
        let kept: u64 = hosts.values().map(|observed| observed.open.requests).sum();
        assert_eq!(kept + observations.overflow, 2_002);
    }

    #[test]
    fn what_is_no_host_is_kept_apart_and_bounded() {
        let mut observations = Observations::new(100);
        for number in 0..2_000 {
            add(
                &mut observations,
                &format!("a b {number} {}", "x".repeat(200)),
            );
        }
        assert_eq!(observations.invalid.len(), MAX_INVALID);
        assert_eq!(observations.invalid_overflow, 1_000);
        assert!(observations.hosts(Vantage::Egress).is_empty());
    }
}
