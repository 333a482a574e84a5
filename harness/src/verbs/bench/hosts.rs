//! The hosts that policies allow and requests ask for, the same for every filter. They differ in
//! length, as names do: whoever compares lengths first is not robbed of it.

use std::sync::Arc;

/// Requests ask for at most this many different hosts of a policy.
const MOST_ASKED: usize = 10_000;

/// What hosts are called after.
const SERVICES: [&str; 16] = [
    "api",
    "cart",
    "login",
    "search",
    "billing",
    "checkout",
    "inventory",
    "promotions",
    "wishlist",
    "orders",
    "recommendations",
    "pricing",
    "media",
    "web",
    "notifications",
    "accounts",
];

/// The host with that number of every policy that has so many.
pub fn known(number: usize) -> String {
    let service = SERVICES[number % SERVICES.len()];
    format!("{service}-{number}.apps.shop.example.com")
}

/// A host that no policy has.
fn unknown(number: usize) -> String {
    let service = SERVICES[number % SERVICES.len()];
    format!("{service}-{number}.apps.spam.example.com")
}

/// An endless, repeating order of hosts to ask for.
#[derive(Debug)]
pub struct HostOrder {
    hosts: Vec<Arc<str>>,
    next: usize,
}

impl HostOrder {
    /// Hosts from all over a policy of `count`, in an order that `seed` decides: a table must be
    /// searched for each, and a list read to its middle on average.
    pub fn known(count: usize, seed: u64) -> Self {
        let asked = count.min(MOST_ASKED);
        Self::shuffled(
            (0..asked).map(|number| known(number * (count / asked))),
            seed,
        )
    }

    /// Hosts that no policy has.
    pub fn unknown(seed: u64) -> Self {
        Self::shuffled((0..1000).map(unknown), seed)
    }

    fn shuffled(hosts: impl Iterator<Item = String>, seed: u64) -> Self {
        let mut hosts: Vec<Arc<str>> = hosts.map(Arc::from).collect();
        fastrand::Rng::with_seed(seed).shuffle(&mut hosts);
        Self { hosts, next: 0 }
    }

    /// The next `count` of them.
    pub fn take(&mut self, count: usize) -> Vec<Arc<str>> {
        let taken = self.hosts.iter().cycle().skip(self.next).take(count);
        let taken = taken.cloned().collect();
        self.next = (self.next + count) % self.hosts.len();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_of_a_small_policy_is_asked_for_as_often() {
        let mut asked = HostOrder::known(10, 1);
        let mut taken = asked.take(15);
        taken.extend(asked.take(15));
        for number in 0..10 {
            let host = known(number);
            assert_eq!(taken.iter().filter(|asked| ***asked == *host).count(), 3);
        }
    }

    #[test]
    fn a_large_policy_is_asked_from_end_to_end() {
        let hosts = HostOrder::known(1_000_000, 1).take(MOST_ASKED);
        assert!(hosts.iter().any(|host| **host == *known(0)));
        assert!(hosts.iter().any(|host| **host == *known(999_900)));
    }

    #[test]
    fn names_are_as_long_whether_a_policy_knows_them_or_not() {
        let average = |numbers: std::ops::Range<usize>, name: fn(usize) -> String| {
            let count = numbers.len();
            numbers.map(|number| name(number).len()).sum::<usize>() / count
        };
        assert_eq!(average(0..1000, known), average(0..1000, unknown));
        // The README says how much memory hosts of that length take.
        assert_eq!(average(0..1_000_000, known), 36);
    }
}
