//! `meridian pack`: what is in the folder, and what registries are sent.

mod layout;
mod registry;
mod token;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use flate2::read::GzDecoder;
use serde_json::Value;

use meridian::text::sha256::sha256;

/// What becomes of `meridian pack` with these arguments, and with Docker's configuration in a folder.
fn pack(docker: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_meridian"))
        .arg("pack")
        .args(arguments)
        .env("DOCKER_CONFIG", docker)
        .output()
        .unwrap()
}

/// The `modules` that it prints.
fn modules(output: &Output) -> Vec<Value> {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    printed["modules"].as_array().unwrap().clone()
}

fn assert_fails(output: &Output, expected: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains(expected), "{error}");
    assert_eq!(output.status.code(), Some(2), "{error}");
}

/// The module in an image's layer.
fn plugin_in(layer: &[u8]) -> Vec<u8> {
    let mut archive = tar::Archive::new(GzDecoder::new(layer));
    let mut entries = archive.entries().unwrap();
    let mut entry = entries.next().unwrap().unwrap();
    assert_eq!(entry.path().unwrap(), Path::new("plugin.wasm"));
    let mut wasm = Vec::new();
    entry.read_to_end(&mut wasm).unwrap();
    assert!(entries.next().is_none());
    wasm
}

/// A blob of a layout, which is what its digest and size say.
fn blob(layout: &Path, descriptor: &Value) -> Vec<u8> {
    let digest = descriptor["digest"].as_str().unwrap();
    let name = digest.strip_prefix("sha256:").unwrap();
    let bytes = fs::read(layout.join("blobs/sha256").join(name)).unwrap();
    assert_eq!(sha256(&bytes), name);
    assert_eq!(descriptor["size"], bytes.len());
    bytes
}

/// Every file below a folder, by its path in it.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_owned();
                files.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}
