//! The times that the scrape configuration and the rules go by.

use std::time::Duration;

/// How often is scraped, and over which times the rules look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// From one scrape to the next, and from one evaluation of the rules to the next.
    pub scrape: Duration,
    /// What counts as now: at least four scrapes.
    pub recent: Duration,
    /// The time before `recent` that refusals are compared with.
    pub baseline: Duration,
    /// The time before `recent` in which a namespace that goes outside has been seen there.
    pub history: Duration,
    /// How long a state must last until its alert fires.
    pub hold: Duration,
}

impl Default for Windows {
    fn default() -> Self {
        const MINUTE: u64 = 60;
        Self {
            scrape: Duration::from_secs(15),
            recent: Duration::from_secs(5 * MINUTE),
            baseline: Duration::from_secs(6 * 60 * MINUTE),
            history: Duration::from_secs(24 * 60 * MINUTE),
            hold: Duration::from_secs(5 * MINUTE),
        }
    }
}
