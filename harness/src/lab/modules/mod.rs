//! Builds the three modules: compiled by Cargo, stripped to what they do, under `target/meridian`; or has
//! those that this program carries.

mod built;
mod carried;
mod compile;
mod reach;
mod recipes;
mod strip;
mod unreached;
mod wasm_target;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

pub use built::{Module, Modules};
pub use compile::{TARGET, ensure_target};
pub use recipes::LEAN;
pub use strip::strip;

use crate::lab::{carried as program, paths};
use crate::text::sha256::sha256;
use recipes::{HOST_CALLS, OF_SDK, OWN, RECIPES, Recipe, UNUSED_BY_YARDSTICK};
use strip::ON_LOG;
use unreached::without_relocations;

/// As [`build`], with the modules in `folder`, which is made.
///
/// # Errors
/// As [`build`]; if the folder cannot be written.
pub fn build_into(folder: &Path) -> anyhow::Result<Modules> {
    if let Some(files) = program::files()? {
        return carried::unpack(files, folder);
    }
    build()?.copied_to(folder)
}

/// Builds the modules that are not up to date. The same sources and toolchain give the same
/// bytes, wherever the checkout is. A program that carries the modules has them without building.
///
/// Blocks; progress is on stderr. Any number of processes and threads may call it at once.
///
/// # Errors
/// If the wasm target cannot be added, a crate does not compile, or its module is not one that
/// Envoy could load.
pub fn build() -> anyhow::Result<Modules> {
    let folder = paths::modules_dir()?;
    let _lock = paths::lock(&folder.join(".lock"), || {
        eprintln!("Modules: another process is building them, waiting");
    })?;
    if let Some(files) = program::files()? {
        return carried::unpack(files, &folder);
    }
    ensure_target()?;
    compile::compile(&RECIPES.map(|recipe| format!("meridian-{}", recipe.name)))?;
    let compiled = compile::folder()?;
    let all = |recipes: [Recipe<'_>; 3]| {
        let [ingress, egress, sidecar] = recipes.map(|recipe| finish(&recipe, &compiled, &folder));
        anyhow::Ok([ingress?, egress?, sidecar?])
    };
    let built = all(RECIPES)?;
    let own = own(true);
    let lean = all(RECIPES.map(|recipe| Recipe {
        suffix: LEAN,
        own: &own,
        ..recipe
    }))?;
    Ok(Modules::of(built, lean))
}

/// What a filter's module exports in the place of the SDK's.
fn own(is_lean: bool) -> Vec<&'static str> {
    let own = OWN.iter().copied();
    own.filter(|export| !is_lean || *export != ON_LOG).collect()
}

/// A built module with a policy's image inside, see [`meridian_policy::Policy::to_image`]. It is written
/// nowhere.
///
/// # Errors
/// If Cargo's file is no longer there, or the image is too large.
pub fn with_policy(module: &Module, image: &[u8]) -> anyhow::Result<Vec<u8>> {
    let compiled = carried::as_compiled(module.name)?;
    let own = own(module.is_lean);
    strip(
        &compiled,
        &own,
        &[OF_SDK, &own].concat(),
        HOST_CALLS,
        Some(image),
    )
    .with_context(|| format!("the policy cannot be put into the module {}", module.name))
}

/// The module that `meridian bench` measures the filters against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Yardstick {
    /// As Cargo leaves a filter of the SDK: with every callback that the SDK exports.
    pub plain: PathBuf,
    /// Stripped like a filter.
    pub stripped: PathBuf,
}

/// Builds the yardstick if it is not up to date.
///
/// Blocks; progress is on stderr. Any number of processes and threads may call it at once.
///
/// # Errors
/// As [`build`].
pub fn build_yardstick() -> anyhow::Result<Yardstick> {
    let folder = paths::modules_dir()?;
    let _lock = paths::lock(&folder.join(".lock"), || {
        eprintln!("Modules: another process is building them, waiting");
    })?;
    ensure_target()?;
    compile::compile(&["meridian-yardstick".to_owned()])?;
    let compiled = compile::folder()?;
    let all = OF_SDK.iter().chain(OWN).copied();
    let used = all.filter(|export| !UNUSED_BY_YARDSTICK.contains(export));
    let recipe = Recipe {
        name: "yardstick",
        suffix: "",
        of_sdk: &used.collect::<Vec<_>>(),
        own: &[],
    };
    // Beside the others, so that the next build of something else does not take it away.
    let plain = folder.join("meridian_yardstick.plain.wasm");
    let module = fs::read(compiled.join("meridian_yardstick.wasm"))?;
    paths::write_atomically(&plain, &without_relocations(&module)?)?;
    Ok(Yardstick {
        plain,
        stripped: finish(&recipe, &compiled, &folder)?.path,
    })
}

/// Strips a compiled module into `folder`, unless that is done already.
fn finish(recipe: &Recipe<'_>, compiled: &Path, folder: &Path) -> anyhow::Result<Module> {
    let file_name = format!("meridian_{}{}.wasm", recipe.name, recipe.suffix);
    let path = folder.join(&file_name);
    let stamp_path = folder.join(format!(".{file_name}.stamp"));
    let compiled_path = compiled.join(format!("meridian_{}.wasm", recipe.name));
    let compiled = fs::read(&compiled_path)
        .with_context(|| format!("Cargo left no {}", compiled_path.display()))?;

    let source = fingerprint(&compiled, recipe);
    let present = fs::read(&path).unwrap_or_default();
    let stamp = |module: &[u8]| format!("{source} {}\n", sha256(module));
    let module = if fs::read_to_string(&stamp_path).is_ok_and(|is| is == stamp(&present)) {
        present
    } else {
        let module = strip(&compiled, recipe.own, &recipe.exports(), HOST_CALLS, None)
            .with_context(|| format!("the module {} cannot ship", compiled_path.display()))?;
        paths::write_atomically(&path, &module)?;
        paths::write_atomically(&stamp_path, stamp(&module).as_bytes())?;
        module
    };
    Ok(Module {
        name: recipe.name,
        is_lean: recipe.suffix == LEAN,
        path,
        compiled_bytes: compiled.len() as u64,
        bytes: module.len() as u64,
        sha256: sha256(&module),
    })
}

/// Differs when the stripped module may: with what is stripped and with how it is done.
fn fingerprint(compiled: &[u8], recipe: &Recipe<'_>) -> String {
    let mut source = compiled.to_vec();
    for list in [recipe.of_sdk, recipe.own, HOST_CALLS] {
        source.extend_from_slice(list.join(",").as_bytes());
    }
    for code in [
        &include_bytes!("strip.rs")[..],
        include_bytes!("unreached.rs"),
        include_bytes!("reach.rs"),
    ] {
        source.extend_from_slice(code);
    }
    sha256(&source)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest module: no section at all.
    const EMPTY: &[u8] = b"\0asm\x01\0\0\0";

    #[test]
    fn a_module_is_stripped_once_and_again_when_it_changed() {
        let folder = tempfile::tempdir().unwrap();
        let [compiled, finished] = ["compiled", "finished"].map(|name| folder.path().join(name));
        fs::create_dir(&compiled).unwrap();
        let input = compiled.join("meridian_x.wasm");
        let recipe = Recipe {
            name: "x",
            suffix: "",
            of_sdk: &[],
            own: &[],
        };
        let modified = |module: &Module| module.path.metadata().unwrap().modified().unwrap();

        fs::write(&input, EMPTY).unwrap();
        let first = finish(&recipe, &compiled, &finished).unwrap();
        assert_eq!(first.path, finished.join("meridian_x.wasm"));
        assert_eq!(first.sha256, sha256(&fs::read(&first.path).unwrap()));
        let when = modified(&first);
        assert_eq!(finish(&recipe, &compiled, &finished).unwrap(), first);
        assert_eq!(modified(&first), when);

        fs::write(&first.path, b"damaged").unwrap();
        assert_eq!(finish(&recipe, &compiled, &finished).unwrap(), first);
        assert_eq!(fs::read(&first.path).unwrap(), EMPTY);

        let section = [EMPTY, &[0, 2, 1, b'n']].concat();
        fs::write(&input, &section).unwrap();
        let second = finish(&recipe, &compiled, &finished).unwrap();
        assert_eq!((second.compiled_bytes, second.bytes), (12, 8));
    }

    #[test]
    fn a_module_that_cannot_ship_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("meridian_ingress.wasm"), EMPTY).unwrap();
        let error = finish(&RECIPES[0], folder.path(), folder.path()).unwrap_err();
        let message = format!("{error:#}");
        assert!(
            message
                .contains("meridian_ingress.wasm cannot ship: it does not export meridian_malloc"),
            "{message}"
        );
    }
}
