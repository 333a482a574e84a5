//! A folder with everything that was packed, as the OCI image layout specification has it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use oci_spec::image::{
    ANNOTATION_REF_NAME, ANNOTATION_TITLE, ImageIndex, ImageIndexBuilder, MediaType,
    OciLayoutBuilder, SCHEMA_VERSION,
};

use super::blob::Blob;
use super::package::{Package, Tagged};
use crate::lab::paths::write_atomically;

const INDEX: &str = "index.json";
/// How a folder says that it is one of ours.
const TITLE: &str = "Meridian's modules";

/// Writes a layout folder; each tag is a name in it, `MODULE-TAG`. A layout that was written before
/// is replaced.
///
/// # Errors
/// If the folder holds anything else, or cannot be written.
pub fn write_layout(folder: &Path, packages: &[Package]) -> anyhow::Result<()> {
    check_folder(folder)?;
    let mut index = Vec::new();
    let mut kept = BTreeSet::new();
    let blobs = folder.join("blobs/sha256");
    for package in packages {
        for tagged in &package.manifests {
            for blob in tagged.blobs.iter().chain([&tagged.manifest]) {
                let name = blob.digest().digest();
                if kept.insert(name.to_owned()) {
                    write_atomically(&blobs.join(name), &blob.bytes)?;
                }
            }
            index.push(entry(&package.name, tagged)?);
        }
    }
    let layout = OciLayoutBuilder::default()
        .image_layout_version("1.0.0")
        .build()?;
    let layout = Blob::json(MediaType::LayoutHeader, &layout)?;
    write_atomically(&folder.join("oci-layout"), &layout.bytes)?;
    let index = ImageIndexBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageIndex)
        .manifests(index)
        .annotations([(ANNOTATION_TITLE.to_owned(), TITLE.to_owned())])
        .build()?;
    let index = Blob::json(MediaType::ImageIndex, &index)?;
    write_atomically(&folder.join(INDEX), &index.bytes)?;
    // Only now nothing names them any more.
    remove_others(&blobs, &kept)
}

/// How the index names a manifest.
fn entry(package: &str, tagged: &Tagged) -> anyhow::Result<oci_spec::image::Descriptor> {
    let mut descriptor = tagged.manifest.descriptor.clone();
    match &tagged.tag {
        Some(tag) => {
            let name = (ANNOTATION_REF_NAME.to_owned(), format!("{package}-{tag}"));
            descriptor.set_annotations(Some([name].into()));
        }
        None => {
            let layer = tagged.blobs.last().context("a manifest has no blobs")?;
            descriptor.set_artifact_type(Some(layer.descriptor.media_type().clone()));
        }
    }
    Ok(descriptor)
}

fn check_folder(folder: &Path) -> anyhow::Result<()> {
    let is_empty = match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => {
            return Err(error).with_context(|| format!("cannot write to {}", folder.display()));
        }
    };
    let is_ours = || {
        let index = ImageIndex::from_file(folder.join(INDEX)).ok()?;
        let annotations = index.annotations().as_ref()?;
        Some(annotations.get(ANNOTATION_TITLE)? == TITLE)
    };
    if !is_empty && is_ours() != Some(true) {
        bail!(
            "{} holds other files: name a new or an empty folder, or one that `meridian pack` has \
             written",
            folder.display()
        );
    }
    Ok(())
}

fn remove_others(blobs: &Path, kept: &BTreeSet<String>) -> anyhow::Result<()> {
    let remove = || -> std::io::Result<()> {
        for entry in fs::read_dir(blobs)? {
            let entry = entry?;
            let is_kept = entry
                .file_name()
                .to_str()
                .is_some_and(|name| kept.contains(name));
            if !is_kept {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    };
    remove().with_context(|| format!("cannot tidy {}", blobs.display()))
}
