//! `meridian render grafana`: a dashboard over the metrics that `meridian render prometheus` scrapes.

use meridian_metrics::{
    CALLERS, CONNECTIONS, DRY_RUN, DURATION, PLUGIN_ABSTAINS, POLICY_REVISION, POLICY_RULES,
    REQUESTS, RESPONSES,
};
use serde_json::{Value, json};

use super::prometheus::{
    EXTENSIONS_REFUSED, LISTENERS_REFUSED, VMS, needed_vms, our_extensions, vm_reloads,
};

/// The version of Grafana's dashboard schema: Grafana 11.6 and later read it, older ones for the most part.
const SCHEMA_VERSION: u32 = 41;
/// The width of the dashboard in Grafana's units.
const WIDTH: u32 = 24;
/// The height of a panel.
const HEIGHT: u32 = 8;
/// The labels that the variables choose, for metrics that have both.
const CHOSEN: &str = "reporter=~\"$reporter\",direction=~\"$direction\"";
/// The same for metrics without a direction.
const CHOSEN_REPORTER: &str = "reporter=~\"$reporter\"";

/// How a panel draws its samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drawing {
    /// Lines over time in a unit of Grafana's.
    Lines(&'static str),
    /// Counts by bucket over time.
    Heatmap,
    /// The newest samples as rows.
    Table,
}

/// A panel and the queries that it draws, each with the legend of its samples.
struct Panel {
    title: &'static str,
    description: &'static str,
    drawing: Drawing,
    /// In twelfths of the dashboard's width.
    width: u32,
    queries: Vec<(String, &'static str)>,
}

/// The file and its name: `meridian-dashboard.json`.
///
/// # Errors
/// If the dashboard cannot be put into JSON.
pub fn render() -> anyhow::Result<Vec<(String, String)>> {
    let text = serde_json::to_string_pretty(&dashboard())?;
    Ok(vec![("meridian-dashboard.json".to_owned(), text + "\n")])
}

fn dashboard() -> Value {
    let mut panels = Vec::new();
    let (mut x, mut y) = (0, 0);
    for (section, content) in sections() {
        if x > 0 {
            (x, y) = (0, y + HEIGHT);
        }
        let id = panels.len() + 1;
        panels.push(json!({
            "id": id, "type": "row", "title": section, "collapsed": false, "panels": [],
            "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1},
        }));
        y += 1;
        for panel in content {
            let width = panel.width * WIDTH / 12;
            if x + width > WIDTH {
                (x, y) = (0, y + HEIGHT);
            }
            let position = json!({"x": x, "y": y, "w": width, "h": HEIGHT});
            panels.push(panel.to_json(panels.len() + 1, &position));
            x += width;
        }
    }
    json!({
        "uid": "meridian",
        "title": "Meridian",
        "description": "Traffic, refusals and health of Meridian's policy filters. Rendered by `meridian render grafana`.",
        "tags": ["meridian", "envoy"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": true,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [
            {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}},
            variable("reporter", "Reporter"),
            variable("direction", "Direction"),
        ]},
        "annotations": {"list": [{
            "name": "Alerts", "enable": true, "iconColor": "red", "datasource": datasource(),
            "expr": "ALERTS{alertname=~\"Meridian.+\",alertstate=\"firing\"}",
            "titleFormat": "{{alertname}}",
        }]},
        "panels": panels,
    })
}

fn datasource() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

/// A variable with the values of a label of the requests.
fn variable(label: &str, title: &str) -> Value {
    let query = format!("label_values({}, {label})", REQUESTS.name);
    json!({
        "name": label, "label": title, "type": "query", "datasource": datasource(),
        "query": {"query": query, "refId": "values"}, "definition": query,
        "refresh": 2, "sort": 1, "multi": true, "includeAll": true, "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    })
}

impl Panel {
    fn to_json(&self, id: usize, position: &Value) -> Value {
        let targets: Vec<Value> = self
            .queries
            .iter()
            .zip('A'..='Z')
            .map(|((expr, legend), letter)| {
                let mut target = json!({
                    "refId": letter.to_string(), "datasource": datasource(), "expr": expr, "legendFormat": legend,
                });
                match self.drawing {
                    Drawing::Lines(_) => target["range"] = json!(true),
                    Drawing::Heatmap => {
                        target["range"] = json!(true);
                        target["format"] = json!("heatmap");
                    }
                    Drawing::Table => {
                        target["instant"] = json!(true);
                        target["format"] = json!("table");
                    }
                }
                target
            })
            .collect();
        let mut panel = json!({
            "id": id, "title": self.title, "description": self.description,
            "datasource": datasource(), "gridPos": position, "targets": targets,
        });
        match self.drawing {
            Drawing::Lines(unit) => {
                panel["type"] = json!("timeseries");
                panel["fieldConfig"] = json!({
                    "defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 10, "showPoints": "never"}},
                    "overrides": [],
                });
                panel["options"] = json!({
                    "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []},
                    "tooltip": {"mode": "multi", "sort": "desc"},
                });
            }
            Drawing::Heatmap => {
                panel["type"] = json!("heatmap");
                panel["fieldConfig"] = json!({"defaults": {}, "overrides": []});
                panel["options"] = json!({
                    "calculate": false,
                    "yAxis": {"unit": "ms"},
                    "color": {
                        "mode": "scheme", "scheme": "Oranges", "steps": 64, "fill": "dark-orange", "exponent": 0.5,
                        "reverse": false,
                    },
                    "showValue": "auto",
                    "exemplars": {"color": "rgba(255,0,255,0.7)"},
                    "cellGap": 1,
                    "tooltip": {"mode": "single", "yHistogram": false},
                    "legend": {"show": true},
                });
            }
            Drawing::Table => {
                panel["type"] = json!("table");
                panel["fieldConfig"] = json!({"defaults": {"decimals": 0}, "overrides": []});
                panel["options"] = json!({"showHeader": true, "frameIndex": 0});
                panel["transformations"] =
                    json!([{"id": "organize", "options": {"excludeByName": {"Time": true}}}]);
            }
        }
        panel
    }
}

/// `sum by (LABELS) (rate(METRIC{SELECTOR}[$__rate_interval]))`
fn rate(labels: &str, metric: &str, selector: &str) -> String {
    format!("sum by ({labels}) (rate({metric}{{{selector}}}[$__rate_interval]))")
}

/// The same, without what stands still in all of the time that is shown.
///
/// Envoy keeps the series of a rule that a policy has no more until it restarts.
fn moving_rate(labels: &str, metric: &str, selector: &str) -> String {
    let rate = rate(labels, metric, selector);
    // At the end, so that a line is there as a whole or not at all.
    format!(
        "{rate}\nand sum by ({labels}) (increase({metric}{{{selector}}}[$__range] @ end())) > 0"
    )
}

fn lines(
    title: &'static str,
    description: &'static str,
    width: u32,
    unit: &'static str,
    queries: Vec<(String, &'static str)>,
) -> Panel {
    let drawing = Drawing::Lines(unit);
    Panel {
        title,
        description,
        drawing,
        width,
        queries,
    }
}

fn sections() -> Vec<(&'static str, Vec<Panel>)> {
    let denied = format!("{CHOSEN},decision=\"deny\"");
    vec![
        (
            "Traffic",
            vec![
                lines(
                    "Requests by direction",
                    "What the filters allowed and refused.",
                    4,
                    "reqps",
                    vec![(
                        rate("reporter, direction", REQUESTS.name, CHOSEN),
                        "{{reporter}} {{direction}}",
                    )],
                ),
                lines(
                    "Requests by component type",
                    "Of the platform's own components, and of applications.",
                    4,
                    "reqps",
                    vec![(
                        rate("direction, component_type", REQUESTS.name, CHOSEN),
                        "{{component_type}} {{direction}}",
                    )],
                ),
                lines(
                    "Connections",
                    "TLS passthrough and plain TCP, which are decided by server name or address.",
                    4,
                    "cps",
                    vec![(
                        rate("reporter, direction, decision", CONNECTIONS.name, CHOSEN),
                        "{{reporter}} {{direction}} {{decision}}",
                    )],
                ),
            ],
        ),
        ("Decisions", decisions(&denied)),
        ("Responses", responses()),
        ("Policy and filters", health()),
    ]
}

fn decisions(denied: &str) -> Vec<Panel> {
    vec![
        lines(
            "Refusals by rule",
            "Requests and connections. Without a rule it is default, invalid-host or sni-mismatch. Left out is what \
                counted nothing in the time shown, such as rules that the policy has no more.",
            4,
            "reqps",
            vec![
                (
                    moving_rate("reporter, rule", REQUESTS.name, denied),
                    "{{reporter}} {{rule}}",
                ),
                (
                    moving_rate("reporter, rule", CONNECTIONS.name, denied),
                    "{{reporter}} {{rule}} (connections)",
                ),
            ],
        ),
        lines(
            "Dry run",
            "What rules and sections in dry run would have decided. Left out is what counted nothing in the time \
                shown, such as rules that the policy has no more.",
            4,
            "reqps",
            vec![(
                moving_rate("reporter, decision, rule", DRY_RUN.name, CHOSEN),
                "{{reporter}} would {{decision}} {{rule}}",
            )],
        ),
        lines(
            "Egress by caller",
            "Requests at the egress gateway, by the caller's namespace where the policy names it. Left out is what \
                counted nothing in the time shown.",
            4,
            "reqps",
            vec![(
                moving_rate(
                    "source_namespace, decision",
                    CALLERS.name,
                    "direction=~\"$direction\"",
                ),
                "{{source_namespace}} {{decision}}",
            )],
        ),
    ]
}

fn responses() -> Vec<Panel> {
    let bucket = format!("{}_bucket", DURATION.name);
    let quantile = |share: &str| {
        let buckets = rate("le, reporter, direction", &bucket, CHOSEN);
        format!("histogram_quantile({share}, {buckets})")
    };
    vec![
        lines(
            "Responses by class",
            "There if the policy has metrics.responses; none is a request that ended without a response.",
            4,
            "reqps",
            vec![(
                rate("direction, response_code_class", RESPONSES.name, CHOSEN),
                "{{response_code_class}} {{direction}}",
            )],
        ),
        lines(
            "Latency by direction",
            "There if the policy has metrics.durations.",
            4,
            "ms",
            vec![
                (quantile("0.5"), "p50 {{reporter}} {{direction}}"),
                (quantile("0.99"), "p99 {{reporter}} {{direction}}"),
            ],
        ),
        Panel {
            title: "Latency",
            description: "Requests by how long they took.",
            drawing: Drawing::Heatmap,
            width: 4,
            queries: vec![(rate("le", &bucket, CHOSEN), "{{le}}")],
        },
    ]
}

fn health() -> Vec<Panel> {
    let increase = |labels: &str, series: &str| {
        format!("sum by ({labels}) (increase({series}[$__rate_interval]))")
    };
    let extensions = format!("{EXTENSIONS_REFUSED}{{{}}}", our_extensions());
    vec![
        Panel {
            title: "Policy revision",
            description: "The policy in force: proxies of one reporter should have one number.",
            drawing: Drawing::Table,
            width: 6,
            queries: vec![(
                format!(
                    "max by (reporter, instance) ({}{{{CHOSEN_REPORTER}}})",
                    POLICY_REVISION.name
                ),
                "{{reporter}} {{instance}}",
            )],
        },
        lines(
            "Policy rules",
            "The rules of the policy in force.",
            3,
            "short",
            vec![(
                format!(
                    "max by (reporter) ({}{{{CHOSEN_REPORTER}}})",
                    POLICY_RULES.name
                ),
                "{{reporter}}",
            )],
        ),
        lines(
            "Plugins that abstain",
            "Plugins where they do not belong, which decide nothing there.",
            3,
            "short",
            vec![(
                format!(
                    "max by (reporter, instance) ({}{{{CHOSEN_REPORTER}}})",
                    PLUGIN_ABSTAINS.name
                ),
                "{{reporter}} {{instance}}",
            )],
        ),
        lines(
            "Filter reloads",
            "A filter that crashed is loaded again; during back-off its requests are answered with 503.",
            4,
            "short",
            vec![
                (
                    increase("instance", &vm_reloads("success")),
                    "{{instance}} reloaded",
                ),
                (
                    increase("instance", &vm_reloads("backoff")),
                    "{{instance}} backs off",
                ),
                (
                    increase("instance", &vm_reloads("failure")),
                    "{{instance}} failed",
                ),
            ],
        ),
        lines(
            "Policies refused",
            "Configurations that a proxy refused: it keeps the one that it has.",
            4,
            "short",
            vec![
                (
                    increase("instance", &extensions),
                    "{{instance}} by discovery",
                ),
                (
                    increase("instance", LISTENERS_REFUSED),
                    "{{instance}} listener",
                ),
            ],
        ),
        lines(
            "Filter VMs",
            "Running VMs, and those that the filters need: for each filter one a worker and two more. A worker \
                without one lets everything pass.",
            4,
            "short",
            vec![
                (format!("sum by (instance) ({VMS})"), "{{instance}}"),
                (needed_vms(), "{{instance}} needs"),
            ],
        ),
    ]
}
