//! What the logs say, counted as they are read, in bounded memory.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use meridian_policy::{Action, Direction, Host, Vantage};

use crate::access_log::{Entry, LoggedCaller};

/// How many different hops are told apart. Beyond, what clients choose freely is folded.
const MAX_HOPS: usize = 100_000;
/// How many keys a chart's table has at most, as far as the keys come from the log.
const MAX_KEYS: usize = 10_000;
/// How many different times are kept. A day has 86,400 seconds.
const MAX_SECONDS: usize = 1_000_000;

/// A proxy or a workload.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    /// Empty where the log does not tell.
    pub(super) namespace: String,
    pub(super) name: String,
}

/// Who called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Workload(Place),
    Address(IpAddr),
    Unknown,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Destination {
    Host(String),
    /// It was no host; what it was instead is the client's text, and not shown.
    Invalid,
    None,
    /// One too many to tell apart.
    Other,
}

/// Requests or connections that are alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LoggedHop {
    pub(super) vantage: Option<Vantage>,
    pub(super) proxy: Place,
    pub(super) source: Source,
    /// The evidence is that an ingress gateway called.
    pub(super) from_gateway: bool,
    pub(super) destination: Destination,
    pub(super) direction: Direction,
    /// The rule that refused, if it was refused.
    pub(super) refused: Option<String>,
    /// The rule by which a dry run would have refused.
    pub(super) would_deny: Option<String>,
}

/// Requests of one second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Second {
    /// By [`Direction`]: north-south, east-west, unknown.
    pub(super) directions: [u64; 3],
    pub(super) refused: u64,
}

/// Everything that the page shows, counted as the logs are read.
#[derive(Debug, Default)]
pub struct Traffic {
    pub(super) entries: u64,
    pub(super) malformed: u64,
    pub(super) hops: BTreeMap<LoggedHop, u64>,
    /// By Unix second, where requests are seen first: at ingress and outbound.
    pub(super) first_seen: BTreeMap<i64, Second>,
    /// The same of the other reporters, for logs that have no such proxy.
    pub(super) later_seen: BTreeMap<i64, Second>,
    /// By rule and reporter.
    pub(super) refusals: BTreeMap<(String, String), u64>,
    /// By rule and reporter.
    pub(super) dry_run: BTreeMap<(String, String), u64>,
    /// How many requests took that many milliseconds, by reporter and direction.
    pub(super) durations: BTreeMap<(String, String), BTreeMap<u64, u64>>,
    /// By component type and reporter.
    pub(super) components: BTreeMap<(String, String), u64>,
    /// Allowed and refused at egress, by caller.
    pub(super) egress_callers: BTreeMap<String, (u64, u64)>,
}

impl Traffic {
    /// Takes one entry in. `stem` names the proxy where the log does not.
    pub(super) fn count(&mut self, entry: &Entry<'_>, stem: &str) {
        self.entries += 1;
        // An older log has no reporter; those of the local topology name it as file or listener.
        let vantage = entry
            .vantage()
            .or_else(|| Vantage::from_word(stem))
            .or_else(|| Vantage::from_word(entry.listener.as_deref()?));
        let reporter = vantage.map_or("unknown", Vantage::as_str);
        let direction = entry.direction().unwrap_or(Direction::Unknown);
        let refused = match entry.decision() {
            Some(Action::Deny) => Some(entry.rule().unwrap_or("unknown").to_owned()),
            _ => None,
        };
        let would_deny = entry
            .dry_run()
            .filter(|dry_run| dry_run.decision == Action::Deny)
            .map(|dry_run| dry_run.rule.to_owned());
        self.time(entry, vantage, direction, refused.is_some());
        for (rule, counts) in [
            (&refused, &mut self.refusals),
            (&would_deny, &mut self.dry_run),
        ] {
            if let Some(rule) = rule {
                bump(counts, (rule.clone(), reporter.to_owned()), 1);
            }
        }
        if !entry.is_connection() {
            let component = entry.component_type.as_deref().unwrap_or("unknown");
            let key = (component.to_owned(), reporter.to_owned());
            bump(&mut self.components, key, 1);
            if let Some(duration) = entry.duration_ms {
                let key = (reporter.to_owned(), direction.as_str().to_owned());
                bump(self.durations.entry(key).or_default(), duration, 1);
            }
        }
        let source = match entry.caller() {
            LoggedCaller::Workload { namespace, account } => Source::Workload(Place {
                namespace: namespace.to_owned(),
                name: account.to_owned(),
            }),
            LoggedCaller::Source(address) => Source::Address(address),
            LoggedCaller::Unknown => Source::Unknown,
        };
        if vantage == Some(Vantage::Egress) {
            self.egress_caller(&source, refused.is_some());
        }
        let hop = LoggedHop {
            vantage,
            proxy: Place {
                namespace: entry.namespace.as_deref().unwrap_or("").to_owned(),
                name: entry.proxy.as_deref().unwrap_or(stem).to_owned(),
            },
            source: match (vantage, source) {
                // Which of the clients outside it was is not drawn.
                (Some(Vantage::Ingress), Source::Address(_))
                    if direction == Direction::NorthSouth =>
                {
                    Source::Unknown
                }
                // The caller is the workload beside the proxy.
                (Some(Vantage::Outbound), _) => Source::Unknown,
                (_, source) => source,
            },
            from_gateway: matches!(
                entry.evidence.as_deref(),
                Some("gateway-tag" | "ingress-gateway")
            ),
            destination: match entry.target() {
                None => Destination::None,
                Some(Err(_)) => Destination::Invalid,
                Some(Ok(target)) => Destination::Host(match target.host {
                    Host::Address(address) => address.to_string(),
                    host => host.to_string(),
                }),
            },
            direction,
            refused,
            would_deny,
        };
        self.hop(hop);
    }

    fn hop(&mut self, mut hop: LoggedHop) {
        if self.hops.len() >= MAX_HOPS && !self.hops.contains_key(&hop) {
            hop.destination = Destination::Other;
            if matches!(hop.source, Source::Address(_)) {
                hop.source = Source::Unknown;
            }
            // A log that makes up proxies and rules as well is counted no further.
            if self.hops.len() >= 2 * MAX_HOPS && !self.hops.contains_key(&hop) {
                return;
            }
        }
        *self.hops.entry(hop).or_default() += 1;
    }

    fn time(
        &mut self,
        entry: &Entry<'_>,
        vantage: Option<Vantage>,
        direction: Direction,
        is_refused: bool,
    ) {
        let Some(second) = entry.timestamp().map(Timestamp::as_second) else {
            return;
        };
        let times = match vantage {
            Some(Vantage::Ingress | Vantage::Outbound) => &mut self.first_seen,
            _ => &mut self.later_seen,
        };
        if times.len() >= MAX_SECONDS && !times.contains_key(&second) {
            return;
        }
        let counts = times.entry(second).or_default();
        counts.directions[direction.index()] += 1;
        counts.refused += u64::from(is_refused);
    }

    fn egress_caller(&mut self, source: &Source, is_refused: bool) {
        let name = match source {
            Source::Workload(place) => format!("{}/{}", place.namespace, place.name),
            Source::Address(address) => address.to_string(),
            Source::Unknown => "unknown".to_owned(),
        };
        if self.egress_callers.len() < MAX_KEYS || self.egress_callers.contains_key(&name) {
            let (allowed, refused) = self.egress_callers.entry(name).or_default();
            match is_refused {
                true => *refused += 1,
                false => *allowed += 1,
            }
        }
    }

    /// What is drawn over time.
    pub(super) fn times(&self) -> &BTreeMap<i64, Second> {
        match self.first_seen.is_empty() {
            true => &self.later_seen,
            false => &self.first_seen,
        }
    }
}

fn bump<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K, by: u64) {
    if counts.len() < MAX_KEYS || counts.contains_key(&key) {
        *counts.entry(key).or_default() += by;
    }
}

/// The value that at least `percent` per cent of the counted ones are at or below: the nearest rank.
pub(super) fn percentile(counts: &BTreeMap<u64, u64>, percent: u64) -> Option<u64> {
    let total: u64 = counts.values().sum();
    let rank = (total * percent).div_ceil(100).max(1);
    let mut below = 0;
    counts
        .iter()
        .find(|(_, count)| {
            below += **count;
            below >= rank
        })
        .map(|(value, _)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        // The example of https://en.wikipedia.org/wiki/Percentile#The_nearest-rank_method
        let counts: BTreeMap<u64, u64> = [15, 20, 35, 40, 50].map(|value| (value, 1)).into();
        let of = |percent| percentile(&counts, percent);
        assert_eq!(
            [of(5), of(30), of(40), of(50), of(100)],
            [15, 20, 20, 35, 50].map(Some)
        );
        assert_eq!(percentile(&BTreeMap::new(), 50), None);
        assert_eq!(percentile(&[(1, 99), (7, 1)].into(), 99), Some(1));
    }
}
