//! `examples/docker/Dockerfile` on a real engine, without a network, with stand-ins for the images that it
//! is built from.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use meridian::lab::compose::{CERTIFICATE_FOLDERS, write_certificates};
use meridian::lab::{modules, paths};

use crate::compose;
use crate::engine::{Engine, succeed};
use crate::images;
use crate::rust_image::{self, RUST};

const FILE: &str = "examples/docker/Dockerfile";

/// Builds a target of the checkout's Dockerfile; what is built already is not built again.
fn build(engine: &Engine, target: &str, name: &str, arguments: &[&str]) {
    let root = paths::workspace_root().unwrap();
    let mut command = engine.command("docker");
    command
        .args(["build", "--network", "none", "--quiet", "--file"])
        .arg(root.join(FILE))
        .args(["--target", target, "--tag", name])
        .args(["--build-arg", &format!("RUST_IMAGE={RUST}")]);
    for argument in arguments {
        command.args(["--build-arg", argument]);
    }
    succeed(command.arg(root));
}

/// The contents of a file of an image.
fn file_of(engine: &Engine, image: &str, path: &str, folder: &Path) -> Vec<u8> {
    // An image of one file has nothing to run, and Docker asks for a command.
    let container = engine.docker(["create", image, "nothing"]);
    let target = folder.join("file");
    let source = format!("{}:{path}", container.trim());
    engine.docker(["cp", &source, target.to_str().unwrap()]);
    engine.docker(["rm", container.trim()]);
    std::fs::read(target).unwrap()
}

/// The folders that volumes are mounted on, writable for every service's user.
fn volumes_have_their_folders(engine: &Engine, image: &str) {
    let container = engine.docker(["create", image]);
    let mut export = engine.command("docker");
    let export = export.args(["export", container.trim()]).output().unwrap();
    engine.docker(["rm", container.trim()]);
    let mut archive = tar::Archive::new(export.stdout.as_slice());
    let modes: BTreeMap<String, u32> = archive
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            (path, entry.header().mode().unwrap() & 0o777)
        })
        .collect();
    let certificates = CERTIFICATE_FOLDERS.map(|folder| format!("certificates/{folder}/"));
    let others = ["modules/", "filters/"].map(str::to_owned);
    for folder in certificates.into_iter().chain(others) {
        assert_eq!(modes.get(&folder), Some(&0o777), "{folder} in {modes:?}");
    }
}

#[test]
fn the_images_hold_what_the_checkout_builds() {
    let Some(engine) = Engine::start() else {
        return;
    };
    rust_image::rust(&engine);
    images::envoy(&engine);
    let name = images::meridian_name();
    build(&engine, "meridian", &name, &[]);
    let folder = tempfile::tempdir().unwrap();

    let built = modules::build().unwrap();
    for module in built.all() {
        let file = module.path.file_stem().unwrap().to_str().unwrap();
        let argument = format!("MODULE={}", file.trim_start_matches("meridian_"));
        build(&engine, "modules", file, &[&argument]);
        let packed = file_of(&engine, file, "/plugin.wasm", folder.path());
        let expected = std::fs::read(&module.path).unwrap();
        assert!(
            packed == expected,
            "{file} differs from what the checkout builds"
        );
    }

    volumes_have_their_folders(&engine, &name);
    the_command_line_needs_nothing(&engine, &name);
    names_are_resolved(&engine, &name);

    compose::two_commands_work(&engine);

    build(&engine, "envoy", "envoy-with-modules", &[]);
    envoy_takes_its_configurations(&engine, "envoy-with-modules");
    engine.end();
}

/// The command line without a checkout, a network, a writable file system or a user that is known.
fn the_command_line_needs_nothing(engine: &Engine, image: &str) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    let mount = format!("{}:/work", folder.path().display());
    let run = |arguments: &str| {
        let mut command = engine.command("docker");
        command.args(["run", "--rm", "--read-only", "--network", "none"]);
        command.args([
            "--cap-drop",
            "ALL",
            "--volume",
            &mount,
            "--workdir",
            "/work",
        ]);
        // Modules are written before they are packed.
        command.args(["--env", "XDG_CACHE_HOME=/work/cache", image]);
        command.args(arguments.split(' '));
        command
    };
    succeed(&mut run("docs samples --out ."));
    succeed(&mut run("check --policy policy.yaml"));
    succeed(&mut run("test --policy policy.yaml policy.test.yaml"));
    let explained = "explain --policy policy.yaml --at ingress --authority shop.example.com";
    let explained = succeed(&mut run(explained));
    assert!(explained.contains("allow"), "{explained}");
    succeed(&mut run("render envoy --policy policy.yaml --out envoy"));
    succeed(&mut run("build --out modules"));
    let built = modules::build().unwrap();
    let module = std::fs::read(folder.path().join("modules/meridian_ingress.wasm")).unwrap();
    assert!(module == std::fs::read(built.ingress).unwrap());

    let pack = "pack --policy policy.yaml --json --output";
    let packed = succeed(&mut run(&format!("{pack} oci")));
    let mut of_checkout = Command::new(env!("CARGO_BIN_EXE_meridian"));
    of_checkout.current_dir(folder.path());
    of_checkout.args(pack.split(' ')).arg("of-checkout");
    let digests = |text: &str| {
        let list: serde_json::Value = serde_json::from_str(text).unwrap();
        let modules = list["modules"].as_array().unwrap();
        let digests = modules.iter().map(|module| module["sha256"].to_string());
        digests.collect::<Vec<_>>()
    };
    assert_eq!(digests(&packed), digests(&succeed(&mut of_checkout)));

    for (arguments, reason) in [
        ("demo", "name a binary of your own with --envoy"),
        ("mesh", "a mesh needs"),
    ] {
        let refused = run(arguments).output().unwrap();
        let told = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{arguments}: {told}");
        assert!(told.contains(reason), "{arguments}: {told}");
    }
}

/// A static program asks for names itself: of Docker's own server here. Whoever is refused has the address.
fn names_are_resolved(engine: &Engine, image: &str) {
    engine.docker(["network", "create", "names"]);
    let run = "run --detach --network names --name somewhere --stop-timeout 1";
    let run = run.split(' ').chain([images::ENVOY, "sleep", "600"]);
    engine.docker(run);
    let mut command = engine.command("docker");
    command.args(["run", "--rm", "--network", "names", image]);
    let top = command.args(["top", "--once", "somewhere:9901"]).output();
    let told = String::from_utf8(top.unwrap().stderr).unwrap();
    assert!(told.contains("refused"), "{told}");
}

/// With certificates where Istio's proxies have them, which the image cannot know.
fn envoy_takes_its_configurations(engine: &Engine, image: &str) {
    let folder = tempfile::tempdir().unwrap();
    write_certificates(folder.path()).unwrap();
    let certificates = folder.path().join("ingress").display().to_string() + ":/etc/certs:ro";
    for role in ["ingress", "egress", "sidecar"] {
        let configuration = format!("/etc/envoy/{role}.yaml");
        let run = [
            "run",
            "--rm",
            "--network",
            "none",
            "--volume",
            &certificates,
        ];
        let validate = [image, "--mode", "validate", "-c", &configuration];
        engine.docker(run.iter().chain(&validate));
    }
}
