//! `examples/docker/Dockerfile` on a real engine, without a network, with stand-ins for the images that it
//! is built from.

use std::path::Path;
use std::process::{Command, Stdio};

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

    the_command_line_needs_nothing(&engine, &name);
    names_are_resolved(&engine, &name);

    compose::two_commands_work(&engine);

    build(&engine, "envoy", "envoy-with-modules", &[]);
    for role in ["ingress", "egress", "sidecar"] {
        let configuration = format!("/etc/envoy/{role}.yaml");
        engine.docker([
            "run",
            "--rm",
            "--network",
            "none",
            "--user",
            "101",
            "envoy-with-modules",
            "envoy",
            "--mode",
            "validate",
            "-c",
            &configuration,
        ]);
    }
    engine.end();
}

/// The command line without a checkout, a network, a writable file system or a user that is known.
fn the_command_line_needs_nothing(engine: &Engine, image: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mount = format!("{}:/work", folder.path().display());
    std::fs::set_permissions(
        folder.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o777),
    )
    .unwrap();
    let run = |arguments: &[&str]| {
        let mut command = engine.command("docker");
        command.args(["run", "--rm", "--read-only", "--network", "none"]);
        command.args(["--cap-drop", "ALL", "--volume", &mount, image]);
        command.args(arguments);
        command
    };
    succeed(&mut run(&["docs", "samples", "--out", "."]));
    succeed(&mut run(&["check", "--policy", "policy.yaml"]));
    succeed(&mut run(&[
        "test",
        "--policy",
        "policy.yaml",
        "policy.test.yaml",
    ]));
    let explained = succeed(&mut run(&[
        "explain",
        "--policy",
        "policy.yaml",
        "--at",
        "ingress",
        "--authority",
        "shop.example.com",
    ]));
    assert!(explained.contains("allow"), "{explained}");
    succeed(&mut run(&[
        "render",
        "envoy",
        "--policy",
        "policy.yaml",
        "--out",
        "envoy",
    ]));
    succeed(&mut run(&["build", "--out", "modules"]));
    let module = std::fs::read(folder.path().join("modules/meridian_ingress.wasm")).unwrap();
    assert_eq!(
        module,
        std::fs::read(modules::build().unwrap().ingress).unwrap()
    );

    let packed = [
        "pack",
        "--policy",
        "policy.yaml",
        "--output",
        "oci",
        "--json",
    ];
    let packed = succeed(&mut run(&packed));
    let mut pack = Command::new(env!("CARGO_BIN_EXE_meridian"));
    pack.arg("pack")
        .arg("--policy")
        .arg(folder.path().join("policy.yaml"));
    pack.arg("--output")
        .arg(folder.path().join("of-checkout"))
        .arg("--json");
    let of_checkout = succeed(pack.stderr(Stdio::null()));
    let digests = |text: &str| {
        let list: serde_json::Value = serde_json::from_str(text).unwrap();
        let modules = list["modules"].as_array().unwrap();
        let digests = modules.iter().map(|module| module["sha256"].to_string());
        digests.collect::<Vec<_>>()
    };
    assert_eq!(digests(&packed), digests(&of_checkout));

    let mut logs = run(&["learn", "policy.yaml"]);
    let told = logs.output().unwrap();
    assert_eq!(told.status.code(), Some(2), "{told:?}");
    let mut bench = run(&["bench"]);
    let told = bench.output().unwrap();
    let told = String::from_utf8(told.stderr).unwrap();
    assert!(told.contains("error: "), "{told}");
}

/// A static program asks for names itself: of Docker's own server here.
fn names_are_resolved(engine: &Engine, image: &str) {
    engine.docker(["network", "create", "names"]);
    let top = |target: &str| {
        let mut command = engine.command("docker");
        command.args(["run", "--rm", "--network", "names", image]);
        let told = command.args(["top", "--once", target]).output().unwrap();
        String::from_utf8([told.stdout, told.stderr].concat()).unwrap()
    };
    let told = top("nowhere:9901");
    assert!(told.contains("lookup"), "{told}");
    engine.docker([
        "run",
        "--detach",
        "--network",
        "names",
        "--name",
        "somewhere",
        "--stop-timeout",
        "1",
        images::ENVOY,
        "sleep",
        "600",
    ]);
    let told = top("somewhere:9901");
    assert!(told.contains("refused"), "{told}");
}
