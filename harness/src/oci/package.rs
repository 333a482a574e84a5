//! One module in the two forms that Istio's agent takes, each with the list of what is in it.
//!
//! The image is what `docker`, `skopeo` and the like copy, and what a reference without more means; the
//! artefact is the form of the "Wasm Artifact Image Specification", for what knows that one alone.

use std::io::Write;

use anyhow::Context;
use flate2::{Compression, GzBuilder};
use oci_spec::image::{
    ANNOTATION_TITLE, Arch, Config, Descriptor, ImageConfigurationBuilder, ImageManifestBuilder,
    MediaType, Os, RootFsBuilder, SCHEMA_VERSION,
};
use serde_json::json;

use super::annotations::Annotations;
use super::blob::Blob;
use super::sbom::{self, Crates};
use crate::text::sha256::sha256;

/// The only name that the agent looks for in an image.
const FILE_IN_IMAGE: &str = "plugin.wasm";
const RUNTIME_CONFIG: &str = "application/vnd.module.wasm.config.v1+json";
const MODULE: &str = "application/vnd.module.wasm.content.layer.v1+wasm";
/// The oldest ABI that the module can run with, as it exports it.
const ABI: &str = "0.2.1";

/// What is packed.
#[derive(Debug, Clone, Copy)]
pub struct Contents<'a> {
    /// The module's name, which is its repository too: `ingress`, `egress` or `sidecar`.
    pub name: &'a str,
    /// The name of its file.
    pub file: &'a str,
    /// The module.
    pub wasm: &'a [u8],
    /// The root ids that it serves.
    pub root_ids: &'a [&'a str],
    /// The crates that it was made of.
    pub crates: &'a Crates,
    /// Annotations of this module alone, beside those of every one.
    pub extra: &'a [(&'a str, &'a str)],
}

/// A manifest, with everything that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged {
    /// The tag, or none for what is found by its subject.
    pub tag: Option<String>,
    /// The manifest.
    pub manifest: Blob,
    /// What it names, in the order in which it does.
    pub blobs: Vec<Blob>,
}

/// A packed module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// The last part of its repository.
    pub name: String,
    /// The image first.
    pub manifests: Vec<Tagged>,
}

impl Package {
    /// Packs a module under two tags.
    ///
    /// # Errors
    /// None that is known: everything is in memory.
    pub fn new(
        contents: &Contents<'_>,
        annotations: &Annotations,
        image_tag: &str,
        artefact_tag: &str,
    ) -> anyhow::Result<Self> {
        let sbom = Blob::json(
            MediaType::from(sbom::MEDIA_TYPE),
            &contents.crates.sbom(contents.file, contents.wasm),
        )?;
        let image = image(contents, annotations, image_tag)?;
        let artefact = artefact(contents, annotations, artefact_tag)?;
        let sbom_of = |subject: &Tagged| attached(&sbom, subject, contents, annotations);
        let sboms = [sbom_of(&image)?, sbom_of(&artefact)?];
        Ok(Self {
            name: contents.name.to_owned(),
            manifests: [image, artefact].into_iter().chain(sboms).collect(),
        })
    }
}

fn image(contents: &Contents<'_>, annotations: &Annotations, tag: &str) -> anyhow::Result<Tagged> {
    let archive = archive(contents.wasm).context("the archive could not be written")?;
    let diff_id = format!("sha256:{}", sha256(&archive));
    let layer = Blob::new(MediaType::ImageLayerGzip, compressed(&archive)?)?;
    let mut configuration = ImageConfigurationBuilder::default()
        .architecture(Arch::Wasm)
        .os(Os::Other("wasi".to_owned()))
        .config(Config::default())
        .rootfs(
            RootFsBuilder::default()
                .typ("layers")
                .diff_ids(vec![diff_id])
                .build()?,
        );
    if let Some(created) = &annotations.created {
        configuration = configuration.created(created);
    }
    let configuration = Blob::json(MediaType::ImageConfig, &configuration.build()?)?;
    tagged(
        Some(tag),
        vec![configuration, layer],
        // What the specification's variant for images asks for.
        &[contents.extra, &[("module.wasm.image/variant", "compat")]].concat(),
        contents,
        annotations,
        None,
    )
}

fn artefact(
    contents: &Contents<'_>,
    annotations: &Annotations,
    tag: &str,
) -> anyhow::Result<Tagged> {
    let runtime = json!({
        "type": "envoy_proxy",
        "abiVersions": [ABI],
        "config": {"root_ids": contents.root_ids},
    });
    let mut runtime = Blob::json(MediaType::from(RUNTIME_CONFIG), &runtime)?;
    // Registries tell artefacts apart by the type of their configuration.
    let configuration = runtime.clone();
    title(&mut runtime.descriptor, "runtime-config.json");
    let mut module = Blob::new(MediaType::from(MODULE), contents.wasm.to_vec())?;
    title(&mut module.descriptor, contents.file);
    tagged(
        Some(tag),
        vec![configuration, runtime, module],
        contents.extra,
        contents,
        annotations,
        None,
    )
}

/// A manifest that says of `subject` what the blob holds.
fn attached(
    blob: &Blob,
    subject: &Tagged,
    contents: &Contents<'_>,
    annotations: &Annotations,
) -> anyhow::Result<Tagged> {
    let mut blob = blob.clone();
    title(&mut blob.descriptor, &format!("{}.cdx.json", contents.file));
    let empty = Blob::json(MediaType::EmptyJSON, &json!({}))?;
    let subject = &subject.manifest.descriptor;
    tagged(
        None,
        vec![empty, blob],
        &[],
        contents,
        annotations,
        Some(subject),
    )
}

/// The manifest of a configuration and of the layers behind it.
fn tagged(
    tag: Option<&str>,
    blobs: Vec<Blob>,
    extra: &[(&str, &str)],
    contents: &Contents<'_>,
    annotations: &Annotations,
    subject: Option<&Descriptor>,
) -> anyhow::Result<Tagged> {
    let mut descriptors = blobs.iter().map(|blob| blob.descriptor.clone());
    let configuration = descriptors.next().context("a manifest has no blobs")?;
    let layers: Vec<_> = descriptors.collect();
    let mut annotations = annotations.titled(contents.file);
    annotations.extend(
        extra
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
    );
    let mut manifest = ImageManifestBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageManifest)
        .config(configuration)
        .annotations(annotations);
    if let Some(subject) = subject {
        let kind = layers.first().context("a manifest has no layer")?;
        manifest = manifest
            .artifact_type(kind.media_type().clone())
            .subject(subject.clone());
    }
    let manifest = manifest.layers(layers).build()?;
    Ok(Tagged {
        tag: tag.map(str::to_owned),
        manifest: Blob::json(MediaType::ImageManifest, &manifest)?,
        blobs,
    })
}

fn title(descriptor: &mut Descriptor, name: &str) {
    let title = (ANNOTATION_TITLE.to_owned(), name.to_owned());
    descriptor.set_annotations(Some([title].into()));
}

/// A tar archive of the module alone, as if it was written in 1970 by nobody.
fn archive(wasm: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_size(wasm.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, FILE_IN_IMAGE, wasm)?;
    archive.into_inner()
}

/// Compressed without a time, a name or an operating system.
fn compressed(archive: &[u8]) -> anyhow::Result<Vec<u8>> {
    const UNKNOWN: u8 = 255;
    let mut writer = GzBuilder::new()
        .mtime(0)
        .operating_system(UNKNOWN)
        .write(Vec::new(), Compression::best());
    writer.write_all(archive)?;
    Ok(writer.finish()?)
}
