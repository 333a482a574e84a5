//! Hosts: the canonical form of an authority, the patterns that rules name, and the map in which a
//! host finds its patterns.

pub(crate) mod address_text;
mod authority;
mod ipv4;
mod map;
pub(crate) mod pattern;

pub use authority::{Authority, Host, InvalidHost, Name};
pub(crate) use authority::{is_canonical_name, parse_port};
pub use map::{HostMap, InsertError};
pub use pattern::{HostPattern, Pattern, PatternError};
