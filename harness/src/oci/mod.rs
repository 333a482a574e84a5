//! The modules as OCI images and artefacts: their documents, a layout folder that holds them, and a
//! registry that takes them. Knows nothing of how a module is built.
//!
//! The same module, annotations and crates give the same bytes: nothing holds the time or the place
//! of packing.

mod annotations;
mod blob;
mod layout;
mod modules_file;
mod origin;
mod package;
mod reference;
pub mod registry;
mod sbom;

pub use annotations::Annotations;
pub use blob::Blob;
pub use layout::write_layout;
pub use modules_file::{ModulesFile, PackedModule};
pub use origin::Origin;
pub use package::{Contents, Package, Tagged};
pub use reference::{Destination, check_tag};
pub use sbom::Crates;
