//! Unit tests of the alerts, for `promtool test rules`: of each that it is silent before its fault and
//! fires after it, with what it then says.

use std::time::Duration;

use meridian_metrics::{
    CALLERS, CONNECTIONS, DRY_RUN, PLUGIN_ABSTAINS, POLICY_REVISION, REQUESTS, RESPONSES,
};
use serde_json::{Value, json};

use super::promql::{
    EXTENSION, EXTENSIONS_REFUSED, LISTENERS_REFUSED, UNLABELLED, VMS, WORKERS, duration,
    vm_reloads,
};
use super::rules::Alert;
use super::windows::Windows;
use crate::lab::config::wasm::FILTER_NAME;

/// A step of the tests is this part of `recent`.
const STEPS_OF_RECENT: u32 = 5;

/// A series, as text, with what it grows by a step before and after the fault; one that is no
/// counter has its two values instead.
struct InputSeries {
    name: String,
    before: u64,
    after: u64,
    is_gauge: bool,
}

/// The fault that an alert is for.
struct Fault {
    labels: &'static [(&'static str, &'static str)],
    series: Vec<InputSeries>,
}

const TARGET: &[(&str, &str)] = &[("instance", "proxy"), ("job", "meridian")];

pub(super) fn render(alerts: &[Alert], windows: &Windows) -> Value {
    let step = windows.recent / STEPS_OF_RECENT;
    let steps = |time: Duration| time.as_nanos().div_ceil(step.as_nanos().max(1)) as u64;
    let longest = windows.history.max(windows.baseline) + windows.recent;
    let before = steps(longest) + u64::from(STEPS_OF_RECENT);
    let lasting = steps(windows.recent + windows.hold) + 1;
    let time = |steps: u64| duration(step * u32::try_from(steps).unwrap_or(u32::MAX));
    let tests: Vec<Value> = alerts
        .iter()
        .flat_map(|alert| faults(alert.name, step).into_iter().map(move |fault| (alert, fault)))
        .map(|(alert, fault)| {
            // What does not last is over again after `recent`.
            let after = if alert.holds { lasting } else { u64::from(STEPS_OF_RECENT) - 2 };
            let series: Vec<Value> = fault
                .series
                .iter()
                .map(|series| json!({"series": series.name, "values": series.values(before, after)}))
                .collect();
            let mut labels = json!({"severity": alert.severity});
            for (label, value) in fault.labels {
                labels[*label] = json!(value);
            }
            let fires = json!({"exp_labels": labels, "exp_annotations": alert.annotations(fault.labels)});
            json!({
                "name": alert.name,
                "interval": duration(step),
                "input_series": series,
                "alert_rule_test": [
                    {"alertname": alert.name, "eval_time": time(before), "exp_alerts": []},
                    {"alertname": alert.name, "eval_time": time(before + after), "exp_alerts": [fires]},
                ],
            })
        })
        .collect();
    json!({
        "rule_files": ["rules.yaml"],
        "evaluation_interval": duration(step),
        "tests": tests,
    })
}

impl InputSeries {
    fn counter(name: String, before: u64, after: u64) -> Self {
        let is_gauge = false;
        Self {
            name,
            before,
            after,
            is_gauge,
        }
    }

    fn gauge(name: String, before: u64, after: u64) -> Self {
        let is_gauge = true;
        Self {
            name,
            before,
            after,
            is_gauge,
        }
    }

    /// Its values in promtool's notation, one more than there are steps.
    fn values(&self, steps_before: u64, steps_after: u64) -> String {
        let Self { before, after, .. } = self;
        let last = steps_after.saturating_sub(1);
        if self.is_gauge {
            format!("{before}x{steps_before} {after}x{last}")
        } else {
            let next = before * steps_before + after;
            format!("0+{before}x{steps_before} {next}+{after}x{last}")
        }
    }
}

/// The faults of the alert, each of which it has to see; none if there is no alert by that name.
fn faults(alert: &str, step: Duration) -> Vec<Fault> {
    let reporter: &[_] = &[("reporter", "ingress")];
    // A request each half second, or one each step where steps are shorter.
    let some = (step.as_millis() / 500).max(1) as u64;
    let fault = match alert {
        "MeridianRefusalsRising" => Fault {
            labels: reporter,
            series: [("allow", some, some), ("deny", 0, some)]
                .map(|(decision, before, after)| {
                    let labels = "component_type=\"application\",direction=\"north-south\"";
                    let name = format!(
                        "{}{{reporter=\"ingress\",{labels},decision=\"{decision}\",rule=\"default\"}}",
                        REQUESTS.name
                    );
                    InputSeries::counter(name, before, after)
                })
                .into(),
        },
        "MeridianDryRunWouldDeny" => Fault {
            labels: &[("reporter", "ingress"), ("rule", "no-admin")],
            series: vec![InputSeries::counter(
                format!(
                    "{}{{reporter=\"ingress\",direction=\"north-south\",decision=\"deny\",rule=\"no-admin\"}}",
                    DRY_RUN.name
                ),
                0,
                1,
            )],
        },
        "MeridianPolicyRevisionsDiffer" => Fault {
            labels: reporter,
            series: [("one", 2), ("another", 1)]
                .map(|(instance, after)| {
                    let name = format!(
                        "{}{{reporter=\"ingress\",instance=\"{instance}\"}}",
                        POLICY_REVISION.name
                    );
                    InputSeries::gauge(name, 1, after)
                })
                .into(),
        },
        "MeridianPluginAbstains" => Fault {
            labels: &[
                ("instance", "proxy"),
                ("job", "meridian"),
                ("reporter", "outbound"),
            ],
            series: vec![InputSeries::gauge(
                format!(
                    "{}{{reporter=\"outbound\",{}}}",
                    PLUGIN_ABSTAINS.name,
                    target()
                ),
                0,
                1,
            )],
        },
        "MeridianProxyDown" => Fault {
            labels: TARGET,
            series: vec![InputSeries::gauge(format!("up{{{}}}", target()), 1, 0)],
        },
        // Down before, and up again without its filter; one that has it says nothing.
        "MeridianProxyWithoutFilter" => {
            let other = "job=\"meridian\",instance=\"other\"";
            let revision = format!("{}{{reporter=\"ingress\",{other}}}", POLICY_REVISION.name);
            Fault {
                labels: TARGET,
                series: vec![
                    InputSeries::gauge(format!("up{{{}}}", target()), 0, 1),
                    InputSeries::gauge(format!("up{{{other}}}"), 1, 1),
                    InputSeries::gauge(revision, 1, 1),
                ],
            }
        }
        "MeridianLabelsMissing" => Fault {
            labels: TARGET,
            series: vec![InputSeries::gauge(
                format!("{UNLABELLED}{{stat=\"reporter___ingress\",{}}}", target()),
                0,
                1,
            )],
        },
        "MeridianPolicyRefused" => Fault {
            labels: TARGET,
            series: vec![
                InputSeries::counter(
                    format!(
                        "{EXTENSIONS_REFUSED}{{{},{EXTENSION}=\"http_filter_{FILTER_NAME}_ingress\"}}",
                        target()
                    ),
                    0,
                    1,
                ),
                InputSeries::counter(format!("{LISTENERS_REFUSED}{{{}}}", target()), 0, 0),
            ],
        },
        "MeridianFilterReloading" => Fault {
            labels: TARGET,
            series: [("success", 1), ("backoff", 0), ("failure", 0)]
                .map(|(event, after)| {
                    let name = format!("{}{{{}}}", vm_reloads(event), target());
                    InputSeries::counter(name, 0, after)
                })
                .into(),
        },
        "MeridianWorkerWithoutFilter" => {
            // Two workers and two filters: as many VMs are missing as a filter has, or one is missing beside
            // those of somebody else's filter. A sidecar's plugin without a root id has one VM on each
            // worker for both its reporters.
            let gateway = [(REQUESTS.name, "ingress"), (CONNECTIONS.name, "ingress")];
            let sidecar = [(REQUESTS.name, "inbound"), (REQUESTS.name, "outbound")];
            return vec![
                without_vms(gateway, 8, 4),
                without_vms(gateway, 12, 11),
                without_vms(sidecar, 4, 3),
            ];
        }
        "MeridianNamespaceGoesOutside" => Fault {
            labels: &[("source_namespace", "shop")],
            // One that always did says nothing.
            series: [("shop", 0), ("orders", 1)]
                .map(|(namespace, before)| {
                    let name = format!(
                        "{}{{reporter=\"egress\",direction=\"north-south\",decision=\"allow\",source_namespace=\"{namespace}\"}}",
                        CALLERS.name
                    );
                    InputSeries::counter(name, before, 1)
                })
                .into(),
        },
        "MeridianServerErrors" => Fault {
            labels: reporter,
            series: [("2xx", some, some), ("5xx", 0, some)]
                .map(|(class, before, after)| {
                    let name = format!(
                        "{}{{reporter=\"ingress\",direction=\"north-south\",response_code_class=\"{class}\"}}",
                        RESPONSES.name
                    );
                    InputSeries::counter(name, before, after)
                })
                .into(),
        },
        _ => return Vec::new(),
    };
    vec![fault]
}

/// A proxy with two workers whose filters count these metrics under these reporters, and whose VMs become
/// fewer.
fn without_vms(counted: [(&str, &str); 2], before: u64, after: u64) -> Fault {
    let series = |name: &str, labels: &str, before, after| {
        InputSeries::gauge(format!("{name}{{{}{labels}}}", target()), before, after)
    };
    let counted = counted.map(|(metric, reporter)| {
        let reporter = format!(",reporter=\"{reporter}\"");
        let component = match metric == REQUESTS.name {
            true => ",component_type=\"application\"",
            false => "",
        };
        series(metric, &format!("{reporter}{component}"), 0, 0)
    });
    let vms = [series(VMS, "", before, after), series(WORKERS, "", 2, 2)];
    Fault {
        labels: TARGET,
        series: vms.into_iter().chain(counted).collect(),
    }
}

fn target() -> String {
    let labels: Vec<String> = TARGET
        .iter()
        .map(|(label, value)| format!("{label}=\"{value}\""))
        .collect();
    labels.join(",")
}

pub(super) const HEADER: &str = "\
# Tests of rules.yaml, for `promtool test rules`: each alert is silent before its fault and fires after it.
#
# Rendered by `meridian render prometheus`.
";
