//! Where everything of a mesh is, for people and programs.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

use super::roles::{self, EGRESS, INGRESS, NGINX, OUTSIDE_HOSTS, REGISTRY};
use super::running::Mesh;
use crate::lab::paths::set_mode;
use crate::text::shell::word;

/// Where everything is; as JSON, what `meridian mesh --json` prints.
#[derive(Debug, Clone, Serialize)]
pub struct Description {
    /// True: a mesh that is described is ready.
    pub ready: bool,
    /// The run folder.
    pub run: PathBuf,
    /// The folder of `kubectl`, `istioctl`, `meridian` and `on` for this mesh, to be put on the PATH.
    pub bin: PathBuf,
    /// The kubeconfig of whoever may do everything; its server answers inside the mesh alone.
    pub kubeconfig: PathBuf,
    /// The OCI registry, by plain HTTP.
    pub registry: String,
    /// The pods, by their services' names.
    pub pods: BTreeMap<String, PodDescription>,
    /// The client outside: what `on client` runs has this address.
    pub client: Ipv4Addr,
    /// The address of the servers outside, for HTTP on 80 and TLS on 443.
    pub outside: Ipv4Addr,
    /// The hosts that the servers outside are meant to be; they answer to any.
    pub outside_hosts: Vec<String>,
}

/// A pod.
#[derive(Debug, Clone, Serialize)]
pub struct PodDescription {
    /// Its namespace.
    pub namespace: String,
    /// Its identity.
    pub principal: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its service's address.
    pub service: Ipv4Addr,
    /// What its agent and Envoy print, access logs too.
    pub log: PathBuf,
}

impl Mesh {
    /// Where everything is. Writes programs for people into the run folder.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn describe(&self) -> anyhow::Result<Description> {
        Description::of(self)
    }
}

impl Description {
    /// Describes a mesh, and writes its programs into the run folder.
    ///
    /// # Errors
    /// If they cannot be written.
    fn of(mesh: &Mesh) -> anyhow::Result<Self> {
        let run = mesh.run_folder().to_path_buf();
        let pods = mesh.pods().map(|pod| {
            let role = pod.role();
            let described = PodDescription {
                namespace: role.namespace.to_owned(),
                principal: role.principal(),
                address: role.address,
                service: role.service,
                log: pod.log().to_path_buf(),
            };
            (role.name.to_owned(), described)
        });
        Ok(Self {
            ready: true,
            bin: write_programs(mesh, &run)?,
            kubeconfig: mesh.api().kubeconfig().to_path_buf(),
            registry: REGISTRY.to_owned(),
            pods: pods.collect(),
            client: roles::CLIENT,
            outside: roles::OUTSIDE,
            outside_hosts: OUTSIDE_HOSTS.map(str::to_owned).to_vec(),
            run,
        })
    }
}

/// Writes `kubectl`, `istioctl`, `meridian` and `on`, which runs a command in a host of the mesh.
fn write_programs(mesh: &Mesh, run: &Path) -> anyhow::Result<PathBuf> {
    let folder = run.join("bin");
    let node = mesh.node();
    let shown = |path: &Path| word(&path.to_string_lossy());
    let enter = |place: &crate::lab::namespaces::Place| {
        format!(
            "exec nsenter --net={} --mount={} --wdns=\"$PWD\" -- \"$@\"",
            place.network.file().display(),
            place.mounts.file().display()
        )
    };
    let mut programs = Vec::new();
    for name in ["kubectl", "istioctl"] {
        let text = format!(
            "#!/bin/sh\nexport KUBECONFIG={}\nexec nsenter --net={} -- {} \"$@\"\n",
            shown(mesh.api().kubeconfig()),
            node.network.file().display(),
            shown(&mesh.tools.program(name)),
        );
        programs.push((name, text));
    }
    let this = std::env::current_exe().context("this program has no path")?;
    // In a test it is another program.
    if this.file_name().is_some_and(|name| name == "meridian") {
        let text = format!("#!/bin/sh\nexec {} \"$@\"\n", shown(&this));
        programs.push(("meridian", text));
    }
    let mut hosts = vec![
        ("node", node),
        ("client", mesh.client()),
        ("outside", mesh.outside()),
    ];
    hosts.extend(mesh.pods().map(|pod| (pod.role().name, pod.place())));
    let names: Vec<&str> = hosts.iter().map(|(name, _)| *name).collect();
    let cases: String = hosts
        .iter()
        .map(|(name, place)| format!("{name}) shift; {} ;;\n", enter(place)))
        .collect();
    let usage = format!("usage: on HOST COMMAND..., HOST one of {}", names.join(" "));
    let text = format!(
        "#!/bin/sh\n# Runs a command in a host of the mesh.\n[ $# -ge 2 ] || {{ echo '{usage}' >&2; exit 2; }}\n\
         case $1 in\n{cases}*) echo \"no host $1; {usage}\" >&2; exit 2 ;;\nesac\n"
    );
    programs.push(("on", text));
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for (name, text) in programs {
        let path = folder.join(name);
        fs::write(&path, text)
            .and_then(|()| set_mode(&path, 0o755))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(folder)
}

/// What to type first.
impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "ready; files and logs in {}", self.run.display())?;
        writeln!(f)?;
        for (name, pod) in &self.pods {
            writeln!(
                f,
                "  {name:<24} namespace {:<18} pod {:<11} service {}",
                pod.namespace,
                pod.address.to_string(),
                pod.service
            )?;
        }
        writeln!(f, "  {:<24} {}", "client, outside", self.client)?;
        writeln!(
            f,
            "  {:<24} {} ({} and any other host)",
            "servers, outside",
            self.outside,
            self.outside_hosts.join(", ")
        )?;
        writeln!(f, "  {:<24} {}", "registry, by plain HTTP", self.registry)?;
        writeln!(f)?;
        writeln!(f, "In another terminal, as root:")?;
        writeln!(
            f,
            "  export PATH={}:$PATH",
            word(&self.bin.to_string_lossy())
        )?;
        writeln!(f, "  kubectl get pods -A")?;
        writeln!(
            f,
            "  on client curl -i -H 'Host: shop.example.com' http://{}/   # by {}",
            INGRESS.address, INGRESS.name
        )?;
        writeln!(
            f,
            "  on client curl -i http://{}/   # the console by NGINX",
            NGINX.address
        )?;
        writeln!(
            f,
            "  on shop curl -i -H 'Host: orders.orders' http://{}/",
            roles::ORDERS.service
        )?;
        writeln!(
            f,
            "  on {} curl -s http://127.0.0.1:15090/stats/prometheus | grep meridian",
            EGRESS.name
        )
    }
}
