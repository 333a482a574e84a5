//! A registry, as the OCI distribution specification has it: what it lacks is sent to it.

mod challenge;
mod connection;
mod credentials;

use anyhow::{Context, bail, ensure};
use oci_spec::image::{Descriptor, ImageIndex, ImageIndexBuilder, MediaType, SCHEMA_VERSION};
use ureq::http::{Method, StatusCode};

use super::blob::Blob;
use super::package::{Package, Tagged};
use super::reference::Destination;
use connection::{Answer, Connection};

/// Where packages are pushed to.
#[derive(Debug)]
pub struct Registry {
    destination: Destination,
    connection: Connection,
}

impl Registry {
    /// A registry, over plain HTTP if `plain_http`; the credentials for it are those of `docker
    /// login`.
    ///
    /// # Errors
    /// If Docker's configuration cannot be read. Nothing is asked of the registry.
    pub fn new(destination: Destination, plain_http: bool) -> anyhow::Result<Self> {
        Ok(Self {
            connection: Connection::new(&destination.registry, plain_http)?,
            destination,
        })
    }

    /// Pushes a package: what its manifests name, then the manifests.
    ///
    /// Blocks; progress is on stderr.
    ///
    /// # Errors
    /// If the registry cannot be reached, wants other credentials, or does not take something.
    pub fn push(&self, package: &Package) -> anyhow::Result<()> {
        let repository = self.destination.repository_of(&package.name);
        for tagged in &package.manifests {
            for blob in &tagged.blobs {
                self.push_blob(&repository, blob).with_context(|| {
                    format!("cannot push {repository} to {}", self.destination.registry)
                })?;
            }
            self.push_manifest(&repository, tagged).with_context(|| {
                format!("cannot push {repository} to {}", self.destination.registry)
            })?;
            if let Some(tag) = &tagged.tag {
                eprintln!("pushed {}", self.destination.reference(&package.name, tag));
            }
        }
        Ok(())
    }

    fn push_blob(&self, repository: &str, blob: &Blob) -> anyhow::Result<()> {
        let digest = blob.digest();
        let path = format!("{repository}/blobs/{digest}");
        let known = self.connection.get(Method::HEAD, repository, &path, &[])?;
        match known.status {
            StatusCode::OK => return Ok(()),
            StatusCode::NOT_FOUND => {}
            _ => return Err(known.refusal("does not say whether it has a blob")),
        }
        let path = format!("{repository}/blobs/uploads/");
        let address = self.connection.address(&path)?;
        let begun = self
            .connection
            .send(Method::POST, repository, &address, None)?;
        if begun.status != StatusCode::ACCEPTED {
            return Err(begun.refusal("does not begin an upload"));
        }
        let location = begun
            .header("location")
            .context("it says of no upload where it goes")?;
        let mut address = address
            .join(location)
            .with_context(|| format!("it sends an upload to {location:?}"))?;
        address
            .query_pairs_mut()
            .append_pair("digest", digest.as_ref());
        let content = Some(("application/octet-stream", blob.bytes.as_slice()));
        let sent = self
            .connection
            .send(Method::PUT, repository, &address, content)?;
        if sent.status != StatusCode::CREATED {
            return Err(sent.refusal("does not take a blob"));
        }
        Ok(())
    }

    fn push_manifest(&self, repository: &str, tagged: &Tagged) -> anyhow::Result<()> {
        let manifest = &tagged.manifest;
        let reference = match &tagged.tag {
            Some(tag) => tag.as_str(),
            None => manifest.digest().as_ref(),
        };
        let answer = self.put(repository, reference, manifest)?;
        let document: oci_spec::image::ImageManifest = serde_json::from_slice(&manifest.bytes)?;
        match document.subject() {
            // A registry that lists what refers to a manifest says so; for others a tag does it.
            Some(subject) if answer.header("oci-subject").is_none() => {
                self.list_referrer(repository, subject, manifest, &document)
            }
            _ => Ok(()),
        }
    }

    fn put(&self, repository: &str, reference: &str, manifest: &Blob) -> anyhow::Result<Answer> {
        let address = self
            .connection
            .address(&format!("{repository}/manifests/{reference}"))?;
        let kind = manifest.descriptor.media_type().to_string();
        let content = Some((kind.as_str(), manifest.bytes.as_slice()));
        let answer = self
            .connection
            .send(Method::PUT, repository, &address, content)?;
        if answer.status != StatusCode::CREATED {
            return Err(answer.refusal("does not take a manifest"));
        }
        if let Some(stored) = answer.header("docker-content-digest") {
            ensure!(
                stored == manifest.digest().as_ref(),
                "it stored another manifest than it was sent: {stored} and not {}",
                manifest.digest()
            );
        }
        Ok(answer)
    }

    /// Adds a manifest to the index under the tag `sha256-…` of what it refers to, which is what
    /// clients look for where the registry has no list.
    fn list_referrer(
        &self,
        repository: &str,
        subject: &Descriptor,
        manifest: &Blob,
        document: &oci_spec::image::ImageManifest,
    ) -> anyhow::Result<()> {
        let tag = subject.digest().as_ref().replace(':', "-");
        let path = format!("{repository}/manifests/{tag}");
        let accept = [("accept", MediaType::ImageIndex.as_ref())];
        let listed = self
            .connection
            .get(Method::GET, repository, &path, &accept)?;
        let mut manifests = match listed.status {
            StatusCode::OK => {
                let index: ImageIndex = serde_json::from_slice(&listed.body)
                    .with_context(|| format!("its tag {tag} is no index"))?;
                index.manifests().clone()
            }
            StatusCode::NOT_FOUND => Vec::new(),
            _ => return Err(listed.refusal("does not say what refers to a manifest")),
        };
        let mut referrer = manifest.descriptor.clone();
        referrer.set_artifact_type(document.artifact_type().clone());
        referrer.set_annotations(document.annotations().clone());
        manifests.retain(|listed| listed.digest() != referrer.digest());
        manifests.push(referrer);
        let index = ImageIndexBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageIndex)
            .manifests(manifests)
            .build()?;
        let index = Blob::json(MediaType::ImageIndex, &index)?;
        if index.bytes.len() > 4 << 20 {
            bail!("its list under the tag {tag} has grown over the 4 MiB that registries take");
        }
        self.put(repository, &tag, &index).map(drop)
    }
}
