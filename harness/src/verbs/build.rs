//! `meridian build`: the modules, with their sizes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::{Args, ValueHint};
use serde_json::{Value, json};

use crate::lab::modules::{self, Module, Modules};
use crate::lab::{carried, paths};
use crate::oci::Origin;
use crate::output;
use crate::text::numbers::kilobytes;

/// Build the modules and print their sizes
///
/// Each module is stripped of the callbacks and host calls that it does not use, and is built in a
/// full and in a lean form. A standalone program carries them, and builds nothing.
#[derive(Debug, Clone, Args)]
pub struct BuildArgs {
    /// Write the modules into this folder, too
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out: Option<PathBuf>,
    /// Write a copy of this program that carries the modules, and needs neither a checkout nor Rust
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub standalone: Option<PathBuf>,
    /// Print one JSON array
    #[arg(long)]
    pub json: bool,
}

/// Builds the modules and prints one line for each on stdout, or with `json` one array.
///
/// # Errors
/// As [`modules::build`]; if a folder cannot be written.
pub fn run(args: &BuildArgs) -> anyhow::Result<ExitCode> {
    let modules = match &args.out {
        Some(folder) => modules::build_into(folder)?,
        None => modules::build()?,
    };
    if let Some(program) = &args.standalone {
        let mut files = modules.to_carry()?;
        let origin = serde_json::to_vec(&Origin::find(modules::TARGET)?)?;
        files.insert(Origin::FILE.to_owned(), origin);
        write_standalone(&carried::tail(&files)?, program)?;
    }
    let text = if args.json {
        format!("{}\n", as_json(&modules))
    } else {
        as_text(&modules)
    };
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes this program with `tail` behind it to `path`.
fn write_standalone(tail: &[u8], path: &Path) -> anyhow::Result<()> {
    let this = std::env::current_exe().context("cannot tell which file this program is")?;
    ensure!(
        carried::files()?.is_none(),
        "--standalone: this program carries the modules already: copy {}",
        this.display()
    );
    let mut program = fs::read(&this).with_context(|| format!("cannot read {}", this.display()))?;
    program.extend_from_slice(tail);
    paths::write_atomically(path, &program)?;
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(path, executable)
        .with_context(|| format!("cannot make {} executable", path.display()))
}

fn as_text(modules: &Modules) -> String {
    let line = |module: &Module| {
        format!(
            "{:<8}{:>9}, {} as compiled  {}\n",
            module.name,
            kilobytes(module.bytes),
            kilobytes(module.compiled_bytes),
            module.path.display()
        )
    };
    modules.all().map(line).collect()
}

fn as_json(modules: &Modules) -> Value {
    let object = |module: &Module| {
        json!({
            "name": module.name,
            "lean": module.is_lean,
            "path": module.path,
            "bytes": module.bytes,
            "compiledBytes": module.compiled_bytes,
            "sha256": module.sha256,
        })
    };
    modules.all().map(object).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules() -> Modules {
        let module = |name, suffix: &str, bytes| Module {
            name,
            is_lean: !suffix.is_empty(),
            path: format!("/t/meridian_{name}{suffix}.wasm").into(),
            compiled_bytes: 210_987,
            bytes,
            sha256: "ab".to_owned(),
        };
        let built = [
            module("ingress", "", 123_456),
            module("egress", "", 98_000),
            module("sidecar", "", 9),
        ];
        let lean = ["ingress", "egress", "sidecar"].map(|name| module(name, "_lean", 1_000));
        let [ingress, egress, sidecar] = built.each_ref().map(|module| module.path.clone());
        Modules {
            ingress,
            egress,
            sidecar,
            built,
            lean,
        }
    }

    #[test]
    fn each_module_has_a_line() {
        assert_eq!(
            as_text(&modules()),
            "\
ingress  123.4 kB, 210.9 kB as compiled  /t/meridian_ingress.wasm
egress    98.0 kB, 210.9 kB as compiled  /t/meridian_egress.wasm
sidecar    0.0 kB, 210.9 kB as compiled  /t/meridian_sidecar.wasm
ingress    1.0 kB, 210.9 kB as compiled  /t/meridian_ingress_lean.wasm
egress     1.0 kB, 210.9 kB as compiled  /t/meridian_egress_lean.wasm
sidecar    1.0 kB, 210.9 kB as compiled  /t/meridian_sidecar_lean.wasm
"
        );
    }

    #[test]
    fn each_module_is_an_object() {
        let json = as_json(&modules());
        assert_eq!(json[1]["name"], "egress");
        assert_eq!(json[1]["bytes"], 98_000);
        assert_eq!(json[2]["path"], "/t/meridian_sidecar.wasm");
        assert_eq!(
            (&json[2]["lean"], &json[5]["lean"]),
            (&json!(false), &json!(true))
        );
    }
}
