//! A stand-in for the image that Rust's makers publish: this machine's Rust, what Debian's C compiler and
//! a shell are made of, and the crates that Cargo has downloaded.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::engine::{Engine, succeed};
use crate::images::Root;

/// As the Dockerfile names it.
pub const RUST: &str = "rust:stand-in";

/// Debian's packages, with all that they depend on.
const PACKAGES: [&str; 7] = [
    "coreutils",
    "dash",
    "findutils",
    "gcc",
    "grep",
    "libc6-dev",
    "sed",
];

/// Nobody reads these in a container.
const LEFT_OUT: [&str; 4] = [
    "/usr/share/doc",
    "/usr/share/info",
    "/usr/share/locale",
    "/usr/share/man",
];

const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Makes [`RUST`], whose Cargo needs no network.
pub fn rust(engine: &Engine) {
    let changes = [
        "ENV PATH=/usr/local/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "ENV CARGO_HOME=/usr/local/cargo",
        "ENV CARGO_NET_OFFLINE=true",
    ];
    let mut root = Root::of_image(engine, RUST, &changes);
    // What /bin, /lib and /sbin are links to.
    for folder in ["/usr/bin", "/usr/lib", "/usr/lib64", "/usr/sbin"] {
        root.folder(folder, 0o755);
    }
    for package in with_dependencies(&PACKAGES) {
        let files = succeed(Command::new("dpkg").args(["-L", &package]));
        for file in files.lines().map(Path::new) {
            if !LEFT_OUT.iter().any(|folder| file.starts_with(folder)) {
                take(&mut root, file, file);
            }
        }
    }
    // Debian's alternatives are of no package.
    root.link("/usr/bin/cc", "gcc");
    root.copy(Path::new(CERTIFICATES), Path::new(CERTIFICATES));

    let sysroot = succeed(Command::new("rustc").args(["--print", "sysroot"]));
    let sysroot = Path::new(sysroot.trim());
    for wanted in ["bin/cargo", "bin/rustc", "lib"] {
        let target = Path::new("/usr/local/rust").join(wanted);
        take_all(&mut root, &sysroot.join(wanted), &target);
    }
    let cargo = std::env::var_os("CARGO_HOME").map_or_else(
        || std::env::home_dir().unwrap().join(".cargo"),
        PathBuf::from,
    );
    for wanted in ["registry/cache", "registry/index"] {
        let target = Path::new("/usr/local/cargo").join(wanted);
        take_all(&mut root, &cargo.join(wanted), &target);
    }
    root.finish();
}

/// The packages and what they depend on, of what is installed here.
fn with_dependencies(packages: &[&str]) -> BTreeSet<String> {
    let mut wanted: Vec<String> = packages.iter().map(ToString::to_string).collect();
    let mut found = BTreeSet::new();
    while let Some(package) = wanted.pop() {
        let format = "--showformat=${db:Status-Abbrev}|${Pre-Depends},${Depends}";
        let mut query = Command::new("dpkg-query");
        let answer = query.args(["--show", format, &package]).output().unwrap();
        let answer = String::from_utf8(answer.stdout).unwrap();
        // A virtual package is none, and of several that will do one is installed.
        let Some(list) = answer.strip_prefix("ii |") else {
            continue;
        };
        if found.insert(package) {
            let names = list.split([',', '|']).filter_map(|entry| {
                let name = entry.trim().split([' ', ':']).next()?;
                (!name.is_empty()).then(|| name.to_owned())
            });
            wanted.extend(names);
        }
    }
    found
}

/// Puts a file or a link of this machine into the image; folders come with what is in them.
fn take(root: &mut Root, source: &Path, target: &Path) {
    let Ok(metadata) = source.symlink_metadata() else {
        // A package may list what an administrator has removed.
        return;
    };
    if metadata.is_symlink() {
        let to = source.read_link().unwrap();
        root.link(target.to_str().unwrap(), to.to_str().unwrap());
    } else if metadata.is_file() {
        root.copy(source, target);
    }
}

/// Puts a file, or all that is below a folder, into the image.
fn take_all(root: &mut Root, source: &Path, target: &Path) {
    if source.is_dir() && !source.is_symlink() {
        for entry in source.read_dir().unwrap() {
            let name = entry.unwrap().file_name();
            take_all(root, &source.join(&name), &target.join(&name));
        }
    } else {
        take(root, source, target);
    }
}
