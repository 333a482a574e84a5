//! `meridian top`: what any number of proxies count, as it happens.
//!
//! Reads scrapes alone, so it works wherever the admin or Istio's metrics port can be reached. Adds
//! proxies up; what one of them cannot tell is left out, never guessed.

mod counts;
mod draw;
mod live;
mod scrape;
mod snapshot;
mod tables;
mod target;
mod targets;
#[cfg(test)]
mod tests;
mod view;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, ValueHint};
use serde_json::json;

pub use snapshot::{Counted, FlowCounts, Latency, ProxyState, Responses, Snapshot};
pub use target::ScrapeTarget;

use crate::output;
use crate::policy::PolicyFile;
use crate::runtime;
use crate::text::visible::visible;
use counts::Proxy;
use scrape::scrape_into;

/// Show live metrics of any number of proxies
///
/// Scrapes the proxies and shows the sum of what they count.
#[derive(Debug, Clone, Args)]
pub struct TopArgs {
    /// The time between scrapes, such as 500ms, 2s or 1m
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_interval)]
    pub interval: Duration,
    /// Scrape twice, print the result as text and exit, with 1 if a target is no proxy with a filter;
    /// implied if stdout is no terminal
    #[arg(long)]
    pub once: bool,
    /// Like --once, but print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Show the counts, too, that have not moved since a proxy's policy was seen to change: Envoy keeps
    /// those of rules that are gone until it restarts
    #[arg(long)]
    pub all: bool,
    /// Rows per section, when printed as text
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    pub rows: usize,
    /// Envoy admin or Prometheus endpoints: HOST:PORT or a URL, whose path defaults to
    /// /stats/prometheus
    #[arg(value_name = "ADDRESS", required_unless_present_any = ["targets", "compose", "kubectl"])]
    pub addresses: Vec<ScrapeTarget>,
    /// Scrape the targets in this file, too: JSON or YAML as Prometheus' file_sd_configs read it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub targets: Option<PathBuf>,
    /// Scrape the proxies of this running compose project, too: its name, `meridian` for those that
    /// `render compose` writes, or its folder, such as ./examples/docker
    #[arg(long, value_name = "PROJECT")]
    pub compose: Option<String>,
    /// Scrape nothing: print the `kubectl port-forward` commands for a pod of each gateway of --policy,
    /// and the `top` command to run then
    #[arg(long, conflicts_with_all = ["addresses", "targets", "compose", "once", "json"])]
    pub kubectl: bool,
    /// The policy whose gateways --kubectl looks for [default: the sample policy]
    #[arg(long, value_name = "FILE", requires = "kubectl", value_hint = ValueHint::FilePath)]
    pub policy: Option<PathBuf>,
    /// With --kubectl, a namespace with sidecars; may be repeated
    #[arg(long, value_name = "NAMESPACE", requires = "kubectl")]
    pub namespace: Vec<String>,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(3600);
    let wrong = || "write a number and ms, s or m, such as 500ms or 2s".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let unit = match &text[digits.len()..] {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        _ => return Err(wrong()),
    };
    let interval = Duration::from_millis(number.saturating_mul(unit));
    if interval < Duration::from_millis(100) || interval > LONGEST {
        return Err("write a time from 100ms to 60m".to_owned());
    }
    Ok(interval)
}

/// Shows the proxies until it is told to end, or once; then the exit code is 1 if one of them does not
/// answer as a proxy with a filter does.
///
/// # Errors
/// If none of the addresses answers, or, before the live view, none as a proxy with a filter does; if
/// there is no terminal to draw on.
pub fn run(args: &TopArgs) -> anyhow::Result<ExitCode> {
    if args.kubectl {
        let policy = PolicyFile::load(args.policy.as_deref())?;
        output::print(&targets::kubectl(&policy, &args.namespace)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    runtime::block_on(show(args))
}

async fn show(args: &TopArgs) -> anyhow::Result<ExitCode> {
    let mut named = args.addresses.clone();
    if let Some(file) = &args.targets {
        named.extend(targets::of_file(file)?);
    }
    let mut project = None;
    if let Some(compose) = &args.compose {
        let name = targets::project(compose)?;
        let proxies = targets::of_compose(&name)?;
        named.extend(proxies.iter().cloned());
        project = Some((name, proxies));
    }
    let mut addresses: Vec<&ScrapeTarget> = Vec::new();
    for address in &named {
        // Twice would be counted twice.
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    let mut proxies: Vec<Proxy> = addresses.into_iter().cloned().map(Proxy::new).collect();
    let is_live = !args.once && !args.json && std::io::stdout().is_terminal();
    scrape_into(&mut proxies, args.interval).await;
    if let Some((name, containers)) = &project {
        let is_lost = |proxy: &Proxy| {
            let is_container = containers.contains(&proxy.target);
            is_container && proxy.error.is_some() && proxy.wrong.is_none()
        };
        if proxies.iter().any(is_lost) {
            eprintln!("{}", targets::where_containers_answer(name, containers));
        }
    }
    // A view of nothing but errors is none.
    one_must_answer(&proxies, is_live)?;
    if is_live {
        live::run(proxies, args.interval, args.all).await?;
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("scraping again in {:?}, for the rates", args.interval);
    tokio::time::sleep(args.interval).await;
    scrape_into(&mut proxies, args.interval).await;
    one_must_answer(&proxies, false)?;
    let snapshot = Snapshot::of(&proxies, args.all);
    if args.json {
        let mut value = json!({"interval_seconds": args.interval.as_secs_f64()});
        if let (Some(into), serde_json::Value::Object(from)) =
            (value.as_object_mut(), serde_json::to_value(&snapshot)?)
        {
            into.extend(from);
        }
        output::print(&format!("{value}\n"))?;
    } else {
        output::print(&tables::plain(&snapshot, args.rows))?;
    }
    let is_well = proxies.iter().all(|proxy| proxy.error.is_none());
    Ok(match is_well {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Fails unless one of the addresses answers, `as_proxy` with a filter or anyhow.
fn one_must_answer(proxies: &[Proxy], as_proxy: bool) -> anyhow::Result<()> {
    let is_lost = |proxy: &Proxy| proxy.error.is_some() && (as_proxy || proxy.wrong.is_none());
    if proxies.iter().all(is_lost) {
        let errors: Vec<String> = proxies
            .iter()
            .filter_map(|proxy| Some(format!("\n  {}: {}", proxy.target, proxy.error.as_ref()?)))
            .map(|line| line.split('\n').map(visible).collect::<Vec<_>>().join("\n"))
            .collect();
        bail!("no proxy answers:{}", errors.concat());
    }
    Ok(())
}
