//! How often something was asked for, by whom and when.

use jiff::Timestamp;

use super::callers::{CallerId, Callers};
use crate::text::numbers::counted;

/// How many callers of one host are told apart.
const MAX_CALLERS: usize = 32;
/// How many of them are named.
const MAX_NAMED: usize = 5;
/// How many ports of one host are told apart.
const MAX_PORTS: usize = 8;

/// How a host was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// Requests.
    Http,
    /// Connections of TLS that passed unread.
    Tls,
    /// Other connections.
    Tcp,
}

/// A sum over entries, in bounded memory.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Requests and connections.
    pub requests: u64,
    /// The callers with their share, at most 32.
    pub callers: Vec<(CallerId, u64)>,
    /// The share of all further callers.
    pub further: u64,
    /// Ports as they were written beside the host, at most 8.
    pub ports: Vec<((Option<u16>, Protocol), u64)>,
    /// True if there were more ports than are kept.
    pub has_more_ports: bool,
    /// The first time.
    pub first: Option<Timestamp>,
    /// The last time.
    pub last: Option<Timestamp>,
}

impl Tally {
    /// Adds one entry.
    pub fn add(
        &mut self,
        caller: CallerId,
        port: (Option<u16>, Protocol),
        time: Option<Timestamp>,
    ) {
        self.requests += 1;
        self.add_caller(caller, 1);
        self.add_port(port, 1);
        self.first = earlier(self.first, time);
        self.last = self.last.max(time);
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        for (caller, count) in &other.callers {
            self.add_caller(*caller, *count);
        }
        self.further += other.further;
        for (port, count) in &other.ports {
            self.add_port(*port, *count);
        }
        self.has_more_ports |= other.has_more_ports;
        self.first = earlier(self.first, other.first);
        self.last = self.last.max(other.last);
    }

    /// The ports, if every entry had one written.
    pub fn written_ports(&self) -> Option<Vec<u16>> {
        if self.has_more_ports {
            return None;
        }
        let mut ports: Vec<u16> = self
            .ports
            .iter()
            .map(|((port, _), _)| *port)
            .collect::<Option<_>>()?;
        ports.sort_unstable();
        ports.dedup();
        Some(ports)
    }

    /// How often, by whom and when, in words that are safe to print.
    pub fn summary(&self, callers: &Callers) -> String {
        let mut text = counted(self.requests, "request");
        if !self.callers.is_empty() {
            let mut sorted = self.callers.clone();
            sorted.sort_by_key(|(caller, count)| (std::cmp::Reverse(*count), *caller));
            let named: Vec<String> = sorted
                .iter()
                .take(MAX_NAMED)
                .map(|(caller, count)| match sorted.len() {
                    1 if self.further == 0 => callers.get(*caller).name(),
                    _ => format!("{} ({count})", callers.get(*caller).name()),
                })
                .collect();
            text += &format!(" by {}", named.join(", "));
            let more = sorted.len().saturating_sub(MAX_NAMED) as u64;
            if self.further > 0 {
                text += " and others";
            } else if more > 0 {
                text += &format!(" and {more} more");
            }
        }
        match (self.first, self.last) {
            (Some(first), Some(last)) if first != last => {
                text += &format!(", {} to {}", second(first), second(last));
            }
            (Some(first), _) => text += &format!(", {}", second(first)),
            _ => {}
        }
        text
    }

    fn add_caller(&mut self, caller: CallerId, count: u64) {
        if let Some((_, sum)) = self.callers.iter_mut().find(|(known, _)| *known == caller) {
            *sum += count;
        } else if self.callers.len() < MAX_CALLERS {
            self.callers.push((caller, count));
        } else {
            self.further += count;
        }
    }

    fn add_port(&mut self, port: (Option<u16>, Protocol), count: u64) {
        if let Some((_, sum)) = self.ports.iter_mut().find(|(known, _)| *known == port) {
            *sum += count;
        } else if self.ports.len() < MAX_PORTS {
            self.ports.push((port, count));
        } else {
            self.has_more_ports = true;
        }
    }
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The time to the second: more says nothing to a reader.
fn second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
