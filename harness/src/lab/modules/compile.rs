//! Has Cargo compile crates for the modules' target, so that the same sources give the same bytes.

use std::ffi::OsString;
use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use super::wasm_target;
use crate::lab::paths;

/// The target the modules are compiled for: without WASI, so that they import from `env` alone.
pub const TARGET: &str = "wasm32-unknown-unknown";
const PROFILE: &str = "wasm";

/// Makes sure that the modules' target is installed, with rustup where it is missing.
///
/// # Errors
/// If it is not there and cannot be installed.
pub fn ensure_target() -> anyhow::Result<()> {
    wasm_target::ensure(TARGET)
}

/// Where Cargo leaves what it compiles for the modules.
pub(super) fn folder() -> anyhow::Result<PathBuf> {
    Ok(paths::target_dir()?.join(TARGET).join(PROFILE))
}

/// Has Cargo compile the crates, which returns at once when nothing has changed.
pub(super) fn compile(packages: &[String]) -> anyhow::Result<()> {
    let root = paths::workspace_root()?;
    let mut command = Command::new(cargo());
    command
        .current_dir(&root)
        .args(["build", "--profile", PROFILE, "--target", TARGET])
        .arg("--target-dir")
        .arg(paths::target_dir()?)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(&root))
        .stdin(Stdio::null());
    for package in packages {
        command.args(["--package", package]);
    }
    eprintln!("Modules: compiling for {TARGET}");
    let on_terminal = std::io::stderr().is_terminal();
    if on_terminal {
        command.stdout(Stdio::null()).stderr(Stdio::inherit());
    }
    let output = command
        .output()
        .context("cannot start cargo, which compiles the modules: install Rust from rustup.rs")?;
    if !output.status.success() {
        std::io::stderr().write_all(&output.stderr)?;
        bail!("the modules do not compile: Cargo's messages are above");
    }
    Ok(())
}

/// `$CARGO`, which Cargo sets for what it runs, else the one on the PATH.
fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// The compiler's flags instead of the user's, which are meant for this machine (as
/// `target-cpu=native` or a coverage run's are): panic messages hold paths, and these make them
/// the same everywhere. Cargo's separator is 0x1f.
fn rustflags(root: &Path) -> OsString {
    let cargo_home = std::env::var_os("CARGO_HOME")
        .filter(|home| !home.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    // Of several prefixes that fit the compiler takes the last: a registry's folder has a name that
    // depends on the registry.
    let registries = cargo_home.iter().flat_map(|home| {
        let folders = fs::read_dir(home.join("registry/src"));
        let folders = folders.into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = folders.map(|folder| folder.path()).collect();
        paths.sort();
        paths
    });
    let maps = [
        (cargo_home.clone(), "/cargo"),
        (Some(root.to_owned()), "/meridian"),
    ]
    .into_iter()
    .filter_map(|(from, to)| Some((from?, to)))
    .chain(registries.map(|folder| (folder, "/crates")));
    // sha2 as a loop: unrolled, it is several kilobytes of a module.
    let mut flags = OsString::from("--cfg\x1fsha2_backend_soft=\"compact\"");
    // What is reached when the SDK's exports have gone is known by these alone.
    flags.push("\x1f-Clink-arg=--emit-relocs");
    for (from, to) in maps {
        flags.push("\x1f--remap-path-prefix=");
        flags.push(from);
        flags.push("=");
        flags.push(to);
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_this_machine_are_mapped_away() {
        let flags = rustflags(Path::new("/somewhere")).into_string().unwrap();
        assert!(
            flags.contains("--remap-path-prefix=/somewhere=/meridian"),
            "{flags}"
        );
    }
}
