//! The hash of names, which can be undone byte by byte.

/// FNV-1a from the last byte to the first, so that a suffix's hash is a stop on the way.
pub(super) const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;

pub(super) const HASH_FACTOR: u64 = 0x0000_0100_0000_01b3;
/// What undoes a multiplication by [`HASH_FACTOR`].
pub(super) const HASH_DIVISOR: u64 = 0xce96_5057_aff6_957b;

const _: () = assert!(HASH_FACTOR.wrapping_mul(HASH_DIVISOR) == 1);

pub(super) const fn hash_byte(hash: u64, byte: u8) -> u64 {
    (hash ^ byte as u64).wrapping_mul(HASH_FACTOR)
}

/// The hash before this byte was added.
pub(super) const fn unhash_byte(hash: u64, byte: u8) -> u64 {
    hash.wrapping_mul(HASH_DIVISOR) ^ byte as u64
}

/// The hash of a name, and how many dots it has.
pub(super) fn hash_name(name: &[u8]) -> (u64, u32) {
    let (mut hash, mut dots) = (HASH_START, 0);
    for byte in name.iter().rev() {
        hash = hash_byte(hash, *byte);
        dots += u32::from(*byte == b'.');
    }
    (hash, dots)
}

/// Mixes a hash of FNV-1a, with something that is not in the name: the table takes a home from the top
/// bits, where FNV-1a mixes least for short names.
pub(super) const fn finish(hash: u64, salt: u64) -> u64 {
    let hash = (hash ^ (hash >> 32) ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ (hash >> 29)
}
