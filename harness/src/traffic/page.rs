//! The page as a whole.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use super::bars::{Bar, bars};
use super::chart::{clock, latencies, over_time};
use super::graph::Graph;
use super::map::{map, svg};
use super::model::Traffic;
use crate::svg::COLOURS;
use crate::text::numbers::thousands;
use crate::text::visible::visible;

const STYLE: &str = include_str!("style.css");

fn style() -> String {
    format!("{COLOURS}{STYLE}")
}

/// The map as a file of its own, for a document to show.
pub fn picture(traffic: &Traffic) -> String {
    svg(&Graph::of(traffic), Some(&style())).into_string()
}

/// The whole page.
pub fn page(title: &str, traffic: &Traffic) -> String {
    let title = visible(title);
    let graph = Graph::of(traffic);
    // The one thing that is allowed is this style sheet: by its hash, so that no other could come in.
    let style = style();
    let hash = BASE64_STANDARD.encode(Sha256::digest(&style));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'"
    );
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="referrer" content="no-referrer";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(&style)) }
            }
            body {
                header {
                    h1 { (title) }
                    p { (summary(traffic)) }
                }
                main {
                    section {
                        h2 { "Who talks to whom" }
                        (legend())
                        (map(&graph))
                    }
                    section { h2 { "Requests over time" } (over_time(traffic)) }
                    div.columns {
                        section { h2 { "Refusals by rule" } (refusals(traffic)) }
                        section { h2 { "Dry run would refuse" } (dry_run(traffic)) }
                        section { h2 { "Latency" } (latencies(traffic)) }
                        section { h2 { "Component types" } (components(traffic)) }
                        section { h2 { "Callers at egress" } (callers(traffic)) }
                    }
                }
                footer {
                    p { "Written by " code { "meridian report" } ". One request is logged by each proxy on its way: \
                         counts of different proxies must not be added up." }
                }
            }
        }
    };
    page.into_string()
}

fn summary(traffic: &Traffic) -> String {
    let mut text = format!("{} entries", thousands(traffic.entries));
    let times = traffic.times();
    if let (Some((first, _)), Some((last, _))) = (times.first_key_value(), times.last_key_value()) {
        text.push_str(&format!(", {} to {} UTC", clock(*first), clock(*last)));
    }
    let refused: u64 = traffic.refusals.values().sum();
    text.push_str(&format!("; {} refused", thousands(refused)));
    if traffic.malformed > 0 {
        text.push_str(&format!(
            "; {} lines passed over",
            thousands(traffic.malformed)
        ));
    }
    text
}

/// What the lines mean, which hides a kind of them as well.
fn legend() -> Markup {
    let kinds = [
        ("north-south", "north-south", "enters or leaves the cluster"),
        ("east-west", "east-west", "stays inside"),
        ("unknown", "unknown", "the evidence is missing"),
        ("refused", "refused ✕", "with the rule"),
    ];
    html! {
        ul.legend {
            @for (class, word, meaning) in kinds {
                li {
                    label {
                        input type="checkbox" checked #{ "show-" (class) };
                        " "
                        svg.sample viewBox="0 0 44 12" aria-hidden="true" {
                            g.edge.(class) { path.line d="M1 6 L34 6" stroke-width="2.5" marker-end={ "url(#arrow-" (class) ")" } {} }
                        }
                        " " strong { (word) } " " (meaning)
                    }
                }
            }
        }
    }
}

fn refusals(traffic: &Traffic) -> Markup {
    let bar = |((rule, reporter), count): (&(String, String), &u64)| Bar {
        label: rule.clone(),
        detail: reporter.clone(),
        parts: vec![("refused", "refused", *count)],
    };
    bars(
        ["Rule", "Reporter"],
        traffic.refusals.iter().map(bar).collect(),
        "nothing was refused",
    )
}

fn dry_run(traffic: &Traffic) -> Markup {
    let bar = |((rule, reporter), count): (&(String, String), &u64)| Bar {
        label: rule.clone(),
        detail: reporter.clone(),
        parts: vec![("would", "would refuse", *count)],
    };
    bars(
        ["Rule", "Reporter"],
        traffic.dry_run.iter().map(bar).collect(),
        "no dry run would have refused anything",
    )
}

fn components(traffic: &Traffic) -> Markup {
    let bar = |((component, reporter), count): (&(String, String), &u64)| Bar {
        label: component.clone(),
        detail: reporter.clone(),
        parts: vec![("plain", "requests", *count)],
    };
    bars(
        ["Component type", "Reporter"],
        traffic.components.iter().map(bar).collect(),
        "the logs hold no requests",
    )
}

fn callers(traffic: &Traffic) -> Markup {
    let bar = |(caller, (allowed, refused)): (&String, &(u64, u64))| Bar {
        label: caller.clone(),
        detail: "egress".to_owned(),
        parts: vec![
            ("north-south", "allowed", *allowed),
            ("refused", "refused", *refused),
        ],
    };
    bars(
        ["Caller", "Reporter"],
        traffic.egress_callers.iter().map(bar).collect(),
        "no egress gateway was asked",
    )
}
