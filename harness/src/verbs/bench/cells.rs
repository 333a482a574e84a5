//! The cells of the comparison: which filter under which traffic.

use std::fmt;

use hyper::body::Bytes;
use meridian_policy::Vantage;

use super::load::Ask;
use super::variants::{DIRECT, Filter, REFUSAL, SMALL, UPSTREAM};

/// What is not measured, and why a reader might look for it.
pub const LEFT_OUT: &str = "HTTP/2 to the upstream, 1 MB over HTTP/2, and upstream, HTTP/2 and 1 MB \
    for filters other than none, ingress-1000 and Lua; TLS and HTTP/3, whose cost lies before any \
    filter; refusals over HTTP/2; access logs, which would hide what is compared; network filters.";

/// A megabyte each way.
const MEGABYTE: usize = 1_000_000;

/// What is sent through a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TrafficKind {
    /// HTTP/1.1, answered by Envoy itself.
    Direct,
    /// Likewise, for hosts that are refused.
    Refused,
    /// HTTP/2, answered by Envoy itself.
    Http2,
    /// HTTP/1.1, answered by an upstream.
    Upstream,
    /// HTTP/1.1, 1 MB to an upstream and back.
    Megabyte,
}

impl fmt::Display for TrafficKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Refused => "refused",
            Self::Http2 => "HTTP/2",
            Self::Upstream => "upstream",
            Self::Megabyte => "1 MB",
        })
    }
}

impl TrafficKind {
    /// The traffic of the filter without which this one's cost is added.
    pub fn baseline(self) -> Self {
        match self {
            Self::Refused => Self::Direct,
            other => other,
        }
    }

    /// One request of a megabyte stands for so many small ones.
    pub fn share(self, requests: usize) -> usize {
        match self {
            Self::Megabyte => (requests / 50).max(8),
            _ => requests,
        }
    }
}

/// A filter under some traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// The filter.
    pub filter: Filter,
    /// The traffic.
    pub traffic: TrafficKind,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.filter, self.traffic)
    }
}

impl Cell {
    /// What is asked, and how it must be answered.
    pub fn ask(self) -> Ask {
        let refused = self.traffic == TrafficKind::Refused;
        let body = match self.traffic {
            TrafficKind::Megabyte => Bytes::from(vec![b'm'; MEGABYTE]),
            _ => Bytes::new(),
        };
        let answer_bytes = match (self.traffic, self.filter) {
            (TrafficKind::Megabyte, _) => MEGABYTE,
            (TrafficKind::Refused, Filter::Rbac { .. }) => "RBAC: access denied".len(),
            (TrafficKind::Refused, _) => REFUSAL.len(),
            _ => SMALL.len(),
        };
        Ask {
            http2: self.traffic == TrafficKind::Http2,
            path: match self.traffic {
                TrafficKind::Upstream | TrafficKind::Megabyte => UPSTREAM,
                _ => DIRECT,
            },
            body,
            status: if refused { 403 } else { 200 },
            answer_bytes,
        }
    }
}

/// The filter without which costs are added.
pub const BASELINE: Filter = Filter::None { again: false };
/// Its like: what they differ by is noise.
pub const CONTROL: Filter = Filter::None { again: true };
/// What people would write instead.
pub const LUA: Filter = Filter::Lua { hosts: 1000 };
/// The filter that the goals are about.
pub const INGRESS: Filter = ingress(1000);

/// The ingress filter with that many hosts.
pub const fn ingress(hosts: usize) -> Filter {
    Filter::Meridian {
        vantage: Vantage::Ingress,
        hosts,
    }
}

const STEPS: [&str; 5] = [
    "",
    "authority",
    "authority source",
    "authority source header",
    "authority source header counter",
];

/// The cells of a run, or the few of a `quick` one.
pub fn cells(quick: bool) -> Vec<Cell> {
    let mut cells = Vec::new();
    let mut add = |filter, traffic: &[TrafficKind]| {
        cells.extend(traffic.iter().map(|traffic| Cell {
            filter,
            traffic: *traffic,
        }));
    };
    use TrafficKind::{Direct, Http2, Megabyte, Refused, Upstream};
    let everything = [Direct, Http2, Upstream, Megabyte];
    add(BASELINE, &everything);
    add(CONTROL, &[Direct, Megabyte]);
    add(Filter::SdkEmpty, &[Direct]);
    add(LUA, &everything);
    add(LUA, &[Refused]);
    add(INGRESS, &everything);
    add(INGRESS, &[Refused]);
    add(ingress(10), &[Direct, Refused]);
    for hosts in [10, 1000] {
        add(Filter::Rbac { hosts }, &[Direct]);
    }
    let vantages = [Vantage::Egress, Vantage::Inbound, Vantage::Outbound];
    for vantage in vantages {
        add(
            Filter::Meridian {
                vantage,
                hosts: 1000,
            },
            &[Direct, Refused],
        );
    }
    if quick {
        add(Filter::Steps(STEPS[4]), &[Direct]);
        return cells;
    }
    add(Filter::Rbac { hosts: 1000 }, &[Refused]);
    for vantage in vantages {
        add(Filter::Meridian { vantage, hosts: 10 }, &[Direct]);
    }
    for hosts in [100_000, 1_000_000] {
        add(ingress(hosts), &[Direct, Refused]);
    }
    for steps in STEPS {
        add(Filter::Steps(steps), &[Direct]);
    }
    cells
}

/// The filters of some cells, each once, in their order.
pub fn filters(cells: &[Cell]) -> Vec<Filter> {
    let mut filters = Vec::new();
    for cell in cells {
        if !filters.contains(&cell.filter) {
            filters.push(cell.filter);
        }
    }
    filters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_is_there_once_and_has_its_baseline() {
        for quick in [true, false] {
            let cells = cells(quick);
            for cell in &cells {
                assert_eq!(cells.iter().filter(|other| *other == cell).count(), 1);
                let baseline = Cell {
                    filter: BASELINE,
                    traffic: cell.traffic.baseline(),
                };
                assert!(cells.contains(&baseline), "{cell} has none");
            }
        }
    }
}
