//! What a pattern's key is, and its hash.

use super::hash::{finish, hash_name};

/// What a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name.
    Exact,
    /// A name, for those below it.
    Suffix,
    /// A network, as of [`network_key`].
    Network,
}

impl Kind {
    /// The hash of a key of this kind whose bytes have this hash.
    pub(super) const fn finish(self, hash: u64) -> u64 {
        finish(hash, self as u64)
    }

    pub(super) fn hash(self, key: &[u8]) -> u64 {
        self.finish(hash_name(key).0)
    }
}
