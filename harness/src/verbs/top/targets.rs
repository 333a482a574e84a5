//! Where the addresses of the proxies come from, beside the command line.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::target::ScrapeTarget;
use crate::lab::compose::METRICS_PORT;
use crate::lab::programs;
use crate::policy::PolicyFile;
use crate::text::shell::word;

/// The first local port of the printed port-forwards.
const FIRST_PORT: u16 = 15000;

/// A group of a file for Prometheus' `file_sd_configs`.
#[derive(Deserialize)]
struct Group {
    targets: Vec<String>,
}

/// The targets of a file for Prometheus' `file_sd_configs`, in JSON or YAML.
///
/// # Errors
/// If it cannot be read, or holds something else.
pub(super) fn of_file(file: &Path) -> anyhow::Result<Vec<ScrapeTarget>> {
    let shown = file.display();
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))?;
    let groups: Vec<Group> = yaml_serde::from_str(&text).with_context(|| {
        format!(
            "{shown} is no file of targets: write what Prometheus' file_sd_configs read, such as \
             `- targets: [\"10.0.0.1:15090\"]`"
        )
    })?;
    let targets: Vec<ScrapeTarget> = groups
        .iter()
        .flat_map(|group| &group.targets)
        .map(|target| {
            target
                .parse()
                .map_err(|error| anyhow::anyhow!("{shown}: `{target}`: {error}"))
        })
        .collect::<anyhow::Result<_>>()?;
    ensure!(!targets.is_empty(), "{shown} has no targets");
    Ok(targets)
}

/// The compose project's name that is meant: itself, or that of the project in a folder.
///
/// # Errors
/// If there is no such folder.
pub(super) fn project(name_or_folder: &str) -> anyhow::Result<String> {
    // What no name of a project has in it.
    if !name_or_folder.contains(['/', '.']) {
        return Ok(name_or_folder.to_owned());
    }
    let folder = Path::new(name_or_folder);
    let folder = folder
        .canonicalize()
        .with_context(|| format!("cannot find the compose project's folder {name_or_folder}"))?;
    let file = folder.join(".env");
    let settings = match std::fs::read_to_string(&file) {
        Ok(settings) => settings,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", file.display()));
        }
    };
    let set = settings
        .lines()
        .find_map(|line| line.strip_prefix("COMPOSE_PROJECT_NAME="));
    let name = match set {
        Some(name) => name.trim().trim_matches(['"', '\'']).to_owned(),
        // As compose calls a project that is not named.
        None => folder
            .file_name()
            .map(|name| name.to_string_lossy().to_lowercase())
            .unwrap_or_default()
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
            .collect(),
    };
    Ok(name)
}

/// What to do where the containers of a project are out of reach.
pub(super) fn where_containers_answer(project: &str, containers: &[ScrapeTarget]) -> String {
    let addresses: Vec<String> = containers.iter().map(ToString::to_string).collect();
    format!(
        "Addresses of containers are reached from the machine that docker's daemon runs on, and not through \
         Docker Desktop's; run this in the project's network instead:\n  \
         docker run --rm --network {} meridian:{} top --once {}",
        word(&inside(project)),
        env!("CARGO_PKG_VERSION"),
        addresses.join(" ")
    )
}

/// The network that the proxies of a project are in.
fn inside(project: &str) -> String {
    format!("{project}_inside")
}

/// The proxies of a running compose project, as `render compose` writes it, at their addresses inside.
///
/// # Errors
/// If docker is not here or does not answer, or no such project runs.
pub(super) fn of_compose(project: &str) -> anyhow::Result<Vec<ScrapeTarget>> {
    let docker = programs::find("docker").context("docker is not on the PATH")?;
    let ask = |arguments: &[&str]| -> anyhow::Result<String> {
        let output = Command::new(&docker)
            .args(arguments)
            .output()
            .context("cannot run docker")?;
        ensure!(
            output.status.success(),
            "docker {}: {}",
            arguments.first().copied().unwrap_or_default(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8(output.stdout)?)
    };
    let label = format!("label=com.docker.compose.project={project}");
    let ids = ask(&["ps", "--quiet", "--filter", &label])?;
    let ids: Vec<&str> = ids.lines().collect();
    if ids.is_empty() {
        bail!(
            "no container of the compose project `{project}` runs; `docker ps` shows what does, and the name \
             of a project of ours is COMPOSE_PROJECT_NAME in its .env"
        );
    }
    let described = ask(&[&["inspect"], &ids[..]].concat())?;
    let containers: Vec<Value> = serde_json::from_str(&described).context("docker inspect")?;
    let inside = inside(project);
    let mut proxies: Vec<(&str, &str)> = containers
        .iter()
        .filter_map(|container| {
            let service = container["Config"]["Labels"]["com.docker.compose.service"].as_str()?;
            let is_proxy = matches!(service, "ingress" | "egress") || service.ends_with("-sidecar");
            let address =
                container["NetworkSettings"]["Networks"][&inside]["IPAddress"].as_str()?;
            is_proxy.then_some((service, address))
        })
        .collect();
    proxies.sort_unstable();
    ensure!(
        !proxies.is_empty(),
        "the compose project `{project}` has no proxies in a network `{inside}`: name their addresses instead"
    );
    proxies
        .iter()
        .map(|(service, address)| {
            let target = format!("{address}:{METRICS_PORT}").parse();
            target.map_err(|error| anyhow::anyhow!("the address of {service}: {error}"))
        })
        .collect()
}

/// Commands that bring a policy's gateways, and the sidecars of namespaces, to ports of this machine, and
/// the one that shows them.
///
/// # Errors
/// If the policy has no gateways that are found by labels, and no namespace is named.
pub(super) fn kubectl(policy: &PolicyFile, namespaces: &[String]) -> anyhow::Result<String> {
    let mesh = &policy.policy.mesh;
    let filtered = mesh
        .ingress_gateways
        .iter()
        .filter(|gateway| gateway.filtered);
    let mut pods: Vec<(&str, String)> = filtered
        .chain(&mesh.egress_gateways)
        .filter(|gateway| !gateway.labels.is_empty())
        .map(|gateway| {
            let namespace = gateway.namespace.as_deref();
            let labels = gateway.labels.iter();
            let selector = labels.map(|(key, value)| format!("{key}={value}"));
            (
                namespace.unwrap_or(gateway.principal.namespace()),
                Vec::from_iter(selector).join(","),
            )
        })
        .collect();
    let sidecars = namespaces.iter().map(|namespace| {
        let selector = "security.istio.io/tlsMode=istio".to_owned();
        (namespace.as_str(), selector)
    });
    pods.extend(sidecars);
    ensure!(
        !pods.is_empty(),
        "no gateway of the policy has `labels` to find its pods by: write them in mesh.gateways, or name the \
         namespaces of sidecars with --namespace"
    );
    let mut text = String::new();
    let mut addresses = Vec::new();
    for (port, (namespace, selector)) in (FIRST_PORT..).zip(&pods) {
        // One pod of each: what is forwarded is a pod, not a service.
        text.push_str(&format!(
            "kubectl -n {namespace} port-forward \"$(kubectl -n {namespace} get pod -l {selector} \
             --field-selector status.phase=Running -o name | head -n 1)\" {port}:{METRICS_PORT} &\n",
            namespace = word(namespace),
            selector = word(selector),
        ));
        addresses.push(format!("127.0.0.1:{port}"));
    }
    text.push_str(&format!("meridian top {}\n", addresses.join(" ")));
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> anyhow::Result<Vec<ScrapeTarget>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        of_file(file.path())
    }

    #[test]
    fn a_file_for_prometheus_names_targets() {
        for text in [
            "- targets: [\"10.0.0.1:15090\", \"shop.pod:15090\"]\n  labels: {a: b}\n",
            r#"[{"targets": ["10.0.0.1:15090"]}, {"targets": ["shop.pod:15090"]}]"#,
        ] {
            let names = file(text).unwrap();
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            assert_eq!(names, ["10.0.0.1:15090", "shop.pod:15090"]);
        }
        for (text, told) in [
            ("scrape_configs: []\n", "is no file of targets"),
            ("[]\n", "has no targets"),
            ("- targets: [shop]\n", "`shop`: the port is missing"),
        ] {
            let error = format!("{:#}", file(text).unwrap_err());
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn a_compose_project_has_a_name_or_a_folder() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("My.Mesh_1");
        std::fs::create_dir(&folder).unwrap();
        let shown = folder.to_str().unwrap();
        assert_eq!(project("meridian").unwrap(), "meridian");
        assert_eq!(project(shown).unwrap(), "mymesh_1");
        let settings = "# Names.\nCOMPOSE_PROJECT_NAME=\"trial\"\nPORT=1\n";
        std::fs::write(folder.join(".env"), settings).unwrap();
        assert_eq!(project(shown).unwrap(), "trial");
        let error = project("./no-such-folder").unwrap_err();
        assert!(error.to_string().contains("./no-such-folder"), "{error}");

        let containers = ["10.0.0.1:15090".parse().unwrap()];
        let told = where_containers_answer("trial", &containers);
        assert!(told.contains("--network trial_inside meridian:"), "{told}");
        assert!(told.ends_with("top --once 10.0.0.1:15090"), "{told}");
    }

    #[test]
    fn the_printed_commands_reach_a_pod_of_each_gateway() {
        let policy = PolicyFile::load(None).unwrap();
        let text = kubectl(&policy, &["shop".to_owned()]).unwrap();
        let expected = "\
kubectl -n istio-ingress port-forward \"$(kubectl -n istio-ingress get pod -l istio=ingress --field-selector \
status.phase=Running -o name | head -n 1)\" 15000:15090 &
kubectl -n shop port-forward \"$(kubectl -n shop get pod -l security.istio.io/tlsMode=istio --field-selector \
status.phase=Running -o name | head -n 1)\" 15001:15090 &
meridian top 127.0.0.1:15000 127.0.0.1:15001
";
        assert_eq!(text, expected);
        let error = kubectl(&PolicyFile::parse(b"{}").unwrap(), &[]).unwrap_err();
        assert!(error.to_string().contains("--namespace"));
    }
}
