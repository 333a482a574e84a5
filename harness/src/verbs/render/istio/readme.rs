//! The READMEs of the rendered folder: what is there, the order of a rollout, and the way back.

use std::fmt::Write;

use super::gateways::Attached;
use super::options::Form;
use super::plan::Plan;
use crate::policy::revision_text;

/// README.md at the top.
pub(super) fn folder(
    plan: &Plan<'_>,
    gateways: &[Attached<'_>],
    namespaces: Option<&[String]>,
) -> String {
    let revision = plan.file.revision();
    let (hex, observes) = (revision_text(revision), plan.args.observe);
    let form = match plan.args.form {
        Form::EnvoyFilter => "EnvoyFilters",
        Form::TrafficExtension => "TrafficExtensions",
        Form::WasmPlugin => "WasmPlugins",
    };
    let mode = match observes {
        true => {
            "It **observes**: nothing is refused, what would be is counted and logged. Tags are written."
        }
        false => "It **enforces** the policy.",
    };
    let mut text = format!(
        "# Meridian in this mesh\n\n\
         The filters as {form}, with the policy of revision `{hex}` ({revision} in Prometheus). {mode}\n\
         Rendered by `meridian render istio`: edit the policy and render again.\n\n\
         | folder | for |\n|---|---|\n"
    );
    let mut row = |folder: &str, what: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| `{folder}` | {what} |");
    };
    for gateway in gateways {
        let labels: Vec<String> = plan
            .selection("", "", &gateway.labels)
            .labels
            .iter()
            .map(|(key, value)| format!("`{key}={value}`"))
            .collect();
        let what = format!(
            "the {} gateway {}: pods with {} in `{}`",
            gateway.vantage,
            gateway.name,
            labels.join(" and "),
            gateway.namespace
        );
        row(&format!("gateways/{}", gateway.name), &what);
    }
    let labelled = match &plan.args.select_label {
        Some((key, value)) => format!(" whose pods have `{key}={value}`"),
        None => String::new(),
    };
    match namespaces {
        None => row("sidecars", &format!("all sidecars of the mesh{labelled}")),
        Some(namespaces) => {
            for namespace in namespaces {
                let what = format!("the sidecars of the namespace {namespace}{labelled}");
                row(&format!("sidecars/{namespace}"), &what);
            }
        }
    }
    row(
        "overlays/prometheus-operator",
        "a PodMonitor and a PrometheusRule; a cluster without the operator lacks these kinds",
    );
    row("overlays/tracing", "the direction on spans, by a Telemetry");
    row(
        "mesh",
        "nothing that is applied: Helm values and patches of templates",
    );
    text.push_str(&before(plan));
    text.push_str(&order(plan, gateways, namespaces));
    text.push_str(&effects(plan));
    text.push_str(&revision_check(revision));
    text.push_str(&back(plan));
    text.push_str(&left_alone(plan));
    text
}

fn before(plan: &Plan<'_>) -> String {
    let modules = match plan.modules.mounted() {
        Some(folder) => format!(
            "2. The modules lie in `{}` of every proxy. Make the ConfigMap that the patches in `mesh` mount, in \
             each namespace: `kubectl -n NS create configmap meridian-modules --from-file=DIR` of the modules. A \
             pod without the file becomes ready and answers 500 to everything, so roll the pods with the \
             volume **before** you apply a filter for them.\n",
            folder.display()
        ),
        None => "2. Each proxy's agent fetches the modules itself. Where one cannot (no way to the registry, no \
                 credentials), nothing is let through: an EnvoyFilter leaves the module that a proxy runs, \
                 and a proxy without one answers 500 to everything; for a plugin Istio's agent refuses \
                 everything with 403, also where a module ran. It tries again with the next change that \
                 istiod sends. Try one pod first.\n"
            .to_owned(),
    };
    format!(
        "\n## Before\n\n\
         1. Merge `mesh/mesh-config.yaml` into the values of istiod, for labels and access logs. Proxies take \
         it when they start.\n{modules}\
         3. Every ingress gateway stands in `mesh.gateways.ingress` of the policy, filtered or not: one that does \
         not is a workload to the sidecars behind it, and what comes by it from outside is east-west.\n\
         4. `istioctl analyze` and `istioctl validate -f` take these files; of EnvoyFilters Istio always says \
         that they are an extension for experts.\n"
    )
}

fn order(plan: &Plan<'_>, gateways: &[Attached<'_>], namespaces: Option<&[String]>) -> String {
    let first = match gateways.first() {
        Some(gateway) => format!("gateways/{}", gateway.name),
        None => "sidecars".to_owned(),
    };
    let sidecars = match namespaces.and_then(<[String]>::first) {
        Some(namespace) => format!("`kubectl apply --server-side -k sidecars/{namespace}`, and so on"),
        None => "`kubectl apply --server-side -k sidecars` reaches the whole mesh; render with `--namespace` \
                 to go namespace by namespace"
            .to_owned(),
    };
    let label = match &plan.args.select_label {
        Some((key, value)) => format!(
            "2. Put `{key}: {value}` into the pod template of one gateway or workload, and roll it. The label \
             never belongs onto a running pod: it would attach the filter within seconds.\n"
        ),
        None => "2. To change no running proxy, render with `--select-label KEY=VALUE` and put that label into \
                 pod templates: pods then take the filter as they are rolled.\n"
            .to_owned(),
    };
    let observe = match plan.args.observe {
        true => "1. Observe with this folder",
        false => "1. Observe: render once more with `--observe`, and begin with that folder",
    };
    format!(
        "\n## Order\n\n\
         {observe}. `kubectl apply --server-side -k {first}`, gateway by gateway; when each of them reports the \
         revision, {sidecars}. In this order, because sidecars believe the tag of a `filtered` gateway: applied at \
         once, a forged tag can be believed for about a second.\n{label}\
         3. Read what would have been refused: `meridian top` for the counters, `meridian learn` for \
         proposals from the access logs, for as long as your rarest traffic takes to come by.\n\
         4. Enforce: render without `--observe`, and apply gateway by gateway and namespace by namespace, with \
         a look at `meridian_requests_total{{decision=\"deny\"}}` after each.\n"
    )
}

fn effects(plan: &Plan<'_>) -> String {
    let attachment = match plan.args.select_label {
        Some(_) => {
            "Pods take the filter when they start: no open connection is touched, but by the rolling itself."
        }
        None => {
            "Listeners change: connections that are open stay without the filter until they drain (the drain \
                 time, 45 s unless you set it). While an agent fetches the module for the first time, its \
                 proxy answers 500."
        }
    };
    format!(
        "\n## What a step does to open connections\n\n\
         | step | effect |\n|---|---|\n\
         | first attachment | {attachment} |\n\
         | another policy, also from observing to enforcing | None drains. HTTP: the next request is decided by \
         the new policy. Connections that pass unread: new ones alone. |\n\
         | a policy that the filter refuses | The old one serves on; the proxy's log names every error, and \
         `extension_config_discovery` counts it. |\n\
         | removal | As a first attachment: open connections keep the filter until they drain. |\n"
    )
}

fn revision_check(revision: u64) -> String {
    format!(
        "\n## That every proxy runs it\n\n\
         `count by (pod, reporter) (meridian_policy_revision != {revision})` finds no proxy with another policy, and\n\
         `count by (reporter) (meridian_policy_revision == {revision})` counts those with this one. One proxy:\n\
         `kubectl exec POD -c istio-proxy -- pilot-agent request GET stats/prometheus | grep meridian_policy`.\n"
    )
}

fn back(plan: &Plan<'_>) -> String {
    let label = match &plan.args.select_label {
        Some((key, _)) => format!(
            " Without changing a running proxy: take the label `{key}` out of the templates, roll the pods, and \
             delete last."
        ),
        None => String::new(),
    };
    format!(
        "\n## Back\n\n\
         From enforcing to observing: apply the folder that observes; it takes effect within seconds. All the \
         way: `kubectl delete --ignore-not-found -k` of `sidecars` first, and of the gateways when every sidecar has \
         taken that: a sidecar believes the tag of a gateway that is `filtered` in the policy, and without its \
         filter such a gateway passes on what a client wrote there.{label}\n"
    )
}

fn left_alone(plan: &Plan<'_>) -> String {
    let passthrough = match plan.args.auto_passthrough {
        true => "",
        false => {
            "- AUTO_PASSTHROUGH servers of gateways (15443 between clusters): their connections are between \
                  sidecars, which decide themselves. `--auto-passthrough` filters them, too.\n"
        }
    };
    let look_alikes = match plan.args.proxy_version {
        None => "",
        Some(_) => {
            "- Headers that look like a tag, at proxies before Istio 1.28: their Envoys cannot remove \
             them by a match.\n"
        }
    };
    format!(
        "\n## Left alone\n\n{passthrough}{look_alikes}\
         - Proxies whose version does not match `{}`: proxies of Istio 1.28 and 1.29 may die of a first filter \
         that comes while they run.\n\
         - TCP and TLS that sidecars pass unread, waypoints, and ztunnels.\n",
        plan.args.filter_versions()
    )
}

/// `mesh/README.md`.
pub(super) fn mesh(plan: &Plan<'_>) -> String {
    let mounted = match plan.modules.mounted() {
        Some(_) => " and the volume with the modules",
        None => "",
    };
    let label = match &plan.args.select_label {
        Some((key, value)) => {
            format!(" It has the label `{key}: {value}` that attaches the filters.")
        }
        None => String::new(),
    };
    format!(
        "# For Helm values, mesh configuration and templates\n\n\
         Nothing here is an object of Kubernetes; `kubectl apply -k` leaves it alone.\n\n\
         | file | goes into |\n|---|---|\n\
         | `mesh-config.yaml` | the values of the chart istiod, or an IstioOperator's `spec` |\n\
         | `pod-template.yaml` | the Deployment of a workload: the buckets of the histograms{mounted}.{label} |\n\
         | `gateways/NAME.yaml` | the same for a gateway, by `kubectl patch deployment --patch-file`, or the values \
         of its chart |\n"
    )
}
