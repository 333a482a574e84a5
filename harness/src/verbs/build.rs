//! `meridian build`: the modules, with their sizes.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueHint};
use serde_json::{Value, json};

use crate::lab::modules::{self, Module, Modules};
use crate::lab::paths;
use crate::text::numbers::kilobytes;

/// Build the modules and print their sizes
///
/// Each module is stripped of the callbacks and host calls that it does not use, and is built in a
/// full and in a lean form.
#[derive(Debug, Clone, Args)]
pub struct BuildArgs {
    /// Copy the modules into this folder, for Envoys that are told to read them there
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out: Option<PathBuf>,
    /// Print one JSON array
    #[arg(long)]
    pub json: bool,
}

/// Builds the modules and prints one line for each on stdout, or with `json` one array.
///
/// # Errors
/// As [`modules::build`]; if a copy cannot be written.
pub fn run(args: &BuildArgs) -> anyhow::Result<ExitCode> {
    let mut modules = modules::build()?;
    if let Some(folder) = &args.out {
        for module in modules.built.iter_mut().chain(&mut modules.lean) {
            let name = module.path.file_name().context("a module without a name")?;
            let copy = folder.join(name);
            let bytes = std::fs::read(&module.path)
                .with_context(|| format!("cannot read {}", module.path.display()))?;
            paths::write_atomically(&copy, &bytes)?;
            module.path = copy;
        }
    }
    if args.json {
        println!("{}", as_json(&modules));
    } else {
        print!("{}", as_text(&modules));
    }
    Ok(ExitCode::SUCCESS)
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
    modules
        .built
        .iter()
        .chain(&modules.lean)
        .map(line)
        .collect()
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
    modules
        .built
        .iter()
        .chain(&modules.lean)
        .map(object)
        .collect()
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
