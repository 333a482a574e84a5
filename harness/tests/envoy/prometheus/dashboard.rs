//! The rendered dashboard: its form, and its queries in a real Prometheus.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::ensure;
use meridian::lab::topology::Call;
use meridian::verbs::render::grafana;
use meridian_metrics::{CONNECTIONS, Kind, METRICS};
use serde_json::Value;

use super::server::Prometheus;

/// In place of Grafana's, several scrapes and long enough for what the test provoked.
const RATE_INTERVAL: &str = "60s";
/// In place of Grafana's, longer than the test.
const RANGE: &str = "1h";
/// A range in which what the test provoked at first has not moved, several scrapes long.
const QUIET_RANGE: &str = "5s";
/// How long the newest traffic may take into the answers, with Envoy's flush of histograms each 5 s.
const DEADLINE: Duration = Duration::from_secs(15);

fn dashboard() -> Value {
    let files = grafana::render().unwrap();
    assert_eq!(files.len(), 1);
    serde_json::from_str(&files[0].1).unwrap()
}

/// The panels that draw something.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    let panels = dashboard["panels"].as_array().unwrap();
    panels.iter().filter(|panel| panel["type"] != "row")
}

/// Its queries: the title of the panel and the expression.
fn queries(dashboard: &Value) -> Vec<(&str, &str)> {
    panels(dashboard)
        .flat_map(|panel| {
            let title = panel["title"].as_str().unwrap();
            let targets = panel["targets"].as_array().unwrap();
            assert!(!targets.is_empty(), "{title}");
            targets
                .iter()
                .map(move |target| (title, target["expr"].as_str().unwrap()))
        })
        .collect()
}

#[test]
fn panels_have_their_own_ids_and_places() {
    let dashboard = dashboard();
    let mut ids = BTreeSet::new();
    let mut titles = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        assert!(titles.insert(title), "{title} twice");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        assert!(w > 0 && h > 0 && x + w <= 24, "{title}");
        for place in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(
                taken.insert(place),
                "{title} lies on another panel at {place:?}"
            );
        }
    }
    for panel in panels(&dashboard) {
        let targets = panel["targets"].as_array().unwrap();
        let letters: BTreeSet<_> = targets
            .iter()
            .map(|target| target["refId"].as_str())
            .collect();
        assert_eq!(letters.len(), targets.len(), "{}", panel["title"]);
        for part in targets.iter().chain([panel]) {
            assert_eq!(part["datasource"]["uid"], "${datasource}");
        }
    }
}

#[test]
fn every_metric_of_the_table_and_every_variable_is_drawn() {
    let dashboard = dashboard();
    let exprs: Vec<&str> = queries(&dashboard)
        .into_iter()
        .map(|(_, expr)| expr)
        .collect();
    for metric in METRICS {
        let series = match metric.kind {
            Kind::Histogram { .. } => format!("{}_bucket{{", metric.name),
            Kind::Counter | Kind::Gauge => format!("{}{{", metric.name),
        };
        assert!(exprs.iter().any(|expr| expr.contains(&series)), "{series}");
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<&str> = variables
        .iter()
        .filter_map(|variable| variable["name"].as_str())
        .collect();
    assert_eq!(names, ["datasource", "reporter", "direction"]);
    for name in &names[1..] {
        assert!(
            exprs
                .iter()
                .any(|expr| expr.contains(&format!("{name}=~\"${name}\""))),
            "{name}"
        );
    }
}

/// Asks Prometheus for every panel, until each has an answer and those that are known hold.
pub(crate) async fn check(prometheus: &Prometheus, passed_on: &Call) -> anyhow::Result<()> {
    let dashboard = dashboard();
    let queries = queries(&dashboard);
    let deadline = Instant::now() + DEADLINE;
    for (title, expr) in &queries {
        let within = |range: &str| {
            expr.replace("$__rate_interval", RATE_INTERVAL)
                .replace("$__range", range)
                .replace("$reporter", ".*")
                .replace("$direction", ".*")
        };
        let expr = within(RANGE);
        ensure!(
            !expr.contains('$'),
            "{title}: an unknown variable in {expr}"
        );
        loop {
            passed_on.send().await?;
            let samples = prometheus.query(&expr).await?;
            // There is no listener discovery in the test's Envoys, and no connection was refused: those counts
            // are there, and stand still.
            let stands_still = *title == "Refusals by rule" && expr.contains(CONNECTIONS.name);
            let is_empty = samples.is_empty();
            let is_right = is_empty == stands_still || expr.contains("lds_update_rejected");
            if is_right && expected(title, &samples) {
                break;
            }
            ensure!(Instant::now() < deadline, "{title}: {samples:?} for {expr}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        // Its only rule counts no more: there is a line for it only where the time shown has the past in it.
        if *title == "Dry run" {
            let samples = prometheus.query(&within(QUIET_RANGE)).await?;
            ensure!(samples.is_empty(), "{title}: {samples:?} stands still");
        }
    }
    Ok(())
}

/// True if the samples tell of the traffic and the faults that there have been.
fn expected(title: &str, samples: &[(Value, f64)]) -> bool {
    let some = |labels: &[(&str, &str)]| {
        samples.iter().any(|(has, value)| {
            *value > 0.0 && labels.iter().all(|(label, value)| has[*label] == *value)
        })
    };
    let none = |labels: &[(&str, &str)]| !some(labels);
    match title {
        "Requests by direction" => {
            some(&[("reporter", "ingress"), ("direction", "north-south")])
                && some(&[("reporter", "egress"), ("direction", "north-south")])
                && none(&[("direction", "east-west")])
        }
        "Requests by component type" => {
            some(&[("component_type", "application")]) && none(&[("component_type", "system")])
        }
        "Connections" => {
            some(&[("reporter", "egress"), ("decision", "allow")])
                && none(&[("reporter", "ingress")])
                && none(&[("decision", "deny")])
        }
        "Refusals by rule" => none(&[("rule", "no-admin")]),
        "Dry run" => some(&[("rule", "no-cart"), ("decision", "deny")]),
        "Egress by caller" => {
            some(&[("source_namespace", "shop"), ("decision", "allow")])
                && some(&[("source_namespace", "orders")])
                && none(&[("source_namespace", "other")])
        }
        "Responses by class" => {
            some(&[("response_code_class", "2xx")]) && some(&[("response_code_class", "5xx")])
        }
        "Latency by direction" => some(&[("reporter", "ingress"), ("direction", "north-south")]),
        "Latency" => some(&[("le", "+Inf")]),
        "Policy revision" => {
            let revision = |labels: &[(&str, &str)]| -> BTreeSet<u64> {
                samples
                    .iter()
                    .filter(|(has, _)| labels.iter().all(|(label, value)| has[*label] == *value))
                    .map(|(_, value)| *value as u64)
                    .collect()
            };
            revision(&[("reporter", "ingress")]).len() == 2
                && revision(&[("reporter", "inbound")]).len() == 1
        }
        "Policy rules" => ["ingress", "egress"].iter().all(|vantage| {
            let rules = |(has, value): &(Value, f64)| has["reporter"] == *vantage && *value == 3.0;
            samples.iter().any(rules)
        }),
        // The second query, of listeners, has none.
        "Policies refused" => samples.is_empty() || some(&[]),
        "Plugins that abstain" => samples.len() == 1 && some(&[("reporter", "ingress")]),
        // The plugin that abstains has VMs, and needs none; nobody can tell what the proxy without labels needs.
        "Filter VMs" => {
            matches!(samples.len(), 7 | 9) && samples.iter().all(|(_, value)| *value > 0.0)
        }
        _ => true,
    }
}
