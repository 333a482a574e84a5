//! Takes off a compiled module what the host would otherwise call, or load, for nothing.

use std::collections::HashSet;

use anyhow::{Context, bail};
use walrus::ir::{Call, InstrLocId, Unreachable, Value, Visitor, dfs_in_order};
use walrus::{
    ConstExpr, DataKind, ExportItem, FunctionId, ImportKind, Memory, Module, ModuleConfig,
};

use super::unreached::drop_unreached;

/// The only module of the host's that a shipped filter imports from.
const HOST: &str = "env";

/// An import that no host has, so that none loads what is not stripped: the answer is put in its place,
/// whether the module exports `proxy_on_log`, which its own code cannot see.
const EXPORTS_ON_LOG: &str = "exports_on_log (this module is not made by `meridian build`)";
/// Another such import: where in memory the image of a policy is, 0 where there is none. Its length, a
/// word, stands before it.
const POLICY_IMAGE: &str = "policy_image (this module is not made by `meridian build`)";
/// A page of a module's memory.
const PAGE: usize = 1 << 16;
/// What the names of the filters' own functions begin with, before the name that the host calls.
const OWN: &str = "meridian_";
/// The callback at the end of a request.
pub(super) const ON_LOG: &str = "proxy_on_log";

/// Returns the module to ship: replaces the SDK's export `NAME` by `meridian_NAME` for each name in
/// `own`, keeps only the exports in `keep` and the imports in `calls`, and drops everything unreachable
/// and every custom section. With a `policy` it holds that one's image.
///
/// The SDK's tables of callbacks hold every default method, and with them host calls that nobody makes.
/// A function that makes one traps instead, so that a module cannot even ask the host for an outgoing
/// call or for shared data. So do the SDK's own wrappers of the calls in `calls`; they are known by the
/// names in `compiled`.
///
/// # Errors
/// If it is not a valid module, lacks a function to keep, or imports from elsewhere than `env`.
pub fn strip(
    compiled: &[u8],
    own: &[&str],
    keep: &[&str],
    calls: &[&str],
    policy: Option<&[u8]>,
) -> anyhow::Result<Vec<u8>> {
    let mut config = ModuleConfig::new();
    config
        .generate_name_section(false)
        .generate_producers_section(false);
    let mut module = config.parse(compiled).context("it is not a valid module")?;

    check_imports(&module)?;
    put_own_functions(&mut module, own)?;
    let dropped: Vec<_> = module
        .exports
        .iter()
        .filter(|export| !keep.contains(&export.name.as_str()))
        .map(|export| export.id())
        .collect();
    for export in dropped {
        module.exports.delete(export);
    }
    check_exports(&module, keep)?;
    drop_unreached(&mut module, compiled, &compiled_names(own, keep))?;
    answer(&mut module, EXPORTS_ON_LOG, keep.contains(&ON_LOG).into())?;
    let image = match policy {
        Some(policy) => place_policy(&mut module, policy)?,
        None => 0,
    };
    answer(&mut module, POLICY_IMAGE, image)?;
    trap_at_other_calls(&mut module, calls);
    trap_at_wrappers(&mut module);
    let custom: Vec<_> = module.customs.iter().map(|(id, _)| id).collect();
    for section in custom {
        module.customs.delete(section);
    }
    walrus::passes::gc::run(&mut module);
    Ok(module.emit_wasm())
}

/// The names that the exports to keep have in what Cargo compiled.
fn compiled_names(own: &[&str], keep: &[&str]) -> Vec<String> {
    let name = |name: &&str| match own.contains(name) {
        true => format!("{OWN}{name}"),
        false => (*name).to_owned(),
    };
    keep.iter().map(name).collect()
}

fn check_imports(module: &Module) -> anyhow::Result<()> {
    let foreign: Vec<String> = module
        .imports
        .iter()
        .filter(|import| import.module != HOST)
        .map(|import| format!("{}.{}", import.module, import.name))
        .collect();
    if !foreign.is_empty() {
        bail!(
            "it imports {}: a filter may import from `{HOST}` alone, so a dependency that needs \
             WASI or JavaScript must go",
            foreign.join(", ")
        );
    }
    Ok(())
}

/// Exports the filters' own functions in the place of the SDK's.
fn put_own_functions(module: &mut Module, own: &[&str]) -> anyhow::Result<()> {
    for name in own {
        let ours = format!("{OWN}{name}");
        let Some(export) = module.exports.iter().find(|export| export.name == ours) else {
            bail!("it does not export {ours}, which stands for the SDK's {name}");
        };
        let item = export.item;
        let Some(export) = module
            .exports
            .iter_mut()
            .find(|export| export.name == *name)
        else {
            bail!("it exports {ours}, and no {name} of the SDK's that it could stand for");
        };
        export.item = item;
    }
    Ok(())
}

/// Puts a policy's image behind the memory that the module begins with; where that is.
fn place_policy(module: &mut Module, policy: &[u8]) -> anyhow::Result<i32> {
    let mut bytes = u32::try_from(policy.len())?.to_le_bytes().to_vec();
    bytes.extend_from_slice(policy);
    let memory = module.memories.iter().next().map(Memory::id);
    let memory = memory.context("it has no memory")?;
    let pages = module.memories.get(memory).initial;
    let address = i32::try_from(pages * PAGE as u64).context("its memory is too large")?;
    let data = module.data.add(
        DataKind::Active {
            memory,
            offset: ConstExpr::Value(Value::I32(address)),
        },
        bytes,
    );
    let size = 4 + policy.len();
    let memory = module.memories.get_mut(memory);
    memory.initial = pages + size.div_ceil(PAGE) as u64;
    memory.data_segments.insert(data);
    Ok(address)
}

/// Puts an answer in the place of an import without arguments, if there is such an import.
fn answer(module: &mut Module, name: &str, answer: i32) -> anyhow::Result<()> {
    let Some(import) = module.imports.find(HOST, name) else {
        return Ok(());
    };
    if let ImportKind::Function(function) = module.imports.get(import).kind {
        module.replace_imported_func(function, |(body, _)| {
            body.i32_const(answer);
        })?;
    }
    Ok(())
}

/// Replaces the body of every function that calls an import beside `calls` by a trap.
fn trap_at_other_calls(module: &mut Module, calls: &[&str]) {
    let others: HashSet<FunctionId> = module
        .imports
        .iter()
        .filter(|import| !calls.contains(&import.name.as_str()))
        .filter_map(|import| match import.kind {
            ImportKind::Function(function) => Some(function),
            _ => None,
        })
        .collect();
    let callers: Vec<FunctionId> = module
        .funcs
        .iter_local()
        .filter(|(_, function)| {
            let mut finder = CallFinder {
                others: &others,
                found: false,
            };
            dfs_in_order(&mut finder, function, function.entry_block());
            finder.found
        })
        .map(|(id, _)| id)
        .collect();
    for caller in callers {
        trap(module, caller);
    }
}

/// Replaces the bodies of the SDK's methods for filters to call.
fn trap_at_wrappers(module: &mut Module) {
    let found: Vec<FunctionId> = module
        .funcs
        .iter_local()
        .map(|(id, _)| id)
        .filter(|id| is_wrapper(module.funcs.get(*id).name.as_deref().unwrap_or_default()))
        .collect();
    for function in found {
        trap(module, function);
    }
}

/// True for the mangled name of a default method of the SDK's traits that is no callback:
/// `_ZN10proxy_wasm6traits7Context12get_property17h…E` has the trait and the method, each behind
/// its length.
fn is_wrapper(name: &str) -> bool {
    let Some(name) = name.strip_prefix("_ZN10proxy_wasm6traits") else {
        return false;
    };
    let method = name
        .trim_start_matches(|c: char| c.is_ascii_digit())
        .trim_start_matches(|c: char| c.is_ascii_alphabetic())
        .trim_start_matches(|c: char| c.is_ascii_digit());
    let callbacks = ["on_", "create_", "get_type"];
    !method.is_empty()
        && !callbacks
            .iter()
            .any(|callback| method.starts_with(callback))
}

fn trap(module: &mut Module, function: FunctionId) {
    let function = module.funcs.get_mut(function).kind.unwrap_local_mut();
    let body = function.entry_block();
    let body = function.block_mut(body);
    body.instrs.clear();
    body.instrs
        .push((Unreachable {}.into(), InstrLocId::default()));
}

/// Finds direct calls of some functions.
struct CallFinder<'m> {
    others: &'m HashSet<FunctionId>,
    found: bool,
}

impl<'i> Visitor<'i> for CallFinder<'_> {
    fn visit_call(&mut self, call: &Call) {
        self.found |= self.others.contains(&call.func);
    }
}

fn check_exports(module: &Module, keep: &[&str]) -> anyhow::Result<()> {
    let missing: Vec<&str> = keep
        .iter()
        .copied()
        .filter(|name| !module.exports.iter().any(|export| export.name == *name))
        .collect();
    if !missing.is_empty() {
        bail!(
            "it does not export {}: its lib.rs must call `meridian_plugin::module!`",
            missing.join(", ")
        );
    }
    if let Some(odd) = module
        .exports
        .iter()
        .find(|export| matches!(export.item, ExportItem::Memory(_)) != (export.name == "memory"))
    {
        bail!("its export `{}` is not of the kind it should be", odd.name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use walrus::ir::Instr;
    use walrus::{FunctionBuilder, RawCustomSection, ValType};

    /// Exports `memory`, `kept` and `dropped`; each function calls an import of its own.
    fn module(import_from: &str) -> Vec<u8> {
        let mut module = Module::default();
        let memory = module.memories.add_local(false, false, 1, None, None);
        module.exports.add("memory", memory);
        for name in ["kept", "dropped"] {
            let signature = module.types.add(&[ValType::I32], &[ValType::I32]);
            let (import, _) =
                module.add_import_func(import_from, &format!("host_{name}"), signature);
            let mut function =
                FunctionBuilder::new(&mut module.types, &[ValType::I32], &[ValType::I32]);
            let argument = module.locals.add(ValType::I32);
            function
                .name(name.to_owned())
                .func_body()
                .local_get(argument)
                .call(import);
            let function = function.finish(vec![argument], &mut module.funcs);
            module.exports.add(name, function);
        }
        module.customs.add(RawCustomSection {
            name: "target_features".to_owned(),
            data: b"x".to_vec(),
        });
        module.producers.add_language("Rust", "1");
        module.emit_wasm()
    }

    #[test]
    fn only_what_is_kept_and_what_it_reaches_stays() {
        let compiled = module("env");
        let stripped = strip(&compiled, &[], &["memory", "kept"], &["host_kept"], None).unwrap();
        assert!(stripped.len() < compiled.len());
        let module = Module::from_buffer(&stripped).unwrap();
        let exports: Vec<&str> = module.exports.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(exports, ["memory", "kept"]);
        let imports: Vec<&str> = module.imports.iter().map(|i| i.name.as_str()).collect();
        assert_eq!(imports, ["host_kept"]);
        assert_eq!(module.customs.iter().count(), 0);
        // Not by parsing: walrus adds itself to the producers of whatever it parses.
        let contains = |wasm: &[u8]| wasm.windows(9).any(|window| window == b"producers");
        assert!(contains(&compiled) && !contains(&stripped));
        assert!(module.funcs.iter().all(|function| function.name.is_none()));
        assert_eq!(
            strip(&stripped, &[], &["memory", "kept"], &["host_kept"], None).unwrap(),
            stripped
        );
    }

    #[test]
    fn a_module_is_told_whether_it_exports_on_log() {
        for (keep, expected) in [
            (&["memory", "kept"][..], 0),
            (&["memory", "kept", ON_LOG], 1),
        ] {
            let mut module = Module::from_buffer(&module("env")).unwrap();
            let signature = module.types.add(&[], &[ValType::I32]);
            let (question, _) = module.add_import_func("env", EXPORTS_ON_LOG, signature);
            module.exports.add(ON_LOG, question);
            let stripped = strip(&module.emit_wasm(), &[], keep, &["host_kept"], None).unwrap();
            let module = Module::from_buffer(&stripped).unwrap();
            assert!(module.imports.find("env", EXPORTS_ON_LOG).is_none());
            let answers: Vec<i32> = module
                .funcs
                .iter_local()
                .filter_map(|(_, function)| {
                    match &function.block(function.entry_block()).instrs[..] {
                        [(Instr::Const(constant), _)] => match constant.value {
                            Value::I32(answer) => Some(answer),
                            _ => None,
                        },
                        _ => None,
                    }
                })
                .collect();
            // Nobody asks in the first one, so that the answer is not there either.
            assert_eq!(answers, if expected == 1 { vec![1] } else { vec![] });
        }
    }

    #[test]
    fn a_policy_lies_behind_the_memory_that_the_module_had() {
        let mut module = Module::from_buffer(&module("env")).unwrap();
        let signature = module.types.add(&[], &[ValType::I32]);
        let (question, _) = module.add_import_func("env", POLICY_IMAGE, signature);
        module.exports.add("where", question);
        let keep = ["memory", "where"];
        let policy = vec![7; PAGE - 3];
        let compiled = module.emit_wasm();
        for (policy, pages, address) in [(None, 1, 0), (Some(&policy[..]), 3, 1 << 16)] {
            let stripped = strip(&compiled, &[], &keep, &[], policy).unwrap();
            let module = Module::from_buffer(&stripped).unwrap();
            assert_eq!(module.memories.iter().next().unwrap().initial, pages);
            let placed: Vec<_> = module.data.iter().map(|data| &data.value).collect();
            let length = ((PAGE - 3) as u32).to_le_bytes();
            let expected = policy.map(|policy| [&length, policy].concat());
            assert_eq!(placed, expected.iter().collect::<Vec<_>>());
            let (_, asked) = module.funcs.iter_local().next().unwrap();
            let body = &asked.block(asked.entry_block()).instrs[..];
            let [(Instr::Const(constant), _)] = body else {
                panic!("{body:?}");
            };
            assert!(matches!(constant.value, Value::I32(answer) if answer == address));
        }
    }

    #[test]
    fn a_function_of_the_filter_s_own_takes_the_place_of_the_sdk_s() {
        let mut module = Module::from_buffer(&module("env")).unwrap();
        for (from, to) in [("kept", "meridian_proxy_on_log"), ("dropped", ON_LOG)] {
            let export = module.exports.iter_mut().find(|one| one.name == from);
            to.clone_into(&mut export.unwrap().name);
        }
        let compiled = module.emit_wasm();
        let strip_with = |own: &[&str]| {
            let calls = ["host_kept", "host_dropped"];
            strip(&compiled, own, &["memory", ON_LOG], &calls, None)
        };
        let stripped = strip_with(&[ON_LOG]).unwrap();
        let module = Module::from_buffer(&stripped).unwrap();
        let exports: Vec<&str> = module.exports.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(exports, ["memory", ON_LOG]);
        let imports: Vec<&str> = module.imports.iter().map(|i| i.name.as_str()).collect();
        assert_eq!(imports, ["host_kept"]);
        // A callback that is lost must not be the SDK's again.
        let error = strip_with(&[ON_LOG, "proxy_on_delete"]).unwrap_err();
        let expected = "it does not export meridian_proxy_on_delete, which stands for the SDK's proxy_on_delete";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_host_call_that_is_not_listed_traps() {
        let stripped = strip(&module("env"), &[], &["memory", "kept"], &[], None).unwrap();
        let module = Module::from_buffer(&stripped).unwrap();
        assert_eq!(module.imports.iter().count(), 0);
        let (_, kept) = module.funcs.iter_local().next().unwrap();
        let body = &kept.block(kept.entry_block()).instrs;
        assert!(matches!(body[..], [(walrus::ir::Instr::Unreachable(_), _)]));
    }

    #[test]
    fn only_methods_for_filters_to_call_are_wrappers() {
        for (name, expected) in [
            (
                "_ZN10proxy_wasm6traits7Context12get_property17h0123456789abcdefE",
                true,
            ),
            (
                "_ZN10proxy_wasm6traits13StreamContext16close_downstream17h0123456789abcdefE",
                true,
            ),
            (
                "_ZN10proxy_wasm6traits11HttpContext23on_http_request_headers17h0123456789abcdefE",
                false,
            ),
            (
                "_ZN10proxy_wasm6traits11RootContext8get_type17h0123456789abcdefE",
                false,
            ),
            (
                "_ZN10proxy_wasm6traits11RootContext21create_stream_context17h0123456789abcdefE",
                false,
            ),
            (
                "_ZN10proxy_wasm10dispatcher10Dispatcher9on_delete17h0123456789abcdefE",
                false,
            ),
            (
                "_ZN15meridian_plugin4host8property17h0123456789abcdefE",
                false,
            ),
            ("", false),
        ] {
            assert_eq!(is_wrapper(name), expected, "{name}");
        }
    }

    #[test]
    fn a_missing_export_is_named() {
        let error = strip(
            &module("env"),
            &[],
            &["memory", "kept", "_initialize"],
            &[],
            None,
        )
        .unwrap_err();
        let message = error.to_string();
        assert!(
            message.starts_with("it does not export _initialize: "),
            "{message}"
        );
    }

    #[test]
    fn an_import_from_elsewhere_is_refused() {
        let error = strip(
            &module("wasi_snapshot_preview1"),
            &[],
            &["memory"],
            &[],
            None,
        )
        .unwrap_err();
        let message = error.to_string();
        let expected =
            "it imports wasi_snapshot_preview1.host_kept, wasi_snapshot_preview1.host_dropped: ";
        assert!(message.starts_with(expected), "{message}");
    }

    #[test]
    fn what_is_no_module_is_refused() {
        assert!(strip(b"\0asm", &[], &[], &[], None).is_err());
    }
}
