//! A pattern in a table, in eight bytes.

use super::kind::Kind;

/// The bytes of a [`Slot`], wherever it stands: the same on every machine.
pub(super) type Bytes = [u8; 8];

/// A pattern with one value, or for a [`super::keys::Chain`] which of [`super::keys::Keys::chains`] it is.
///
/// ```text
/// bits  0..28   where its key starts, or which chain it is
///      28..32   a part of the key's hash
///      32..40   how long the key is
///      40..42   what the key is
///      42..48   how far it stands from its home, counted from 1: 0 is no slot
///      48..64   the number of its only value, see [`super::values::Values::get`]
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(u64);

const AT: u64 = (1 << 28) - 1;
const TAG: u32 = 28;
const LENGTH: u32 = 32;
const KIND: u32 = 40;
const FAR: u32 = 42;
const GRANT: u32 = 48;
/// What is the same in a slot and in what is looked for.
const SOUGHT: u64 = (1 << GRANT) - (1 << TAG);
/// The number of a chain's value, which is none.
const CHAINED: u16 = u16::MAX;

/// The furthest that a slot can stand from its home.
pub(super) const FURTHEST: usize = (1 << (GRANT - FAR)) - 2;

impl Slot {
    /// A slot that stands nowhere yet; `None` for what has no room in it.
    pub(super) fn new(kind: Kind, at: usize, length: usize, grant: Option<u16>) -> Option<Self> {
        let length = u8::try_from(length).ok()?;
        let slot = u64::from(grant.unwrap_or(CHAINED)) << GRANT
            | (kind as u64) << KIND
            | u64::from(length) << LENGTH
            | at as u64;
        (at as u64 <= AT).then_some(Self(slot))
    }

    /// The same pattern as a chain; `None` for one chain too many.
    pub(super) fn chained(self, chain: usize) -> Option<Self> {
        let rest = self.0 & !AT & ((1 << GRANT) - 1);
        let slot = u64::from(CHAINED) << GRANT | rest | chain as u64;
        (chain as u64 <= AT).then_some(Self(slot))
    }

    /// The same pattern, with its key elsewhere; `None` for too far.
    pub(super) fn with_key_at(self, at: usize) -> Option<Self> {
        (at as u64 <= AT).then_some(Self(self.0 & !AT | at as u64))
    }

    pub(super) const fn from_bytes(bytes: Bytes) -> Self {
        Self(u64::from_le_bytes(bytes))
    }

    pub(super) const fn bytes(self) -> Bytes {
        self.0.to_le_bytes()
    }

    /// Where its key starts, or which chain it is.
    pub(super) const fn at(self) -> usize {
        (self.0 & AT) as usize
    }

    /// How long its key is.
    pub(super) const fn length(self) -> usize {
        (self.0 >> LENGTH) as u8 as usize
    }

    /// What its key is.
    pub(super) const fn kind(self) -> Kind {
        match self.0 >> KIND & 3 {
            0 => Kind::Exact,
            1 => Kind::Suffix,
            _ => Kind::Network,
        }
    }

    /// The number of its only value; `None` for a chain.
    pub(super) const fn grant(self) -> Option<u16> {
        match (self.0 >> GRANT) as u16 {
            CHAINED => None,
            grant => Some(grant),
        }
    }

    /// True if something stands there.
    pub(super) const fn is_some(self) -> bool {
        self.0 >> FAR << (64 - GRANT + FAR) != 0
    }

    /// True if it is nearer to its home than the other to its own.
    pub(super) const fn is_nearer(self, other: Self) -> bool {
        (self.0 & ((1 << GRANT) - (1 << FAR))) < (other.0 & ((1 << GRANT) - (1 << FAR)))
    }

    /// The slot at its home, of a key with this hash.
    pub(super) const fn at_home(self, hash: u64) -> Self {
        let rest = self.0 & !((1 << GRANT) - (1 << FAR)) & !(15 << TAG);
        Self(rest | tag(hash) | 1 << FAR)
    }

    /// The slot one further from home; `None` if that is too far.
    pub(super) fn moved(self) -> Option<Self> {
        let far = self.0 >> FAR & (FURTHEST as u64 + 1);
        (far <= FURTHEST as u64).then_some(Self(self.0 + (1 << FAR)))
    }
}

/// The part of a hash that is in a slot: of bits that say nothing of its home.
const fn tag(hash: u64) -> u64 {
    (hash & 15) << TAG
}

/// What is looked for, from one slot to the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sought(u64);

impl Sought {
    /// A key of this kind, hash and length, at its home.
    pub(super) const fn new(kind: Kind, hash: u64, length: usize) -> Self {
        Self(1 << FAR | (kind as u64) << KIND | (length as u64) << LENGTH | tag(hash))
    }

    /// True for a slot whose key may be the one.
    pub(super) const fn may_be(self, slot: Slot) -> bool {
        slot.0 & SOUGHT == self.0
    }

    /// True for a slot that could not stand there if the key was further on.
    pub(super) const fn ends_at(self, slot: Slot) -> bool {
        (slot.0 & SOUGHT | ((1 << FAR) - 1)) < self.0
    }

    /// The same `steps` further.
    pub(super) const fn moved(self, steps: usize) -> Self {
        Self(self.0 + ((steps as u64) << FAR))
    }
}
