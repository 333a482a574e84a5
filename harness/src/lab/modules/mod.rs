//! Builds the three modules: compiled by Cargo, stripped to what they do, under `target/meridian`.

mod strip;
mod wasm_target;

use std::ffi::OsString;
use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};

use strip::ON_LOG;
pub use strip::strip;

use crate::lab::paths;

/// The target the modules are compiled for: without WASI, so that they import from `env` alone.
const TARGET: &str = "wasm32-unknown-unknown";
const PROFILE: &str = "wasm";
/// The end of a module's name that lacks the callback at the end of a request.
pub const LEAN: &str = "_lean";

/// One module, before it is built.
#[derive(Clone, Copy)]
struct Recipe<'e> {
    /// Added to the name of the file.
    suffix: &'static str,
    /// As in `meridian-NAME` (the crate) and `meridian_NAME.wasm`.
    name: &'static str,
    /// The exports to keep. The SDK exports every callback of the ABI, and Envoy calls into the
    /// VM for each one it finds, so a callback that a filter does not use costs a crossing a
    /// request. A filter that starts to use a callback must have it added here.
    exports: &'e [&'static str],
    /// Of these the ones that are not the SDK's.
    own: &'e [&'static str],
}

const RECIPES: [Recipe<'static>; 3] = [
    Recipe {
        name: "ingress",
        suffix: "",
        exports: EXPORTS,
        own: OWN,
    },
    Recipe {
        name: "egress",
        suffix: "",
        exports: EXPORTS,
        own: OWN,
    },
    Recipe {
        name: "sidecar",
        suffix: "",
        exports: EXPORTS,
        own: OWN,
    },
];

/// What a filter needs that decides at the request's headers, or before a connection is passed on.
const EXPORTS: &[&str] = &[
    // The host's side of the ABI: without these it refuses the module.
    "memory",
    "proxy_abi_version_0_2_1",
    // Sets the root context.
    "_initialize",
    // How the host passes a buffer into the VM.
    "malloc",
    "proxy_on_context_create",
    "proxy_on_configure",
    "proxy_on_request_headers",
    // Only for requests that have any: a client's tags are taken out of them.
    "proxy_on_request_trailers",
    // Only for policies with a rule that expires: the day is read.
    "proxy_on_tick",
    // Of a network filter alone. The sidecar's module has it too: a network filter whose module
    // lacks it would let everything pass, and this one refuses.
    "proxy_on_new_connection",
    // Responses and durations, when a request has ended. A module without it refuses a policy that
    // measures them.
    ON_LOG,
    // What is kept of a request is freed only here.
    "proxy_on_delete",
];

/// What the filters do themselves, in `meridian-plugin`'s `dispatch.rs` and `allocator.rs`.
const OWN: &[&str] = &[
    "malloc",
    "proxy_on_context_create",
    "proxy_on_request_headers",
    "proxy_on_request_trailers",
    "proxy_on_new_connection",
    ON_LOG,
    "proxy_on_delete",
];

/// Of [`EXPORTS`], what only a filter does that decides over connections or trailers, or reads a clock.
const UNUSED_BY_YARDSTICK: [&str; 3] = [
    "proxy_on_request_trailers",
    "proxy_on_tick",
    "proxy_on_new_connection",
];

/// The host calls that the filters make, in `meridian-plugin`'s `host.rs` and in the SDK's logger.
/// A filter that starts to make another must have it added here.
const HOST_CALLS: &[&str] = &[
    "proxy_call_foreign_function",
    "proxy_close_stream",
    "proxy_define_metric",
    "proxy_get_buffer_bytes",
    "proxy_get_current_time_nanoseconds",
    "proxy_get_header_map_value",
    "proxy_get_property",
    "proxy_increment_metric",
    "proxy_log",
    "proxy_record_metric",
    "proxy_remove_header_map_value",
    "proxy_replace_header_map_value",
    "proxy_send_local_response",
    "proxy_set_property",
    "proxy_set_tick_period_milliseconds",
];

/// The three modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Modules {
    /// The path of the ingress gateway's module.
    pub ingress: PathBuf,
    /// The path of the egress gateway's module.
    pub egress: PathBuf,
    /// The path of the sidecars' module.
    pub sidecar: PathBuf,
    /// Each of them in detail, in this order.
    pub built: [Module; 3],
    /// The same for policies that measure nothing when a request ends: `meridian_NAME_lean.wasm`.
    pub lean: [Module; 3],
}

/// One built module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// `ingress`, `egress` or `sidecar`.
    pub name: &'static str,
    /// True if it lacks the callback at the end of a request.
    pub is_lean: bool,
    /// Where it is.
    pub path: PathBuf,
    /// Its size as Cargo left it, in bytes.
    pub compiled_bytes: u64,
    /// Its size, in bytes.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal, as Istio's `sha256` wants it.
    pub sha256: String,
}

/// Makes sure that the modules' target is installed, with rustup where it is missing.
///
/// # Errors
/// If it is not there and cannot be installed.
pub fn ensure_target() -> anyhow::Result<()> {
    wasm_target::ensure(TARGET)
}

/// Builds the modules that are not up to date. The same sources and toolchain give the same
/// bytes, wherever the checkout is.
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
    ensure_target()?;
    compile(&RECIPES.map(|recipe| format!("meridian-{}", recipe.name)))?;
    let compiled = paths::target_dir()?.join(TARGET).join(PROFILE);
    let all = |recipes: [Recipe<'_>; 3]| {
        let [ingress, egress, sidecar] = recipes.map(|recipe| finish(&recipe, &compiled, &folder));
        anyhow::Ok([ingress?, egress?, sidecar?])
    };
    let built = all(RECIPES)?;
    let without_on_log: Vec<&str> = EXPORTS
        .iter()
        .copied()
        .filter(|export| *export != ON_LOG)
        .collect();
    let lean = all(RECIPES.map(|recipe| Recipe {
        suffix: LEAN,
        exports: &without_on_log,
        ..recipe
    }))?;
    let [ingress, egress, sidecar] = built.each_ref().map(|module| module.path.clone());
    Ok(Modules {
        ingress,
        egress,
        sidecar,
        built,
        lean,
    })
}

/// The module that `meridian bench` measures the filters against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Yardstick {
    /// As Cargo left it: with every callback that the SDK exports.
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
    compile(&["meridian-yardstick".to_owned()])?;
    let compiled = paths::target_dir()?.join(TARGET).join(PROFILE);
    let exports = EXPORTS
        .iter()
        .copied()
        .filter(|export| !UNUSED_BY_YARDSTICK.contains(export));
    let recipe = Recipe {
        name: "yardstick",
        suffix: "",
        exports: &exports.collect::<Vec<_>>(),
        own: &[],
    };
    // Beside the others, so that the next build of something else does not take it away.
    let plain = folder.join("meridian_yardstick.plain.wasm");
    let module = fs::read(compiled.join("meridian_yardstick.wasm"))?;
    paths::write_atomically(&plain, &module)?;
    Ok(Yardstick {
        plain,
        stripped: finish(&recipe, &compiled, &folder)?.path,
    })
}

/// Has Cargo compile the crates, which returns at once when nothing has changed.
fn compile(packages: &[String]) -> anyhow::Result<()> {
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
    for (from, to) in maps {
        flags.push("\x1f--remap-path-prefix=");
        flags.push(from);
        flags.push("=");
        flags.push(to);
    }
    flags
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
        let module = strip(&compiled, recipe.own, recipe.exports, HOST_CALLS)
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
    for list in [recipe.exports, recipe.own, HOST_CALLS] {
        source.extend_from_slice(list.join(",").as_bytes());
    }
    source.extend_from_slice(include_bytes!("strip.rs"));
    sha256(&source)
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
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
            exports: &[],
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

    #[test]
    fn paths_of_this_machine_are_mapped_away() {
        let flags = rustflags(Path::new("/somewhere")).into_string().unwrap();
        assert!(
            flags.contains("--remap-path-prefix=/somewhere=/meridian"),
            "{flags}"
        );
    }
}
