//! Makes sure that the Rust toolchain can compile for wasm.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};

use crate::lab::paths;

/// Adds the standard library for `target` with rustup if the toolchain lacks it.
///
/// # Errors
/// If it is missing and rustup is too, or rustup fails; says what to install.
pub(super) fn ensure(target: &str) -> anyhow::Result<()> {
    if is_installed(target)? {
        return Ok(());
    }
    eprintln!("Modules: Rust lacks {target}, running `rustup target add {target}`");
    let advice = || {
        format!(
            "Rust's standard library for {target} is missing: install it with \
             `rustup target add {target}`, or with your distribution's package for it"
        )
    };
    let status = Command::new("rustup")
        // Where a rust-toolchain file may choose the toolchain, as it does for cargo.
        .current_dir(paths::workspace_root()?)
        .args(["target", "add", target])
        // Its output is progress.
        .stdout(std::io::stderr())
        .status()
        .with_context(advice)?;
    if !status.success() || !is_installed(target)? {
        bail!("{}; rustup could not ({status})", advice());
    }
    Ok(())
}

/// Asks the compiler itself, so that toolchains which rustup does not know count too.
fn is_installed(target: &str) -> anyhow::Result<bool> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(&rustc)
        .current_dir(paths::workspace_root()?)
        .args(["--print", "target-libdir", "--target", target])
        .output()
        .with_context(|| {
            format!(
                "cannot start {}: install Rust from rustup.rs",
                rustc.display()
            )
        })?;
    if !output.status.success() {
        bail!(
            "this Rust cannot compile for {target}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let folder = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    // The folder is made by some distributions even where the libraries are not installed.
    Ok(folder
        .read_dir()
        .is_ok_and(|mut libraries| libraries.next().is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_installed_and_an_unknown_target_is_an_error() {
        let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        assert!(is_installed(&host).unwrap());
        assert!(is_installed("pdp11-dec-unix").is_err());
    }
}
