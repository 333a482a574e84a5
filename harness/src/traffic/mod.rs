//! The traffic that access logs tell of, drawn as one HTML page: the map of who talks to whom, and
//! charts.
//!
//! Owns what is counted of the logs, in bounded memory; the graph that the hops of several proxies
//! are joined to; and the pictures. The page asks for nothing and runs nothing: its
//! Content-Security-Policy allows its own style sheet and no script at all, because much of what a
//! log holds was chosen by clients.

mod bars;
mod chart;
mod graph;
mod layout;
mod map;
mod model;
mod page;
mod steps;

use anyhow::ensure;

pub use model::Traffic;
pub use page::{page, picture};

use crate::access_log::{self, Log};

/// Reads what the logs tell.
///
/// # Errors
/// If a log cannot be read, a folder has none, or none of them holds an entry.
pub fn read(logs: &[Log]) -> anyhow::Result<Traffic> {
    let mut traffic = Traffic::default();
    for log in access_log::expand(logs)? {
        // One by one, as a log without `proxy` is named by its file alone.
        let stem = stem(&log);
        let summary = access_log::read(std::slice::from_ref(&log), |entry| {
            traffic.count(entry, &stem);
        })?;
        traffic.malformed += summary.malformed;
    }
    ensure!(
        traffic.entries > 0,
        "the logs hold no entry: send some requests first, and stop the proxies so that they write \
         what they still hold"
    );
    Ok(traffic)
}

/// `shop` of `…/shop.access.log.gz`.
fn stem(log: &Log) -> String {
    let Log::File(path) = log else {
        return "proxy".to_owned();
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.split('.').next().unwrap_or_default();
    if stem.is_empty() { "proxy" } else { stem }.to_owned()
}
