//! The engine itself: it has a network of its own, and ends with everything in it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use meridian::lab::child::ChildProcess;

use crate::engine::{Engine, succeed, until};
use crate::images::{self, Root};

/// An image with a shell and nothing else.
fn import_shell(engine: &Engine) {
    let mut root = Root::of_image(engine, "shell", &[]);
    root.shell();
    root.finish();
}

#[test]
fn stand_ins_run_as_the_official_images_do() {
    let Some(engine) = Engine::start() else {
        return;
    };
    images::envoy(&engine);
    images::nginx(&engine);
    images::prometheus(&engine);
    images::grafana(&engine);
    images::meridian(&engine);

    let user = ["--rm", "--read-only", "--user", "101"];
    let run = |arguments: &[&str]| {
        let mut command = engine.command("docker");
        succeed(command.arg("run").args(user).args(arguments))
    };
    assert!(run(&[images::ENVOY, "envoy", "--version"]).contains("1.40.0"));
    assert!(run(&[images::ENVOY, "--version"]).contains("1.40.0"));
    assert_eq!(run(&[images::ENVOY, "bash", "-c", "id -un"]), "envoy\n");
    run(&[images::NGINX, "nginx", "-v"]);
    assert!(run(&[images::PROMETHEUS, "--version"]).contains("version"));
    let id = engine.docker([
        "run",
        "-d",
        "-p",
        "127.0.0.1:3000:3000",
        "--tmpfs",
        "/tmp:mode=1777",
        "--read-only",
        images::GRAFANA,
    ]);
    let mut health = String::new();
    until("the stand-in for Grafana answers", || {
        let url = "http://127.0.0.1:3000/api/health";
        let answer = engine.command("curl").args(["-sf", url]).output().unwrap();
        health = String::from_utf8(answer.stdout).unwrap();
        answer.status.success()
    });
    assert_eq!(health, "{\"database\":\"ok\",\"version\":\"stand-in\"}\n");
    engine.docker(["rm", "-f", id.trim()]);
    let modules = [
        "--tmpfs",
        "/tmp",
        &images::meridian_name(),
        "build",
        "--json",
    ];
    assert!(run(&modules).contains("/tmp/meridian/meridian/meridian_ingress.wasm"));
    assert!(run(&[&images::meridian_name(), "--version"]).starts_with("meridian "));
    engine.end();
}

#[test]
fn a_project_runs_and_nothing_of_it_is_left() {
    let Some(engine) = Engine::start() else {
        return;
    };
    import_shell(&engine);
    let folder = tempfile::tempdir().unwrap();
    let project = "services: {one: {image: shell, command: [sleep, '600']}}\nversion: '3.8'\n";
    std::fs::write(folder.path().join("docker-compose.yml"), project).unwrap();
    engine.compose(folder.path(), ["up", "-d"]);
    let sleeps = |engine: &Engine| engine.processes().contains(&"sleep 600 ".to_owned());
    assert!(sleeps(&engine), "{:?}", engine.processes());
    engine.compose(folder.path(), ["down", "-t", "0"]);
    assert!(!sleeps(&engine));
    assert_eq!(engine.docker(["ps", "-aq"]), "");
    // One that is not asked to end.
    engine.docker(["run", "-d", "--stop-timeout", "1", "shell", "sleep", "600"]);
    engine.end();
}

/// The test that `kill_9_of_the_test_ends_its_containers` kills; does nothing by itself.
#[test]
fn test_to_be_killed() {
    let Some(report) = std::env::var_os("MERIDIAN_TEST_ENGINE") else {
        return;
    };
    let engine = Engine::start().unwrap();
    import_shell(&engine);
    engine.docker(["run", "-d", "shell", "sleep", "601"]);
    std::fs::write(PathBuf::from(report), "started").unwrap();
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn kill_9_of_the_test_ends_its_containers() {
    // Waits for its turn, and says so where there is no engine.
    let Some(engine) = Engine::start() else {
        return;
    };
    engine.end();
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "life::test_to_be_killed"])
        .env("MERIDIAN_TEST_ENGINE", &report);
    let test = ChildProcess::spawn(command, &folder.path().join("log")).unwrap();
    until("the other test has a container", || report.exists());
    let sleeping = || {
        let all = Path::new("/proc").read_dir().unwrap().flatten();
        let commands =
            all.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
        commands
            .filter(|command| command == "sleep\x00601\0")
            .count()
    };
    assert_eq!(sleeping(), 1);
    drop(test);
    until("the container has ended", || sleeping() == 0);
    // The next engine removes what the killed one left.
    let engine = Engine::start().expect("it has started before");
    let engines = meridian::lab::paths::target_dir().unwrap().join("docker");
    assert_eq!(engines.read_dir().unwrap().count(), 1);
    engine.end();
}
