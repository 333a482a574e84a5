//! Content that is addressed by its digest.

use oci_spec::image::{Descriptor, Digest, MediaType};
use serde::Serialize;

use crate::text::sha256::sha256;

/// Bytes, with what refers to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Their media type, digest and length.
    pub descriptor: Descriptor,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Blob {
    /// Bytes of this type.
    ///
    /// # Errors
    /// None that is known: a SHA-256 is always a digest.
    pub fn new(media_type: MediaType, bytes: Vec<u8>) -> anyhow::Result<Self> {
        let digest = Digest::try_from(format!("sha256:{}", sha256(&bytes)))?;
        Ok(Self {
            descriptor: Descriptor::new(media_type, bytes.len() as u64, digest),
            bytes,
        })
    }

    /// A document in JSON, compact and with its keys in order, so that equal ones have equal bytes.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn json(media_type: MediaType, document: &impl Serialize) -> anyhow::Result<Self> {
        let mut value = serde_json::to_value(document)?;
        // Annotations are hash maps, whose order is another in every process.
        value.sort_all_objects();
        Self::new(media_type, serde_json::to_vec(&value)?)
    }

    /// Its digest, `sha256:…`.
    pub fn digest(&self) -> &Digest {
        self.descriptor.digest()
    }
}
