//! The modules as a program carries them: the finished ones, and those that Cargo left, which a policy is
//! put into.

use std::fs;
use std::path::Path;

use anyhow::Context;

use super::built::{Module, Modules};
use super::compile;
use super::recipes::{LEAN, RECIPES, Recipe};
use crate::lab::carried::{self, Files};
use crate::lab::paths;
use crate::text::sha256::sha256;

impl Modules {
    /// What a program is to carry of them.
    ///
    /// # Errors
    /// If a module cannot be read.
    pub fn to_carry(&self) -> anyhow::Result<Files> {
        let mut files = Files::new();
        for module in self.all() {
            let name = finished(module.name, module.is_lean);
            files.insert(name, read(&module.path)?);
        }
        for recipe in RECIPES {
            files.insert(compiled(recipe.name), as_compiled(recipe.name)?);
        }
        Ok(files)
    }
}

/// Writes the modules that this program carries into `folder`, where they are not there yet.
pub(super) fn unpack(files: &Files, folder: &Path) -> anyhow::Result<Modules> {
    let unpack = |recipe: Recipe<'static>, is_lean| {
        let name = finished(recipe.name, is_lean);
        let contents = carried::find(files, &name)?;
        let path = folder.join(name);
        if fs::read(&path).ok().as_deref() != Some(contents) {
            paths::write_atomically(&path, contents)?;
        }
        anyhow::Ok(Module {
            name: recipe.name,
            is_lean,
            path,
            compiled_bytes: carried::find(files, &compiled(recipe.name))?.len() as u64,
            bytes: contents.len() as u64,
            sha256: sha256(contents),
        })
    };
    let all = |is_lean| {
        let [ingress, egress, sidecar] = RECIPES.map(|recipe| unpack(recipe, is_lean));
        anyhow::Ok([ingress?, egress?, sidecar?])
    };
    Ok(Modules::of(all(false)?, all(true)?))
}

/// The module of this name as Cargo left it.
pub(super) fn as_compiled(name: &str) -> anyhow::Result<Vec<u8>> {
    match carried::files()? {
        Some(files) => Ok(carried::find(files, &compiled(name))?.to_vec()),
        None => read(&compile::folder()?.join(format!("meridian_{name}.wasm"))),
    }
}

fn finished(name: &str, is_lean: bool) -> String {
    let suffix = if is_lean { LEAN } else { "" };
    format!("meridian_{name}{suffix}.wasm")
}

fn compiled(name: &str) -> String {
    format!("compiled/meridian_{name}.wasm")
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_carried_is_written_once_and_again_when_it_was_damaged() {
        let mut files = Files::new();
        for recipe in RECIPES {
            files.insert(finished(recipe.name, false), b"full".to_vec());
            files.insert(finished(recipe.name, true), b"lean".to_vec());
            files.insert(compiled(recipe.name), b"compiled".to_vec());
        }
        let folder = tempfile::tempdir().unwrap();
        let modules = unpack(&files, folder.path()).unwrap();
        assert_eq!(fs::read(&modules.egress).unwrap(), b"full");
        assert_eq!(fs::read(&modules.lean[1].path).unwrap(), b"lean");
        assert_eq!(
            (modules.lean[1].compiled_bytes, modules.lean[1].bytes),
            (8, 4)
        );
        fs::write(&modules.egress, "damaged").unwrap();
        assert_eq!(unpack(&files, folder.path()).unwrap(), modules);
        assert_eq!(fs::read(&modules.egress).unwrap(), b"full");

        files.remove("meridian_sidecar_lean.wasm");
        let error = unpack(&files, folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("carries no meridian_sidecar_lean.wasm"),
            "{error}"
        );
    }
}
