//! The programs of the mesh: Istio's, Kubernetes' and etcd, built with Go from the versions that the
//! modules in `tests/istio/tools` pin. They come from the module proxy, verified by `go.sum`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use sha2::{Digest, Sha256};

use crate::lab::paths;
use crate::lab::programs::find;

/// The folder of the Go modules in the workspace.
const FOLDER: &str = "tests/istio/tools";

/// A Go module of the workspace and the programs that it pins, each with its package.
struct Module {
    folder: &'static str,
    programs: &'static [(&'static str, &'static str)],
}

/// Two modules, because what Kubernetes' packages are replaced by must not reach Istio's.
const MODULES: [Module; 2] = [
    Module {
        folder: "istio",
        programs: &[
            (
                "pilot-discovery",
                "istio.io/istio/pilot/cmd/pilot-discovery",
            ),
            ("pilot-agent", "istio.io/istio/pilot/cmd/pilot-agent"),
            ("istioctl", "istio.io/istio/istioctl/cmd/istioctl"),
        ],
    },
    Module {
        folder: "kubernetes",
        programs: &[
            ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
            ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
            ("etcd", "go.etcd.io/etcd/server/v3"),
        ],
    },
];

/// Programs that Debian has, each with its package.
const INSTALLED: [(&str, &str); 6] = [
    ("docker-registry", "docker-registry"),
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("nginx", "nginx-light"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
];

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Tools {
    /// The folder of the programs that were built.
    pub programs: PathBuf,
    /// The folder of Istio's module in Go's cache, whose charts and templates are read there.
    pub istio: PathBuf,
}

/// What this machine lacks to run the mesh; nothing else is wrong.
#[derive(Debug)]
pub struct Missing(Vec<String>);

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a mesh needs {}", self.0.join(", "))
    }
}

impl std::error::Error for Missing {}

impl Tools {
    /// Finds the programs, and builds those that are not there: some 10 minutes on two cores, once
    /// for each change of the pinned versions.
    ///
    /// # Errors
    /// [`Missing`] where a program of this machine is missing; another error if the build fails.
    pub fn prepare() -> anyhow::Result<Self> {
        if let Some(missing) = missing() {
            return Err(missing.into());
        }
        let folder = paths::workspace_root()?.join(FOLDER);
        let programs = build(&folder)?;
        let istio = go(
            &folder.join("istio"),
            &["list", "-m", "-f", "{{.Dir}}", "istio.io/istio"],
        )?;
        let istio = PathBuf::from(istio.trim());
        ensure!(
            istio.join("manifests/charts").is_dir(),
            "Go's module cache has no istio.io/istio at {}: run `go mod download` in {}",
            istio.display(),
            folder.join("istio").display()
        );
        Ok(Self { programs, istio })
    }

    /// The path of a program that was built.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }
}

/// What this machine lacks, `None` if nothing.
pub fn missing() -> Option<Missing> {
    let mut lacking: Vec<String> = INSTALLED
        .iter()
        .filter(|(program, _)| find(program).is_none())
        .map(|(program, package)| format!("`{program}` (Debian's package {package})"))
        .collect();
    if find("go").is_none() {
        lacking.push("`go`, version 1.26 or later (https://go.dev/dl)".to_owned());
    }
    if !nix::unistd::geteuid().is_root() {
        lacking.push("root, for its network namespaces".to_owned());
    }
    (!lacking.is_empty()).then_some(Missing(lacking))
}

/// Builds the programs that are not there, into a folder whose name changes with the `go.sum` files.
fn build(folder: &Path) -> anyhow::Result<PathBuf> {
    let mut sums = Sha256::new();
    for module in &MODULES {
        let path = folder.join(module.folder).join("go.sum");
        sums.update(fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    let key: String = sums
        .finalize()
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let cache = paths::target_dir()?.join("istio");
    let built = cache.join(key);
    let wanted = || {
        let all = MODULES.iter().flat_map(|module| {
            let programs = module.programs.iter();
            programs.map(|(name, package)| (module.folder, *name, *package))
        });
        all.filter(|(_, name, _)| !built.join(name).is_file())
    };
    if wanted().next().is_none() {
        return Ok(built);
    }
    let _lock = paths::lock(&cache.join(".lock"), || {
        eprintln!("the mesh's programs: another process is building them, waiting");
    })?;
    fs::create_dir_all(&built).with_context(|| format!("cannot create {}", built.display()))?;
    for (module, name, package) in wanted() {
        eprintln!("building {name} with Go; the first time all of them take some 10 minutes");
        let partial = built.join(format!(".{name}"));
        let output = partial.to_str().context("the path is not UTF-8")?;
        let flags = ["-trimpath", "-buildvcs=false", "-ldflags=-s -w"];
        let arguments = [&["build"], &flags[..], &["-o", output, package]].concat();
        go(&folder.join(module), &arguments)?;
        let program = built.join(name);
        fs::rename(&partial, &program)
            .with_context(|| format!("cannot write {}", program.display()))?;
    }
    Ok(built)
}

/// Runs Go in a module's folder and returns what it prints. Its progress goes to stderr.
fn go(folder: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let program = find("go").context("`go` is not on the PATH")?;
    let what = || format!("go {} in {}", arguments.join(" "), folder.display());
    let output = Command::new(program)
        .current_dir(folder)
        // A workspace of the user's would decide on versions, too.
        .env("GOWORK", "off")
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(what)?;
    if !output.status.success() {
        bail!(
            "{}: {}",
            what(),
            crate::lab::child::describe_exit(output.status)
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}
