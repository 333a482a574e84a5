//! Whether every filter did what it is measured for, before and after: a filter that is broken in a
//! cheap way would win.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use meridian_policy::Vantage;

use super::cells::{Cell, TrafficKind, filters};
use super::hosts;
use super::load::SOURCE;
use super::rounds::{Listeners, Series};
use super::variants::{ECHO, Filter, REFUSAL, TAG, UPSTREAM, VERIFY};
use crate::lab::envoy::Envoy;
use crate::lab::prometheus::Samples;
use crate::lab::topology::Call;

/// What a client claims.
const FORGED: &str = "forged";

/// Sends a few requests through every filter and looks at status, body and tag.
///
/// # Errors
/// At the first one that is not as the filter must answer it.
pub async fn answers(listeners: &Listeners, cells: &[Cell]) -> anyhow::Result<()> {
    for filter in filters(cells) {
        check(listeners, cells, filter)
            .await
            .with_context(|| format!("{filter} does not do what it is measured for"))?;
    }
    Ok(())
}

async fn check(listeners: &Listeners, cells: &[Cell], filter: Filter) -> anyhow::Result<()> {
    let address = listeners.address(filter)?;
    let call = |authority: &str, path: &str| {
        Call::new(address, authority)
            .from(SOURCE)
            .path(path)
            .header(TAG, FORGED)
    };
    let last = filter.hosts() - 1;
    let takes = |traffic| cells.contains(&Cell { filter, traffic });
    let mut calls = vec![
        call(&hosts::known(0), VERIFY),
        call(&hosts::known(last), VERIFY),
    ];
    if takes(TrafficKind::Http2) {
        calls.push(call(&hosts::known(last), VERIFY).http2());
    }
    if takes(TrafficKind::Upstream) {
        calls.push(call(&hosts::known(last), UPSTREAM));
    }
    if filter.refuses() {
        let spelled = hosts::known(last).to_ascii_uppercase();
        calls.push(call(&spelled, VERIFY));
        // RBAC compares with the port: that is its saving.
        if !matches!(filter, Filter::Rbac { .. }) {
            calls.push(call(&format!("{spelled}:80"), VERIFY));
        }
    }
    for call in calls {
        let reply = call.send().await?;
        let seen = reply.header(ECHO).filter(|seen| *seen != "-");
        ensure!(
            (reply.status, seen) == (200, filter.tag(FORGED)),
            "an allowed request must pass with the tag {:?}, and did with {seen:?}: {reply:?}",
            filter.tag(FORGED)
        );
    }
    if filter.refuses() {
        let beyond = hosts::known(filter.hosts());
        let reply = call(&beyond, VERIFY).send().await?;
        let body = match filter {
            Filter::Rbac { .. } => "RBAC: access denied",
            _ => REFUSAL,
        };
        ensure!(
            (reply.status, reply.text().as_str()) == (403, body),
            "a host that it does not know must be refused: {reply:?}"
        );
    }
    Ok(())
}

/// The counters of the filters at some moment.
///
/// # Errors
/// If Envoy's admin does not answer.
pub async fn counters(envoy: &Envoy) -> anyhow::Result<Samples> {
    Samples::parse(
        &envoy
            .get("/stats/prometheus?usedonly&filter=_requests")
            .await?,
    )
}

/// Compares what the filters have counted since `before` with what was sent.
///
/// # Errors
/// If any differs by one request.
pub fn counted(before: &Samples, after: &Samples, series: &[Series]) -> anyhow::Result<()> {
    let mut sent: BTreeMap<String, u64> = BTreeMap::new();
    for series in series {
        let key = match series.cell.filter {
            Filter::Meridian { vantage, .. } if series.cell.traffic == TrafficKind::Refused => {
                refused(vantage)
            }
            filter @ Filter::Meridian { .. } => allowed(&filter.to_string()),
            Filter::Steps(steps) if steps.contains("counter") => "yardstick".to_owned(),
            _ => continue,
        };
        *sent.entry(key).or_default() += series.sent;
    }
    let mut counted: BTreeMap<String, u64> = BTreeMap::new();
    for sample in after
        .since(before)
        .iter()
        .filter(|sample| sample.value > 0.0)
    {
        let label = |name| sample.labels.get(name).map_or("", String::as_str);
        let key = match sample.name.as_str() {
            "yardstick_requests" => "yardstick".to_owned(),
            "meridian_requests_total" => match label("rule").rsplit_once('-') {
                Some((filter, _)) => allowed(filter),
                None => format!("{} by {}", label("reporter"), label("rule")),
            },
            _ => continue,
        };
        *counted.entry(key).or_default() += sample.value as u64;
    }
    if sent != counted {
        bail!(
            "the filters did not count what was sent:\n  sent    {sent:?}\n  counted {counted:?}"
        );
    }
    Ok(())
}

fn refused(vantage: Vantage) -> String {
    format!("{vantage} by default")
}

fn allowed(filter: &str) -> String {
    format!("{filter} by its rules")
}
