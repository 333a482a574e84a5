//! `meridian pack`: the modules as OCI images and artefacts, in a folder or in a registry.

mod gateways;

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use meridian_policy::Vantage;

use crate::lab::modules::{self, Module};
use crate::lab::paths;
use crate::oci::registry::Registry;
use crate::oci::{
    Annotations, Contents, Crates, Destination, ModulesFile, Origin, Package, PackedModule,
    check_tag, write_layout,
};
use crate::output;
use crate::policy::{PolicyFile, revision_text};
use crate::text::numbers::kilobytes;
use crate::text::sha256::sha256;
use crate::text::visible::visible;

/// The annotation with the revision of the policy inside.
const POLICY_REVISION: &str = "meridian.policy.revision";
/// The annotation with the gateway whose rules are inside.
const GATEWAY: &str = "meridian.gateway";

/// Pack the modules as OCI images, for a registry or as a folder
///
/// Each module becomes an image (a layer with `plugin.wasm`) and an artefact of the Wasm Artifact Image
/// Specification, both with annotations and an SBOM in CycloneDX. Istio's agent takes either. The same
/// commit gives the same bytes in any folder.
///
/// Images are tagged REGISTRY/REPO/MODULE:TAG, MODULE being ingress, egress or sidecar; a lean module's
/// TAG-lean; the artefact of either has -artifact behind it. Credentials are those of `docker login`.
///
/// A policy that no object of Kubernetes can hold goes into the modules with --policy: proxies load it
/// without reading it, a million hosts too, and their plugins need no configuration. Then there is a
/// module for each gateway with a name, whose TAG ends in _NAME, and none that is lean beside a full one.
#[derive(Debug, Clone, Args)]
pub struct PackArgs {
    /// Put this policy into the modules
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,

    /// Push them to repositories below this one, as in ghcr.io/me/meridian
    #[arg(long, value_name = "REGISTRY/REPO")]
    pub push: Option<Destination>,

    /// The registry speaks HTTP without TLS
    #[arg(long, requires = "push")]
    pub plain_http: bool,

    /// Write them to this folder, an OCI image layout [default without --push: target/meridian/oci]
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,

    /// The tag [default: this version, and with --policy its revision]
    #[arg(long)]
    pub tag: Option<String>,

    /// Print one JSON object, which `render istio --modules` reads
    #[arg(long)]
    pub json: bool,
}

/// Packs the modules, and prints one line for each on stdout, or with `json` one object.
///
/// # Errors
/// If the policy has errors, the modules cannot be built, the folder cannot be written, or the registry
/// does not take them.
pub fn run(args: &PackArgs) -> anyhow::Result<ExitCode> {
    // All of this before anything is built.
    let policy = args.policy.as_deref();
    let policy = policy
        .map(|path| PolicyFile::load(Some(path)))
        .transpose()?;
    let revision = policy.as_ref().map(|file| revision_text(file.revision()));
    let version = env!("CARGO_PKG_VERSION");
    let tag = match (&args.tag, &revision) {
        (Some(tag), _) => tag.clone(),
        (None, Some(revision)) => format!("{version}-{revision}"),
        (None, None) => version.to_owned(),
    };
    check_tag(&tag)?;
    let registry = args
        .push
        .as_ref()
        .map(|destination| Registry::new(destination.clone(), args.plain_http));
    let registry = registry.transpose()?;

    let origin = Origin::find(modules::TARGET)?;
    let packing = Packing {
        annotations: origin.annotations.clone(),
        destination: args.push.as_ref(),
        revision,
        tag,
    };
    if packing.annotations.revision.is_none() {
        eprintln!("no commit is named in the images: these sources are not exactly one");
    }
    let modules = modules::build()?;
    let mut packed = Vec::new();
    for (full, lean) in modules.built.iter().zip(&modules.lean) {
        let crates = origin.crates(full.name)?;
        let Some(policy) = &policy else {
            for module in [full, lean] {
                let wasm = fs::read(&module.path)
                    .with_context(|| format!("cannot read {}", module.path.display()))?;
                packed.push(packing.pack(module, &crates, &wasm, None)?);
            }
            continue;
        };
        // Which of the two a policy needs is known.
        let module = if policy.policy.metrics.any() {
            full
        } else {
            lean
        };
        let vantages = vantages(module.name);
        for gateway in gateways::of(&policy.policy, vantages) {
            let image = policy.image(vantages, gateway.as_deref())?;
            let wasm = modules::with_policy(module, &image)?;
            packed.push(packing.pack(module, &crates, &wasm, gateway)?);
        }
    }
    let (packages, listed): (Vec<Package>, Vec<PackedModule>) = packed.into_iter().unzip();

    let folder = match (&args.output, &registry) {
        (Some(folder), _) => Some(folder.clone()),
        (None, Some(_)) => None,
        (None, None) => Some(paths::modules_dir()?.join("oci")),
    };
    if let Some(folder) = folder {
        write_layout(&folder, &packages)?;
        eprintln!("wrote {}", visible(&folder.display().to_string()));
    }
    if let Some(registry) = registry {
        packages
            .iter()
            .try_for_each(|package| registry.push(package))?;
    }
    let file = ModulesFile {
        policy: packing.revision,
        modules: listed,
    };
    let text = if args.json {
        serde_json::to_string_pretty(&file)? + "\n"
    } else {
        as_text(&file)
    };
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// What all images have in common.
struct Packing<'a> {
    annotations: Annotations,
    destination: Option<&'a Destination>,
    /// Of the policy inside.
    revision: Option<String>,
    tag: String,
}

impl Packing<'_> {
    fn pack(
        &self,
        module: &Module,
        crates: &Crates,
        wasm: &[u8],
        gateway: Option<String>,
    ) -> anyhow::Result<(Package, PackedModule)> {
        let file = module.path.file_name().and_then(|name| name.to_str());
        let mut extra = Vec::new();
        extra.extend(self.revision.as_deref().map(|it| (POLICY_REVISION, it)));
        extra.extend(gateway.as_deref().map(|it| (GATEWAY, it)));
        let contents = Contents {
            name: module.name,
            file: file.context("a module has no name")?,
            wasm,
            root_ids: root_ids(module.name),
            crates,
            extra: &extra,
        };
        let tag = |artefact: &str| {
            let lean = if module.is_lean { "-lean" } else { "" };
            let tag = format!("{}{lean}{artefact}", self.tag);
            // Last, and behind what no gateway's name has: `lean` may be one.
            let tag = match &gateway {
                Some(gateway) => format!("{tag}_{gateway}"),
                None => tag,
            };
            check_tag(&tag).map(|()| tag)
        };
        let package = Package::new(&contents, &self.annotations, &tag("")?, &tag("-artifact")?)?;
        let image = package.manifests.first().context("a package is empty")?;
        let reference = self.destination.zip(image.tag.as_ref());
        let reference = reference.map(|(destination, tag)| destination.reference(module.name, tag));
        let listed = PackedModule {
            name: module.name.to_owned(),
            vantages: vantages(module.name)
                .iter()
                .map(|vantage| vantage.as_str().to_owned())
                .collect(),
            lean: module.is_lean,
            gateway,
            reference,
            digest: image.manifest.digest().to_string(),
            sha256: sha256(wasm),
            bytes: wasm.len() as u64,
        };
        Ok((package, listed))
    }
}

fn vantages(module: &str) -> &'static [Vantage] {
    match module {
        "ingress" => &[Vantage::Ingress],
        "egress" => &[Vantage::Egress],
        _ => &[Vantage::Inbound, Vantage::Outbound],
    }
}

fn root_ids(module: &str) -> &'static [&'static str] {
    match module {
        "ingress" => &["ingress", "ingress.tcp"],
        "egress" => &["egress", "egress.tcp"],
        _ => &["inbound", "outbound"],
    }
}

fn as_text(file: &ModulesFile) -> String {
    file.modules.iter().fold(String::new(), |mut text, module| {
        let lean = if module.lean { "lean" } else { "" };
        let reference = module.reference.as_deref().unwrap_or_default();
        let gateway = module.gateway.as_ref();
        let gateway = gateway.map_or_else(String::new, |name| format!("{name}  "));
        let separator = if reference.is_empty() { "" } else { "@" };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:<8} {lean:<5}{:>10}  {gateway}{reference}{separator}{}",
            module.name,
            kilobytes(module.bytes),
            module.digest
        );
        text
    })
}
