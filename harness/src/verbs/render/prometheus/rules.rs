//! The rules: what is recorded, and what is worth waking somebody for.

use meridian_metrics::{
    CALLERS, CONNECTIONS, DRY_RUN, PLUGIN_ABSTAINS, POLICY_REVISION, REQUESTS, RESPONSES,
};
use meridian_policy::Policy;
use serde_json::{Value, json};

use super::promql::{
    EXTENSIONS_REFUSED, JOBS, LISTENERS_REFUSED, UNLABELLED, VMS, base, duration, filters,
    needed_vms, our_extensions, vm_reloads, vms_of_a_filter,
};
use super::windows::Windows;

/// Refusals a second below which no rise of theirs matters.
const LEAST_REFUSALS: f64 = 0.1;
/// Responses a second below which no share of errors matters.
const LEAST_RESPONSES: f64 = 0.1;

/// An alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Its name.
    pub name: &'static str,
    /// The expression that has a sample for each fault.
    pub expr: String,
    /// True if the state must last before it fires.
    pub holds: bool,
    /// `critical`, `warning` or `info`.
    pub severity: &'static str,
    /// What happens, in one line; labels in Prometheus's templates, as everywhere below.
    pub summary: &'static str,
    /// What that means.
    pub description: &'static str,
    /// What to do.
    pub runbook: &'static str,
}

/// A recording rule: the name of the series, and its expression.
pub type Recording = (String, String);

/// The names of the recorded series.
struct Recorded {
    decisions: String,
    refused: String,
    refused_before: String,
}

impl Recorded {
    fn new(windows: &Windows) -> Self {
        let requests = base(&REQUESTS);
        let [recent, baseline] = [windows.recent, windows.baseline].map(duration);
        Self {
            decisions: format!("reporter_direction_decision:{requests}:rate{recent}"),
            refused: format!("reporter:{requests}:refused_ratio_rate{recent}"),
            refused_before: format!("reporter:{requests}:refused_ratio_rate{baseline}"),
        }
    }
}

/// What is recorded, in the order of evaluation. Requests and connections are added up: both are
/// decided by the same rules.
pub fn recordings(windows: &Windows) -> Vec<Recording> {
    let recorded = Recorded::new(windows);
    let [recent, baseline] = [windows.recent, windows.baseline].map(duration);
    // Their labels differ, so that a rate over both is never two samples with the same labels.
    let decided = |labels: &str| {
        let (requests, connections) = (REQUESTS.name, CONNECTIONS.name);
        format!("{{__name__=~\"{requests}|{connections}\"{labels}}}")
    };
    let Recorded {
        decisions,
        refused,
        refused_before,
    } = &recorded;
    let (all, denied) = (decided(""), decided(",decision=\"deny\""));
    vec![
        (
            decisions.clone(),
            format!("sum by (reporter, direction, decision) (rate({all}[{recent}]))"),
        ),
        (
            refused.clone(),
            format!(
                "sum by (reporter) ({decisions}{{decision=\"deny\"}}) / (sum by (reporter) ({decisions}) > 0)"
            ),
        ),
        // Zero where nothing was asked for then.
        (
            refused_before.clone(),
            format!(
                "sum by (reporter) (rate({denied}[{baseline}] offset {recent}))\n  \
                 / (sum by (reporter) (rate({all}[{baseline}] offset {recent})) > 0)\n\
                 or {refused} * 0"
            ),
        ),
    ]
}

/// The alerts for this policy.
pub fn alerts(policy: &Policy, windows: &Windows) -> Vec<Alert> {
    let recorded = Recorded::new(windows);
    let [recent, history] = [windows.recent, windows.history].map(duration);
    let mut alerts = vec![
        refusals_rising(&recorded),
        dry_run_would_deny(&recent),
        policy_revisions_differ(),
        policy_refused(&recent),
        filter_reloading(&recent),
        worker_without_filter(),
        plugin_abstains(),
        proxy_down(),
        proxy_without_filter(),
        labels_missing(),
        namespace_goes_outside(&recent, &history),
    ];
    if policy.metrics.responses {
        alerts.push(server_errors(&recent));
    }
    alerts
}

fn refusals_rising(recorded: &Recorded) -> Alert {
    let Recorded {
        decisions,
        refused,
        refused_before: before,
    } = recorded;
    Alert {
        name: "MeridianRefusalsRising",
        // At least twice the share of before, and by 2 to 20 points.
        expr: format!(
            "sum by (reporter) ({decisions}{{decision=\"deny\"}}) > {LEAST_REFUSALS}\n\
             and {refused} > {before} + clamp_max({before} + 0.02, 0.2)"
        ),
        holds: true,
        severity: "warning",
        summary: "The share of refused requests rises at {{ $labels.reporter }}.",
        description: "Far more of what reaches the {{ $labels.reporter }} filters is refused than before: \
            a host that no rule allows is in use, a new policy refuses too much, or somebody tries doors.",
        runbook: "The dashboard's panel \"Refusals by rule\" names the rule. The access log has the refused \
            hosts; give the authority, source and peer of a line to `meridian explain --at {{ $labels.reporter }}`, \
            and test a changed policy with `meridian check` and `meridian test` before it goes out.",
    }
}

fn dry_run_would_deny(recent: &str) -> Alert {
    let dry_run = DRY_RUN.name;
    Alert {
        name: "MeridianDryRunWouldDeny",
        expr: format!(
            "sum by (reporter, rule) (increase({dry_run}{{decision=\"deny\"}}[{recent}])) > 0"
        ),
        holds: false,
        severity: "info",
        summary: "Rule {{ $labels.rule }} in dry run would refuse requests at {{ $labels.reporter }}.",
        description: "Nothing is refused yet. What it counts would be, if the rule or its section were enforced.",
        runbook: "Look for the rule in `dry_run` of the access log, allow what is legitimate, ask \
            `meridian explain --at {{ $labels.reporter }}` about single requests, and enforce the rule once nothing is counted.",
    }
}

fn policy_revisions_differ() -> Alert {
    let revision = POLICY_REVISION.name;
    Alert {
        name: "MeridianPolicyRevisionsDiffer",
        expr: format!("max by (reporter) ({revision}) != min by (reporter) ({revision})"),
        holds: true,
        severity: "warning",
        summary: "The {{ $labels.reporter }} filters run different policies.",
        description: "An update has reached some proxies and not others, which decide by the old policy.",
        runbook: "The dashboard's panel \"Policy revision\" names the proxies. Look for MeridianPolicyRefused \
            and at their logs; then apply the files of `meridian render` again, or restart those that are behind.",
    }
}

fn policy_refused(recent: &str) -> Alert {
    let extensions = format!("{EXTENSIONS_REFUSED}{{{}}}", our_extensions());
    Alert {
        name: "MeridianPolicyRefused",
        expr: format!(
            "sum by (job, instance) (increase({extensions}[{recent}])) > 0\n\
             or sum by (job, instance) (increase({LISTENERS_REFUSED}[{recent}])) > 0"
        ),
        holds: false,
        severity: "critical",
        summary: "{{ $labels.instance }} refused a configuration.",
        description: "The proxy keeps the policy that it had; one that starts now has none and refuses everything. \
            A refused listener may have another reason than the policy.",
        runbook: "The proxy's log has the errors of the policy, each with its place; `meridian check` says the same. \
            Mend the policy and render it again, or go back to the last one.",
    }
}

fn filter_reloading(recent: &str) -> Alert {
    let reloads: Vec<String> = ["success", "backoff", "failure"]
        .iter()
        .map(|event| {
            let reloads = vm_reloads(event);
            format!("sum by (job, instance) (increase({reloads}[{recent}]))")
        })
        .collect();
    Alert {
        name: "MeridianFilterReloading",
        expr: format!("{} > 0", reloads.join(" + ")),
        holds: false,
        severity: "critical",
        summary: "A filter of {{ $labels.instance }} crashed.",
        description: "Envoy loads the module again; until then its requests are answered with 503. A crash is \
            an error of Meridian's, or the module's memory ran out.",
        runbook: "The proxy's log has the panic. If it goes on, go back to the last modules (`meridian build`) \
            and policy, and report the log together with the policy.",
    }
}

fn worker_without_filter() -> Alert {
    let vms = format!("sum by (job, instance) ({VMS})");
    Alert {
        name: "MeridianWorkerWithoutFilter",
        // Every filter has the same number of VMs, so a remainder tells of a missing one even where other
        // filters' VMs make up the number.
        expr: format!(
            "{vms} < {}\nor {vms} % {} > 0 and {}",
            needed_vms(),
            vms_of_a_filter(),
            filters()
        ),
        holds: true,
        severity: "critical",
        summary: "A worker of {{ $labels.instance }} runs without a filter: what it serves is not checked.",
        description: "Envoy could not start a VM for it, and lets the worker's requests and connections pass, \
            whatever the failure_policy. Each VM reserves 10 GB of address space, so a limit of that is the usual \
            cause. The VMs of other wasm filters count too: the missing one may be theirs, theirs can hide ours where \
            as many are missing as a filter has, and a singleton wasm service of the bootstrap looks like a missing one.",
        runbook: "Take the proxy out of service. Its log says `Failed to create new Wasm instance`; lift the limit \
            (`ulimit -v unlimited`, systemd's `LimitAS=infinity`) and restart it.",
    }
}

fn plugin_abstains() -> Alert {
    Alert {
        name: "MeridianPluginAbstains",
        expr: format!(
            "max by (job, instance, reporter) ({}) > 0",
            PLUGIN_ABSTAINS.name
        ),
        holds: true,
        severity: "warning",
        summary: "The {{ $labels.reporter }} plugin of {{ $labels.instance }} stands where it does not belong.",
        description: "A sidecar's module is at a gateway or waypoint, or a gateway's at a sidecar. It decides, tags \
            and counts nothing there, and leaves that to the proxy's own filter, if the proxy has one.",
        runbook: "A WasmPlugin or TrafficExtension without a selector, in Istio's root namespace, reaches every \
            proxy: render them for the namespaces of workloads (`meridian render istio`). The gauge stays until the \
            proxy restarts.",
    }
}

fn proxy_down() -> Alert {
    Alert {
        name: "MeridianProxyDown",
        expr: format!("up{{{JOBS}}} == 0"),
        holds: true,
        severity: "warning",
        summary: "{{ $labels.instance }} does not tell its metrics.",
        description: "Prometheus cannot scrape the proxy: it is down, out of reach, or no proxy. Whatever its filters \
            decide is not seen, and no other alert can tell of it.",
        runbook: "Prometheus's page \"Targets\" has the error; `meridian top` with the address says what answers there. \
            Start the proxy, or take it out of the targets.",
    }
}

fn proxy_without_filter() -> Alert {
    let (revision, abstains) = (POLICY_REVISION.name, PLUGIN_ABSTAINS.name);
    Alert {
        name: "MeridianProxyWithoutFilter",
        // Pods without a filter are usual in a mesh; who lists a proxy means it to have one.
        expr: format!(
            "up{{{JOBS},pod=\"\"}} == 1\n\
             unless on (job, instance) {{__name__=~\"{revision}|{abstains}|{UNLABELLED}\"}}"
        ),
        holds: true,
        severity: "critical",
        summary: "{{ $labels.instance }} has no filter: what it serves is not checked.",
        description: "The proxy is scraped and has no policy. Its filter is not in its configuration, did not load, or \
            is gone since a restart. It looks at listed proxies alone, not at pods.",
        runbook: "Look in the proxy's log why the filter did not load, and in `/config_dump` of its admin whether a \
            listener has it; apply the files of `meridian render` again. Take a proxy that is to have no filter out of the \
            targets.",
    }
}

fn labels_missing() -> Alert {
    Alert {
        name: "MeridianLabelsMissing",
        expr: format!("max by (job, instance) ({UNLABELLED}) > 0"),
        holds: true,
        severity: "warning",
        summary: "{{ $labels.instance }} counts without labels.",
        description: "Its filters decide, and their counts are lost: the labels stand in the metrics' names, because the \
            proxy was started without the tags that take them out.",
        runbook: "Add `stats_tags` of `meridian render envoy` to the proxy's bootstrap, or `extraStatTags` of `meridian \
            render istio` to the mesh's configuration, and restart the proxy.",
    }
}

fn namespace_goes_outside(recent: &str, history: &str) -> Alert {
    let outside = format!("{}{{direction=\"north-south\"}}", CALLERS.name);
    Alert {
        name: "MeridianNamespaceGoesOutside",
        // The last line: only where that long is known of, so that a new Prometheus is silent.
        expr: format!(
            "sum by (source_namespace) (increase({outside}[{recent}])) > 0\n\
             unless sum by (source_namespace) (increase({outside}[{history}] offset {recent})) > 0\n\
             and sum by (source_namespace) (count_over_time({outside}[{recent}] offset {history}))"
        ),
        holds: false,
        severity: "warning",
        summary: "Namespace {{ $labels.source_namespace }} asks for hosts outside, as never before.",
        description: "It sends requests to the egress gateway for hosts outside the mesh, and did not in the time \
            that is looked back: a new release, or an intruder.",
        runbook: "Look in the egress gateway's access log for hosts asked for by a `peer` of the namespace. If they \
            are wanted, allow them by a rule with `from: {namespaces: [...]}` and try it with `meridian explain --at egress`; \
            if not, deny the namespace there and ask its owners.",
    }
}

fn server_errors(recent: &str) -> Alert {
    let responses = RESPONSES.name;
    let rate = |labels: &str| format!("sum by (reporter) (rate({responses}{labels}[{recent}]))");
    let (all, failed) = (rate(""), rate("{response_code_class=\"5xx\"}"));
    Alert {
        name: "MeridianServerErrors",
        expr: format!("{failed} / ({all} > {LEAST_RESPONSES}) > 0.05"),
        holds: true,
        severity: "warning",
        summary: "More than 5 % of the responses at {{ $labels.reporter }} are errors of servers.",
        description: "The filters refuse with the policy's status, 403 without another; a 5xx comes from the \
            upstream, from Envoy, or from a filter that crashed.",
        runbook: "`details` and `flags` of the access log say which; with details of an upstream it is the service's \
            own trouble, with those of a policy of status 5xx ask `meridian explain`, and see MeridianFilterReloading.",
    }
}

/// The whole file, in Prometheus's form.
pub(super) fn groups(alerts: &[Alert], recordings: &[Recording], windows: &Windows) -> Value {
    let recordings: Vec<Value> = recordings
        .iter()
        .map(|(name, expr)| json!({"record": name, "expr": expr}))
        .collect();
    let alerts: Vec<Value> = alerts
        .iter()
        .map(|alert| {
            let mut rule = json!({"alert": alert.name, "expr": alert.expr});
            if alert.holds {
                rule["for"] = json!(duration(windows.hold));
            }
            rule["labels"] = json!({"severity": alert.severity});
            rule["annotations"] = alert.annotations(&[]);
            rule
        })
        .collect();
    json!({"groups": [
        {"name": "meridian.recordings", "rules": recordings},
        {"name": "meridian.alerts", "rules": alerts},
    ]})
}

impl Alert {
    /// Its texts, with these labels put into Prometheus's templates.
    pub(super) fn annotations(&self, labels: &[(&str, &str)]) -> Value {
        let fill = |text: &str| {
            labels.iter().fold(text.to_owned(), |text, (label, value)| {
                text.replace(&format!("{{{{ $labels.{label} }}}}"), value)
            })
        };
        json!({
            "summary": fill(self.summary),
            "description": fill(self.description),
            "runbook": fill(self.runbook),
        })
    }
}

pub(super) const HEADER: &str = "\
# Recording and alerting rules over the metrics of Meridian's filters. Each alert says what to do in its
# annotation `runbook`. `promtool test rules rules.test.yaml` tests them.
#
# Rendered by `meridian render prometheus` from a policy: there is no rule over metrics that it does not
# ask for.
";
