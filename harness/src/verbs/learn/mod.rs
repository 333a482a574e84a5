//! `meridian learn`: an allow-list out of access logs, for a person to review.
//!
//! Proposes rules for hosts that were refused because no rule names them. What a client wrote into a
//! log can make it propose a host, so that everything that looks odd is listed apart and never
//! proposed, and nothing of a log is printed as it is.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail, ensure};
use clap::{Args, ValueEnum, ValueHint};
use jiff::{SpanRelativeTo, Timestamp, civil};
use meridian_policy::Vantage;

use crate::access_log::{self, Log};
use crate::output;
use crate::policy::PolicyFile;
use group::Grouping;
use judge::Judge;
use learned::Learned;
use observe::{Observations, Selection};

mod callers;
mod diff;
mod fragment;
mod group;
mod judge;
mod learned;
mod names;
mod observe;
mod service_entries;
mod tally;
mod yaml_edit;
mod yaml_tree;

/// Propose rules for what a policy refused, from access logs
///
/// Proposes rules for what a section's default refused, or would have refused in dry run. Listed
/// apart in comments, and never proposed: addresses, single labels, labels that begin or end in a
/// hyphen or underscore, punycode, look-alike names, names requested fewer than --min-requests times,
/// and what a rule denied or the SNI check refused.
///
/// Exits 0 if there is nothing to propose, 1 if something is proposed, 2 if the logs or the policy
/// cannot be read.
#[derive(Debug, Clone, Args)]
pub struct LearnArgs {
    /// The policy to extend: hosts that it allows are left out, hosts that it denies never proposed
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Read only entries of this vantage: ingress, egress, inbound or outbound; an entry that names
    /// none counts as one of it
    #[arg(long, value_name = "VANTAGE", value_parser = crate::policy::query::parse_vantage)]
    pub at: Option<Vantage>,
    /// The logs are those of this gateway of the policy: take only entries of its vantage, and propose
    /// rules for it alone; needed where rules name gateways and there are several
    #[arg(long, value_name = "NAME", requires = "policy")]
    pub gateway: Option<String>,
    /// Read only entries from this time on: a time, a date, or how long ago, such as
    /// 2026-11-24T10:00:00Z, 2026-11-24 or 2h
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub since: Option<Timestamp>,
    /// Read only entries before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub until: Option<Timestamp>,
    /// What to print
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Print one JSON object with everything found
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    /// Include what was allowed, for the first allow-list of a mesh that only observes
    #[arg(long)]
    pub all: bool,
    /// List hosts with fewer requests than this apart
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub min_requests: u64,
    /// Propose a wildcard for this many names below one parent; 0 for none
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub wildcard_threshold: usize,
    /// At egress, name the calling namespaces in the rules; implied if the policy's rules do so
    #[arg(long)]
    pub by_caller: bool,
    /// Add commented-out rules for what is listed apart
    #[arg(long)]
    pub include_suspicious: bool,
    /// Access logs with one JSON object per line, plain or gzip; a folder stands for its
    /// *.access.log and *.access.log.gz, - for stdin
    #[arg(value_name = "LOG", required = true, value_hint = ValueHint::AnyPath)]
    pub logs: Vec<Log>,
}

/// What is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Rules to copy into a policy
    #[default]
    Fragment,
    /// A diff of --policy, for `patch`
    Diff,
    /// Istio's ServiceEntry manifests for hosts requested at egress
    ServiceEntries,
}

/// Prints the proposals. Exits 1 if there are any, and 0 otherwise.
///
/// # Errors
/// If a log or the policy cannot be read, and if the rules cannot be placed in the policy's file.
pub fn run(args: &LearnArgs) -> anyhow::Result<ExitCode> {
    let policy = args.policy.as_deref().map(read_policy).transpose()?;
    let needs_policy = args.format == Format::Diff && !args.json;
    ensure!(
        !needs_policy || policy.is_some(),
        "--format diff needs --policy FILE, the file to change"
    );
    let file = policy.as_ref().map(|(_, file)| file);
    let gateway = match (&args.gateway, file) {
        (Some(name), Some(file)) => Some(gateway_of(file, args.at, name)?),
        _ => None,
    };
    let selection = Selection {
        at: gateway.map(|(vantage, _)| vantage).or(args.at),
        since: args.since,
        until: args.until,
        all: args.all,
    };
    let mut observations = Observations::default();
    access_log::read(&args.logs, |entry| observations.add(entry, &selection))?;
    if observations.without_vantage > 0 {
        eprintln!(
            "{} of the entries do not say where they were logged: give --at to take them",
            observations.without_vantage
        );
    }
    let learned = learn(args, &observations, file, gateway)?;
    let text = if args.json {
        format!("{}\n", fragment::json(&learned))
    } else {
        match (args.format, &args.policy, &policy) {
            (Format::Diff, Some(path), Some((text, file))) => {
                diff::diff(&learned, path, text, file)?
            }
            (Format::ServiceEntries, ..) => service_entries::manifests(&learned)?,
            _ => fragment::fragment(&learned),
        }
    };
    output::print(&text)?;
    Ok(match learned.proposed() {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn learn<'o>(
    args: &LearnArgs,
    observations: &'o Observations,
    file: Option<&'o PolicyFile>,
    gateway: Option<(Vantage, &'o str)>,
) -> anyhow::Result<Learned<'o>> {
    let service_domain = file.map_or("cluster.local", |file| {
        file.policy.mesh.service_domain.as_str()
    });
    let mut gateways = [None; 4];
    for (vantage, at) in Vantage::ALL.iter().zip(&mut gateways) {
        *at = match (gateway, file) {
            (Some((place, name)), _) if place == *vantage => Some(name),
            (None, Some(file)) if observations.has_hosts(*vantage) => file
                .policy
                .gateway(*vantage, None)
                .map_err(|error| anyhow!("--gateway {error}"))?,
            _ => None,
        };
    }
    let judge = Judge {
        file,
        gateways,
        observations,
        min_requests: args.min_requests,
        service_domain,
    };
    let grouping = Grouping {
        wildcard_threshold: args.wildcard_threshold,
        by_caller: args.by_caller || file.is_some_and(names_callers),
        include_suspicious: args.include_suspicious,
        gateway: gateway.map(|(_, name)| name),
    };
    let mut learned = Learned {
        rules: Vec::new(),
        suspicious: Vec::new(),
        allowed: 0,
        without_room: 0,
        observations,
    };
    for vantage in Vantage::ALL {
        let mut judged = judge.judge(*vantage);
        let rules = group::rules(&judge, *vantage, &mut judged, grouping);
        learned.rules.extend(rules);
        learned.suspicious.extend(judged.suspicious);
        learned.allowed += judged.allowed;
        learned.without_room += judged.without_room;
    }
    Ok(learned)
}

/// The gateway of this name, and its vantage.
fn gateway_of<'f>(
    file: &'f PolicyFile,
    at: Option<Vantage>,
    name: &str,
) -> anyhow::Result<(Vantage, &'f str)> {
    let mut errors = Vec::new();
    for vantage in at.map_or(vec![Vantage::Ingress, Vantage::Egress], |at| vec![at]) {
        match file.policy.gateway(vantage, Some(name)) {
            Ok(Some(gateway)) => return Ok((vantage, gateway)),
            Ok(None) => {}
            Err(error) => errors.push(error.to_string()),
        }
    }
    bail!("--gateway {name:?} {}", errors.join(". It "))
}

/// True if a rule at egress says who may call by identity.
fn names_callers(file: &PolicyFile) -> bool {
    let rules = &file.policy.section(Vantage::Egress).rules;
    let mut callers = rules.iter().filter_map(|rule| rule.from.as_deref());
    callers.any(|from| from.namespaces.is_some() || from.principals.is_some())
}

fn read_policy(path: &Path) -> anyhow::Result<(String, PolicyFile)> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the policy {}", path.display()))?;
    // Not as such errors end other verbs: 1 would say that something is proposed.
    let file = PolicyFile::parse(text.as_bytes())
        .map_err(|errors| anyhow!("the policy is refused:\n{errors}"))?;
    Ok((text, file))
}

fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if text.parse::<civil::Date>().is_ok() {
        let start = format!("{text}T00:00:00Z").parse();
        return start.map_err(|error: jiff::Error| error.to_string());
    }
    let ago = text.parse::<jiff::Span>().and_then(|span| {
        // Relative to UTC a day has 24 hours.
        span.to_duration(SpanRelativeTo::days_are_24_hours())
    });
    ago.and_then(|ago| Timestamp::now().checked_sub(ago.abs()))
        .map_err(|_| {
            "write a time (2026-11-24T10:00:00Z), a day (2026-11-24) or how long ago (90m, 2h, 7d)"
                .to_owned()
        })
}
