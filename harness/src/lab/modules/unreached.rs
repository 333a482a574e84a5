//! Drops of a module's data and tables what its exports do not reach.

use std::ops::Range;

use anyhow::Context;
use walrus::ir::{Unreachable, Value};
use walrus::{ConstExpr, DataKind, ElementItems, FunctionBuilder, Module};

use super::reach::{Reached, reach};

/// Fewer unused bytes than these between used ones stay: a segment more takes as many.
const FEWEST: usize = 10;

/// Drops what the exports with these names do not reach, which are those of `compiled`; nothing if the
/// linker left no relocations. Functions that nothing refers to then stay for the collector of garbage.
///
/// # Errors
/// If the relocations are not of the module.
pub(super) fn drop_unreached(
    module: &mut Module,
    compiled: &[u8],
    exports: &[String],
) -> anyhow::Result<()> {
    if let Some(Reached { tables, data }) = reach(compiled, exports)? {
        empty_places(module, &tables);
        cut(module, &data);
    }
    Ok(())
}

/// Puts a function that traps in each place of a table that nobody calls.
fn empty_places(module: &mut Module, tables: &[Vec<bool>]) {
    let mut nobody = FunctionBuilder::new(&mut module.types, &[], &[]);
    nobody.func_body().instr(Unreachable {});
    let nobody = nobody.finish(vec![], &mut module.funcs);
    for (element, is_called) in module.elements.iter_mut().zip(tables) {
        if let ElementItems::Functions(functions) = &mut element.items {
            for (function, is_called) in functions.iter_mut().zip(is_called) {
                if !is_called {
                    *function = nobody;
                }
            }
        }
    }
}

/// Cuts each segment of data down to the bytes that are used.
fn cut(module: &mut Module, data: &[Vec<Range<usize>>]) {
    let segments: Vec<_> = module.data.iter().map(|segment| segment.id()).collect();
    for (id, used) in segments.into_iter().zip(data) {
        let segment = module.data.get_mut(id);
        let DataKind::Active {
            memory,
            offset: ConstExpr::Value(Value::I32(address)),
        } = segment.kind
        else {
            continue;
        };
        let bytes = std::mem::take(&mut segment.value);
        for range in joined(used) {
            let Some(part) = bytes.get(range.clone()) else {
                continue;
            };
            let offset = ConstExpr::Value(Value::I32(address + range.start as i32));
            let part = module
                .data
                .add(DataKind::Active { memory, offset }, part.to_vec());
            module.memories.get_mut(memory).data_segments.insert(part);
        }
        module.memories.get_mut(memory).data_segments.remove(&id);
        module.data.delete(id);
    }
}

/// Ranges, with those made one that are next to each other.
fn joined(ranges: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut joined: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start < last.end + FEWEST => last.end = last.end.max(range.end),
            _ => joined.push(range.clone()),
        }
    }
    joined
}

/// The module without what the linker leaves for [`drop_unreached`] and for debuggers, which a host would
/// keep in memory.
///
/// # Errors
/// If it is not a valid module.
pub(super) fn without_relocations(compiled: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut module = Module::from_buffer(compiled).context("it is not a valid module")?;
    let sections = module.customs.iter();
    let relocations: Vec<_> = sections
        .filter(|(_, section)| section.name() == "linking" || section.name().starts_with("reloc."))
        .map(|(id, _)| id)
        .collect();
    for section in relocations {
        module.customs.delete(section);
    }
    Ok(module.emit_wasm())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::modules::reach::tests::linked;

    #[test]
    fn what_is_not_reached_is_neither_in_tables_nor_in_data() {
        let compiled = linked();
        let mut module = Module::from_buffer(&compiled).unwrap();
        drop_unreached(&mut module, &compiled, &["kept".to_owned()]).unwrap();
        let module = Module::from_buffer(&module.emit_wasm()).unwrap();
        let data: Vec<_> = module.data.iter().map(|data| &data.value[..]).collect();
        assert_eq!(data, [[2, 0, 0, 0]]);
        let element = module.elements.iter().next().unwrap();
        let ElementItems::Functions(functions) = &element.items else {
            panic!("{:?}", element.items);
        };
        let traps = functions.iter().map(|function| {
            let function = module.funcs.get(*function).kind.unwrap_local();
            let body = &function.block(function.entry_block()).instrs[..];
            matches!(body, [(walrus::ir::Instr::Unreachable(_), _)])
        });
        assert_eq!(traps.collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn ranges_are_apart_by_more_than_a_segment_takes() {
        let joined = joined(&[0..4, 2..3, 5..9, 18..20, 30..31]);
        assert_eq!(joined, [0..20, 30..31]);
    }

    #[test]
    fn a_module_without_relocations_is_left_as_it_is() {
        let without = without_relocations(&linked()).unwrap();
        let mut module = Module::from_buffer(&without).unwrap();
        drop_unreached(&mut module, &without, &["kept".to_owned()]).unwrap();
        let data: Vec<_> = module.data.iter().map(|data| data.value.len()).collect();
        assert_eq!(data, [36]);
    }
}
