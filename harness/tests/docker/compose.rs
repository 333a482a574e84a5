//! The compose project of the examples, unchanged, on a real engine with stand-ins for the public images.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::engine::{Engine, succeed};
use crate::images;

/// How long a change of the policy may take to be in force.
const LIVE: Duration = Duration::from_secs(1);

/// A copy of the example project, with the image of the command line built from this checkout.
struct Project<'e> {
    engine: &'e Engine,
    folder: PathBuf,
    _temporary: tempfile::TempDir,
}

/// The project's two commands, with an image of the command line that is there already.
pub fn two_commands_work(engine: &Engine) {
    let project = Project::with_image_of_the_command_line(engine);
    project.runs_the_commands_of_its_readme();
    project.compose(&["down", "--volumes"]);
}

impl<'e> Project<'e> {
    fn new(engine: &'e Engine) -> Self {
        images::meridian(engine);
        Self::with_image_of_the_command_line(engine)
    }

    fn with_image_of_the_command_line(engine: &'e Engine) -> Self {
        images::envoy(engine);
        images::nginx(engine);
        images::prometheus(engine);
        images::grafana(engine);
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("project");
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/docker");
        succeed(Command::new("cp").arg("-r").arg(example).arg(&folder));
        Self {
            engine,
            folder,
            _temporary: temporary,
        }
    }

    fn compose(&self, arguments: &[&str]) -> String {
        let output = self
            .engine
            .compose_command(&self.folder)
            .args(arguments)
            .output()
            .unwrap();
        if !output.status.success() {
            let mut logs = self.engine.compose_command(&self.folder);
            let logs = logs.args(["logs", "--no-color", "--tail=20"]).output();
            panic!(
                "{arguments:?} {}\n{}\n{}",
                output.status,
                String::from_utf8_lossy(&output.stderr),
                String::from_utf8_lossy(&logs.unwrap().stdout),
            );
        }
        String::from_utf8(output.stdout).unwrap()
    }

    /// The status and the body of a request from the host.
    fn ask(&self, port: u16, host: &str, path: &str) -> (u16, String) {
        let mut curl = self.engine.command("curl");
        curl.args(["-s", "-m", "10", "-w", "\n%{http_code}", "-H"])
            .arg(format!("Host: {host}"))
            .arg(format!("http://127.0.0.1:{port}{path}"));
        let text = succeed(&mut curl);
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    /// The tag with which a request from the host arrived.
    fn tag(&self, port: u16, host: &str, path: &str) -> (String, String) {
        let (status, body) = self.ask(port, host, path);
        assert_eq!(status, 200, "{host}{path}: {body}");
        let arrival: Value = serde_json::from_str(&body).unwrap();
        let headers = arrival["headers"].as_array().unwrap();
        let tags: Vec<&str> = headers
            .iter()
            .filter(|header| header[0] == "x-traffic-direction")
            .map(|header| header[1].as_str().unwrap())
            .collect();
        (
            arrival["server"].as_str().unwrap().to_owned(),
            tags.join(","),
        )
    }

    /// The time until a request gets this status; at most ten seconds.
    fn until_status(&self, host: &str, expected: u16) -> Duration {
        let start = Instant::now();
        loop {
            let (status, _) = self.ask(8080, host, "/");
            if status == expected {
                return start.elapsed();
            }
            assert!(start.elapsed() < LIVE * 10, "{host} gets {status}");
        }
    }

    fn runs_the_commands_of_its_readme(&self) {
        let commands = readme_commands(&self.folder);
        assert_eq!(commands.len(), 2);
        for command in &commands {
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            let shown = self.compose(&words);
            if words[0] == "run" {
                for part in [
                    "16 requests, each as the policy says.\n",
                    "egress   north-south deny      2 ██",
                    "Prometheus' graph: http://127.0.0.1:9090/graph?",
                ] {
                    assert!(shown.contains(part), "{part}: {shown}");
                }
            }
        }
    }

    fn policy(&self) -> PathBuf {
        self.folder.join("policy/policy.yaml")
    }
}

/// The commands of the project's README that bring it up, as a user of Debian's docker-compose types them.
fn readme_commands(folder: &Path) -> Vec<Vec<String>> {
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let block = readme.split("```console\n").nth(1).unwrap();
    let block = block.split("```").next().unwrap();
    let words = |line: &str| line.split(' ').map(str::to_owned).collect();
    block
        .lines()
        .map(|line| words(line.strip_prefix("$ docker compose ").unwrap()))
        .collect()
}

#[test]
fn two_commands_show_the_policy_at_work_and_a_third_leaves_nothing() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let project = Project::new(&engine);
    project.runs_the_commands_of_its_readme();
    the_host_is_outside(&project);
    the_policy_is_live(&project);
    nothing_inside_has_a_way_out(&project);
    every_container_is_bounded(&engine);

    // What Prometheus has is what its reader on the host gets.
    let (status, body) = project.ask(9090, "localhost", "/api/v1/query?query=count(up==1)");
    assert_eq!(status, 200);
    assert!(body.contains(r#","5"]"#), "five proxies are up: {body}");
    let (status, body) = project.ask(9090, "localhost", "/api/v1/rules");
    assert_eq!(status, 200);
    assert!(body.contains("Meridian"), "{body}");
    assert_eq!(project.ask(3000, "localhost", "/api/health").0, 200);

    let mut top = engine.command(env!("CARGO_BIN_EXE_meridian"));
    top.args([
        "top",
        "--compose",
        "meridian",
        "--interval",
        "300ms",
        "--json",
    ]);
    let top: Value = serde_json::from_str(&succeed(&mut top)).unwrap();
    let proxies = top["proxies"].as_array().unwrap();
    assert_eq!(proxies.len(), 5);
    assert!(
        proxies.iter().all(|proxy| proxy["error"].is_null()),
        "{proxies:?}"
    );

    project.compose(&["down", "--volumes"]);
    assert_eq!(engine.docker(["ps", "--all", "--quiet"]), "");
    assert_eq!(engine.docker(["volume", "ls", "--quiet"]), "");
    let networks = engine.docker(["network", "ls", "--format", "{{.Name}}"]);
    let mut networks: Vec<&str> = networks.lines().collect();
    networks.sort_unstable();
    assert_eq!(networks, ["bridge", "host", "none"]);
    engine.end();
}

fn the_host_is_outside(project: &Project<'_>) {
    let north_south = |server: &str| (server.to_owned(), "north-south".to_owned());
    let shop = "shop.example.com";
    assert_eq!(project.tag(8080, shop, "/"), north_south("shop"));
    let console = "console.system.example.com";
    assert_eq!(project.tag(8081, console, "/"), north_south("console"));
    assert_eq!(
        project.tag(8080, shop, "/fetch/orders.orders/"),
        ("orders".to_owned(), "east-west".to_owned())
    );
    assert_eq!(
        project.tag(8080, shop, "/fetch/api.partner.example/"),
        ("api.partner.example".to_owned(), String::new())
    );
    let refused = (403, "host not allowed\n".to_owned());
    assert_eq!(project.ask(8080, "intranet.example.com", "/"), refused);
    assert_eq!(project.ask(8080, shop, "/fetch/tracker.example/"), refused);
}

fn the_policy_is_live(project: &Project<'_>) {
    let file = project.policy();
    let sample = std::fs::read_to_string(&file).unwrap();
    let host = "intranet.example.com";
    let opened = sample.replace(
        "hosts: [shop.example.com, ",
        "hosts: [intranet.example.com, shop.example.com, ",
    );
    assert_ne!(opened, sample);
    // Most editors put another file in its place.
    let new = file.with_extension("new");
    std::fs::write(&new, opened).unwrap();
    std::fs::rename(&new, &file).unwrap();
    let taken = project.until_status(host, 200);
    assert!(taken < LIVE, "in force after {taken:?}");

    std::fs::write(&file, sample.replace("default: deny", "default: refuse")).unwrap();
    let refusal = "hosts.ingress.default: ";
    let start = Instant::now();
    loop {
        let logs = project.compose(&["logs", "--no-color", "policy"]);
        if logs.contains(refusal) && logs.contains("the one before stays in force") {
            break;
        }
        assert!(start.elapsed() < LIVE * 10, "not refused: {logs}");
    }
    assert_eq!(project.ask(8080, host, "/").0, 200);

    std::fs::write(&file, sample).unwrap();
    project.until_status(host, 403);
}

/// A container inside reaches its neighbours, and nobody outside; one outside reaches the server there.
fn nothing_inside_has_a_way_out(project: &Project<'_>) {
    let server = "192.0.2.101:80";
    let probe = |network: &str, address: &str| {
        let mut docker = project.engine.command("docker");
        docker.args(["run", "--rm", "--network", network]).args([
            &images::meridian_name(),
            "echo",
            "--probe",
            address,
        ]);
        docker.output().unwrap()
    };
    assert!(probe("meridian_outside", server).status.success());
    assert!(probe("meridian_inside", "10.0.77.10:8080").status.success());
    let refused = probe("meridian_inside", server);
    assert_eq!(refused.status.code(), Some(2));
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(error.contains("nothing accepts connections"), "{error}");
}

fn every_container_is_bounded(engine: &Engine) {
    let ids = engine.docker(["ps", "--all", "--quiet"]);
    let ids: Vec<&str> = ids.lines().collect();
    assert_eq!(ids.len(), 18);
    let containers = engine.docker(["inspect"].iter().chain(&ids));
    let containers: Vec<Value> = serde_json::from_str(&containers).unwrap();
    for container in containers {
        let (name, host) = (&container["Name"], &container["HostConfig"]);
        let user = container["Config"]["User"].as_str().unwrap();
        assert!(!user.is_empty() && !user.starts_with('0'), "{name}: {user}");
        assert_eq!(host["ReadonlyRootfs"], true, "{name}");
        assert_eq!(host["CapDrop"], serde_json::json!(["ALL"]), "{name}");
        assert_eq!(
            host["SecurityOpt"],
            serde_json::json!(["no-new-privileges:true"]),
            "{name}"
        );
        for limit in ["Memory", "NanoCpus", "PidsLimit"] {
            assert!(host[limit].as_i64().unwrap() > 0, "{name}: {limit}");
        }
        if let Some(ports) = host["PortBindings"].as_object() {
            for binding in ports
                .values()
                .flat_map(|bindings| bindings.as_array().unwrap())
            {
                assert_eq!(binding["HostIp"], "127.0.0.1", "{name}");
            }
        }
        let health = &container["State"]["Health"]["Status"];
        let ran = container["State"]["Status"] == "exited";
        assert!(
            *health == "healthy" || ran && container["State"]["ExitCode"] == 0,
            "{name}: {}",
            container["State"]
        );
    }
}

#[test]
fn the_demo_starts_and_judges_a_project_and_ends_it() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let project = Project::new(&engine);
    let mut demo = engine.command(env!("CARGO_BIN_EXE_meridian"));
    demo.args(["demo", "--json", "--docker"])
        .arg(&project.folder);
    let shown: Value = serde_json::from_str(&succeed(&mut demo)).unwrap();
    assert_eq!(shown["ok"], true, "{shown:#}");
    assert_eq!(shown["requests"].as_array().unwrap().len(), 16);
    let series = shown["prometheus"]["series"].as_array().unwrap();
    let denied = serde_json::json!({"reporter": "egress", "direction": "north-south", "decision": "deny", "requests": 2});
    assert!(series.contains(&denied), "{series:?}");
    assert_eq!(engine.docker(["ps", "--all", "--quiet"]), "");

    // With a policy that refuses everything the traffic is judged by that.
    let strict = "mesh: {cidrs: [10.0.0.0/8]}\nhosts: {ingress: {default: deny}}\n";
    let strict_file = project.folder.join("strict.yaml");
    std::fs::write(&strict_file, strict).unwrap();
    let mut render = Command::new(env!("CARGO_BIN_EXE_meridian"));
    render
        .args(["render", "compose", "--out"])
        .arg(&project.folder);
    succeed(render.arg("--policy").arg(&strict_file));
    let mut demo = engine.command(env!("CARGO_BIN_EXE_meridian"));
    demo.args(["demo", "--json", "--docker"])
        .arg(&project.folder);
    let shown: Value = serde_json::from_str(&succeed(&mut demo)).unwrap();
    assert_eq!(shown["ok"], true, "{shown:#}");
    assert_eq!(shown["requests"][0]["status"], 403);
    engine.end();
}
