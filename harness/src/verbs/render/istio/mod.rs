//! `meridian render istio`: a folder that attaches the filters to a mesh.

mod envoyfilter;
mod folder;
mod gateways;
mod headers;
mod mesh;
mod modules;
mod observe;
mod options;
mod plan;
mod plugin;
mod readme;
mod sizes;

use std::borrow::Cow;
use std::collections::BTreeMap;

use anyhow::bail;
use meridian_policy::{Subject, Vantage};

use super::prometheus;
use crate::policy::PolicyFile;
use crate::text::visible::visible_lines;
use folder::Folder;
use gateways::{Attached, attached, check_selectors};
use options::ROOT_NAMESPACE;
pub use options::{Form, IstioArgs};
use plan::Plan;

/// The files by their paths, for the policy of the arguments.
///
/// # Errors
/// As [`render`], and if the policy cannot be read.
pub fn run(args: &IstioArgs) -> anyhow::Result<Vec<(String, String)>> {
    let policy = PolicyFile::load(args.policy.as_deref())?;
    let Rendered { files, notes } = render(&policy, args)?;
    for note in notes {
        eprintln!("{}", visible_lines(&note));
    }
    Ok(files)
}

/// A rendered folder.
#[derive(Debug)]
pub struct Rendered {
    /// The files, by their paths.
    pub files: Vec<(String, String)>,
    /// What whoever renders them should know.
    pub notes: Vec<String>,
}

/// Renders the folder. Equal arguments give equal files.
///
/// # Errors
/// If options do not go together, a module is missing, or an object is too large for Kubernetes.
pub fn render(policy: &PolicyFile, args: &IstioArgs) -> anyhow::Result<Rendered> {
    let policy = match args.observe {
        true => Cow::Owned(observe::observed(policy)?),
        false => Cow::Borrowed(policy),
    };
    let plan = Plan::new(args, &policy)?;
    let mut notes: Vec<String> = plan
        .modules
        .warning()
        .map(str::to_owned)
        .into_iter()
        .collect();
    let gateways = attached(&policy.policy);
    check_selectors(&gateways, args.select_label.as_ref())?;
    notes.extend(unattached(&policy));
    let namespaces = sidecar_namespaces(&plan, &gateways, &mut notes)?;

    let mut folder = Folder::new(policy.revision());
    for gateway in &gateways {
        attach_gateway(&plan, gateway, &mut folder)?;
    }
    match &namespaces {
        None => attach_sidecars(&plan, "sidecars", ROOT_NAMESPACE, &mut folder)?,
        Some(namespaces) => {
            for namespace in namespaces {
                attach_sidecars(
                    &plan,
                    &format!("sidecars/{namespace}"),
                    namespace,
                    &mut folder,
                )?;
            }
        }
    }
    add_overlays(&plan, &mut folder)?;
    add_mesh(&plan, &gateways, &mut folder)?;
    let readme = readme::folder(&plan, &gateways, namespaces.as_deref());
    folder.markdown("README.md", &readme);
    folder.markdown("mesh/README.md", &readme::mesh(&plan));
    Ok(Rendered {
        files: folder.into_files()?,
        notes,
    })
}

/// Says which ingress gateways get no filter, and that there is none of a kind.
fn unattached(policy: &PolicyFile) -> Vec<String> {
    let mesh = &policy.policy.mesh;
    let unfiltered = mesh
        .ingress_gateways
        .iter()
        .filter(|gateway| !gateway.filtered);
    let mut notes: Vec<String> = unfiltered
        .map(|gateway| {
            format!(
                "no filter for the ingress gateway {}: the policy says `filtered: false`",
                gateway.principal
            )
        })
        .collect();
    if mesh.ingress_gateways.is_empty() {
        notes.push(
            "no ingress gateway: `mesh.gateways.ingress` of the policy names none".to_owned(),
        );
    }
    if mesh.egress_gateways.is_empty() {
        notes.push("no egress gateway: `mesh.gateways.egress` of the policy names none".to_owned());
    }
    notes
}

/// The namespaces whose sidecars get filters; `None` for the whole mesh.
fn sidecar_namespaces(
    plan: &Plan<'_>,
    gateways: &[Attached<'_>],
    notes: &mut Vec<String>,
) -> anyhow::Result<Option<Vec<String>>> {
    let args = plan.args;
    if !args.namespaces.is_empty() {
        let mut namespaces = args.namespaces.clone();
        namespaces.sort();
        namespaces.dedup();
        return Ok(Some(namespaces));
    }
    if args.form == Form::EnvoyFilter {
        return Ok(None);
    }
    let mut namespaces = Vec::new();
    for namespace in plan.file.written().mesh_namespaces() {
        let left_out = if namespace == ROOT_NAMESPACE {
            Some("objects there reach the whole mesh, gateways too")
        } else if gateways
            .iter()
            .any(|gateway| gateway.namespace == namespace)
        {
            Some(
                "a sidecar's filter would reach the gateway there; name it with --namespace to have it",
            )
        } else {
            None
        };
        match left_out {
            Some(why) => notes.push(format!("no sidecars of the namespace {namespace}: {why}")),
            None => namespaces.push(namespace.to_owned()),
        }
    }
    if namespaces.is_empty() {
        bail!(
            "plugins are attached namespace by namespace, and `mesh.namespaces` of the policy names none \
             for it; write --namespace NS for each"
        );
    }
    namespaces.sort();
    namespaces.dedup();
    Ok(Some(namespaces))
}

/// The HTTP filter, the network filter, and for plugins the removal of look-alikes.
fn attach_gateway(
    plan: &Plan<'_>,
    gateway: &Attached<'_>,
    folder: &mut Folder,
) -> anyhow::Result<()> {
    let within = format!("gateways/{}", gateway.name);
    let select = |suffix: &str| {
        let name = format!("meridian-{}{suffix}", gateway.name);
        plan.selection(&name, gateway.namespace, &gateway.labels)
    };
    let vantage = gateway.vantage;
    let requests = plan.filter(vantage, Subject::Request, gateway.policy_name)?;
    let connections = plan.filter(vantage, Subject::Connection, gateway.policy_name)?;
    let (selection, header) = (select(""), headers::http(gateway));
    let object = match plan.args.form {
        Form::EnvoyFilter => envoyfilter::http(plan, &selection, &requests),
        Form::TrafficExtension | Form::WasmPlugin => plugin::http(plan, &selection, &requests)?,
    };
    folder.object(&within, "http.yaml", &header, &object)?;
    let object = envoyfilter::connections(plan, &select("-connections"), &connections);
    let header = headers::connections(plan, gateway);
    folder.object(&within, "connections.yaml", &header, &object)?;
    if plan.args.form != Form::EnvoyFilter && envoyfilter::removes_look_alikes(vantage) {
        let object = envoyfilter::look_alikes(plan, &select("-look-alikes"), vantage);
        folder.object(&within, "look-alikes.yaml", headers::LOOK_ALIKES, &object)?;
    }
    Ok(())
}

/// The filters of the sidecars that objects in `namespace` reach.
fn attach_sidecars(
    plan: &Plan<'_>,
    within: &str,
    namespace: &str,
    folder: &mut Folder,
) -> anyhow::Result<()> {
    let everyone = BTreeMap::new();
    for vantage in [Vantage::Inbound, Vantage::Outbound] {
        let filter = plan.filter(vantage, Subject::Request, None)?;
        let selection = plan.selection(&format!("meridian-{vantage}"), namespace, &everyone);
        let object = match plan.args.form {
            Form::EnvoyFilter => envoyfilter::http(plan, &selection, &filter),
            Form::TrafficExtension | Form::WasmPlugin => plugin::http(plan, &selection, &filter)?,
        };
        let header = headers::sidecar(plan, vantage, namespace);
        folder.object(within, &format!("{vantage}.yaml"), &header, &object)?;
    }
    if plan.args.form != Form::EnvoyFilter {
        let selection = plan.selection("meridian-look-alikes", namespace, &everyone);
        let object = envoyfilter::look_alikes(plan, &selection, Vantage::Inbound);
        folder.object(within, "look-alikes.yaml", headers::LOOK_ALIKES, &object)?;
    }
    Ok(())
}

/// What a cluster may lack, or have already.
fn add_overlays(plan: &Plan<'_>, folder: &mut Folder) -> anyhow::Result<()> {
    let within = "overlays/prometheus-operator";
    let policy = &plan.file.policy;
    let windows = prometheus::Windows::default();
    let monitor = prometheus::pod_monitor(&windows, ROOT_NAMESPACE);
    folder.object(within, "pod-monitor.yaml", headers::POD_MONITOR, &monitor)?;
    let rule = prometheus::prometheus_rule(policy, &windows, ROOT_NAMESPACE);
    folder.object(
        within,
        "prometheus-rule.yaml",
        headers::PROMETHEUS_RULE,
        &rule,
    )?;
    let telemetry = mesh::telemetry(&policy.tags);
    folder.object(
        "overlays/tracing",
        "telemetry.yaml",
        headers::TELEMETRY,
        &telemetry,
    )
}

/// What belongs into Helm values, mesh configuration and templates.
fn add_mesh(plan: &Plan<'_>, gateways: &[Attached<'_>], folder: &mut Folder) -> anyhow::Result<()> {
    let mesh_config = mesh::mesh_config(&plan.file.policy.tags);
    folder.yaml("mesh/mesh-config.yaml", headers::MESH_CONFIG, &mesh_config)?;
    let template = mesh::pod_template(plan);
    folder.yaml("mesh/pod-template.yaml", headers::POD_TEMPLATE, &template)?;
    for gateway in gateways {
        let path = format!("mesh/gateways/{}.yaml", gateway.name);
        let header = mesh::deployment_header(gateway);
        folder.yaml(&path, &header, &mesh::deployment_patch(plan))?;
    }
    Ok(())
}
