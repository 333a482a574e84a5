//! A map in an image: written once, and used where it lies.

use std::sync::Arc;

use super::HostMap;
use super::array::Array;
use super::keys::{Chain, Keys};
use super::slot::Slot;
use super::table::Table;
use super::values::{List, Values};
use crate::image::{Reader, Writer};

impl HostMap {
    /// The map that was written; `None` if it is none. Its lists stay in the image.
    #[inline(never)]
    pub(crate) fn from_image(image: &mut Reader) -> Option<Self> {
        let suffix_labels = u64::from(image.word()?) | u64::from(image.word()?) << 32;
        let any = List::from_bytes(*image.list()?.first()?);
        let homes = image.word()?;
        let table = Table::from_image(image.list()?, homes as usize)?;
        Some(Self {
            table,
            suffix_labels,
            any: Some(any).filter(|list| !list.is_none()),
            values: Values {
                len: image.word()? as usize,
                grants: Array::Image(image.list()?),
                links: Array::Image(image.list()?),
            },
            prefixes: [image.bytes()?.to_vec(), image.bytes()?.to_vec()],
            keys: Keys {
                source: Arc::default(),
                chains: Array::Image(image.list()?.as_chunks().0),
                extra: Array::Image(image.bytes()?),
            },
        })
    }

    /// Writes the map with the texts of its patterns; `None` if it is too large.
    pub(crate) fn to_image(&self, image: &mut Writer) -> Option<()> {
        let (table, keys) = self.with_own_text()?;
        image.word(self.suffix_labels as u32);
        image.word((self.suffix_labels >> 32) as u32);
        image.list(&[self.any.unwrap_or(List::NONE).bytes()])?;
        image.word(u32::try_from(table.homes()).ok()?);
        image.list(table.slots())?;
        image.word(u32::try_from(self.values.len).ok()?);
        image.list(&self.values.grants)?;
        image.list(&self.values.links)?;
        for prefixes in &self.prefixes {
            image.bytes(prefixes)?;
        }
        image.list(keys.chains.as_flattened())?;
        image.bytes(&keys.extra)
    }

    /// The table and the keys with all texts apart from the policy's, in the order of the policy:
    /// neighbours there are alike, which compresses well.
    fn with_own_text(&self) -> Option<(Table, Keys)> {
        let Self { keys, .. } = self;
        let slots = self
            .table
            .slots()
            .iter()
            .map(|bytes| Slot::from_bytes(*bytes));
        let mut found: Vec<(usize, Slot)> = slots
            .enumerate()
            .filter(|(_, slot)| slot.is_some())
            .collect();
        let unchained = |slot: Slot| match slot.grant() {
            Some(_) => Some((slot, None)),
            None => keys.chain(slot).map(|chain| (chain.slot, Some(chain))),
        };
        found.sort_by_key(|(_, slot)| unchained(*slot).map(|(slot, _)| slot.at()));
        let mut table = self.table.owned();
        let mut chains = keys.chains.to_vec();
        let mut text = Vec::new();
        for (place, slot) in found {
            let (with_key, chain) = unchained(slot)?;
            let moved = with_key.with_key_at(text.len())?;
            text.extend_from_slice(keys.key(slot));
            match chain {
                None => table.replace(place, moved)?,
                Some(chain) => {
                    let chain = Chain {
                        slot: moved,
                        ..chain
                    };
                    *chains.get_mut(slot.at())? = chain.bytes();
                }
            }
        }
        let keys = Keys {
            source: Arc::default(),
            extra: Array::Owned(text),
            chains: Array::Owned(chains),
        };
        Some((table, keys))
    }
}
