//! `meridian pack`: the modules as OCI images and artefacts, in a folder or in a registry.

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
    Annotations, Contents, Crates, Destination, ModulesFile, Package, PackedModule, check_tag,
    write_layout,
};
use crate::output;
use crate::text::numbers::kilobytes;

/// Pack the modules as OCI images, for a registry or as a folder
///
/// Each module becomes an image (a layer with `plugin.wasm`) and an artefact of the Wasm Artifact Image
/// Specification, both with annotations and an SBOM in CycloneDX. Istio's agent takes either. The same
/// commit gives the same bytes in any folder.
///
/// Images are tagged REGISTRY/REPO/MODULE:TAG, MODULE being ingress, egress or sidecar; a lean module's
/// TAG-lean; the artefact of either has -artifact behind it. Credentials are those of `docker login`.
#[derive(Debug, Clone, Args)]
pub struct PackArgs {
    /// Push them to repositories below this one, as in ghcr.io/me/meridian
    #[arg(long, value_name = "REGISTRY/REPO")]
    pub push: Option<Destination>,

    /// The registry speaks HTTP without TLS
    #[arg(long, requires = "push")]
    pub plain_http: bool,

    /// Write them to this folder, an OCI image layout [default without --push: target/meridian/oci]
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,

    /// The tag [default: this version]
    #[arg(long)]
    pub tag: Option<String>,

    /// Print one JSON object, which `render istio --modules` reads
    #[arg(long)]
    pub json: bool,
}

/// Packs the modules, and prints one line for each on stdout, or with `json` one object.
///
/// # Errors
/// If the modules cannot be built, the folder cannot be written, or the registry does not take them.
pub fn run(args: &PackArgs) -> anyhow::Result<ExitCode> {
    let tag = args.tag.as_deref().unwrap_or(env!("CARGO_PKG_VERSION"));
    check_tag(&format!("{tag}-lean-artifact"))?;
    // Before anything is built.
    let registry = args
        .push
        .as_ref()
        .map(|destination| Registry::new(destination.clone(), args.plain_http));
    let registry = registry.transpose()?;

    let root = paths::workspace_root()?;
    let annotations = Annotations::of_checkout(&root);
    if annotations.revision.is_none() {
        eprintln!("no commit is named in the images: these sources are not exactly one");
    }
    let modules = modules::build()?;
    let mut packages = Vec::new();
    let mut listed = Vec::new();
    for (full, lean) in modules.built.iter().zip(&modules.lean) {
        let package = format!("meridian-{}", full.name);
        let crates = Crates::of_package(&root, &package, modules::TARGET)?;
        for module in [full, lean] {
            let package = pack(module, &crates, &annotations, tag)?;
            listed.push(list(module, &package, args.push.as_ref())?);
            packages.push(package);
        }
    }

    let folder = match (&args.output, &registry) {
        (Some(folder), _) => Some(folder.clone()),
        (None, Some(_)) => None,
        (None, None) => Some(paths::modules_dir()?.join("oci")),
    };
    if let Some(folder) = folder {
        write_layout(&folder, &packages)?;
        eprintln!("wrote {}", folder.display());
    }
    if let Some(registry) = registry {
        packages
            .iter()
            .try_for_each(|package| registry.push(package))?;
    }
    let file = ModulesFile {
        policy: None,
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

fn pack(
    module: &Module,
    crates: &Crates,
    annotations: &Annotations,
    tag: &str,
) -> anyhow::Result<Package> {
    let wasm =
        fs::read(&module.path).with_context(|| format!("cannot read {}", module.path.display()))?;
    let file = module.path.file_name().and_then(|name| name.to_str());
    let contents = Contents {
        name: module.name,
        file: file.context("a module has no name")?,
        wasm: &wasm,
        root_ids: root_ids(module.name),
        crates,
        extra: &[],
    };
    let lean = if module.is_lean { "-lean" } else { "" };
    Package::new(
        &contents,
        annotations,
        &format!("{tag}{lean}"),
        &format!("{tag}{lean}-artifact"),
    )
}

fn list(
    module: &Module,
    package: &Package,
    destination: Option<&Destination>,
) -> anyhow::Result<PackedModule> {
    let image = package.manifests.first().context("a package is empty")?;
    let reference = destination.zip(image.tag.as_ref());
    Ok(PackedModule {
        name: module.name.to_owned(),
        vantages: vantages(module.name)
            .iter()
            .map(|vantage| vantage.as_str().to_owned())
            .collect(),
        lean: module.is_lean,
        gateway: None,
        reference: reference.map(|(destination, tag)| destination.reference(module.name, tag)),
        digest: image.manifest.digest().to_string(),
        sha256: module.sha256.clone(),
        bytes: module.bytes,
    })
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
        let separator = if reference.is_empty() { "" } else { "@" };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:<8} {lean:<5}{:>9}  {reference}{separator}{}",
            module.name,
            kilobytes(module.bytes),
            module.digest
        );
        text
    })
}
