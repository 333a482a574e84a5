//! `meridian learn`: from refused to allowed, and what is never proposed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

mod callers;
mod diff;
mod gateways;
mod never_proposed;

const SHOP: &str = "spiffe://cluster.local/ns/shop/sa/cart";
const ADMIN: &str = "spiffe://cluster.local/ns/admin/sa/web";

/// A folder with a log and a policy.
struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new(log: &[Value]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lines: String = log.iter().map(|entry| format!("{entry}\n")).collect();
        std::fs::write(folder.path().join("access.log"), lines).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn sample(&self) {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/policy.yaml");
        std::fs::copy(sample, self.path("policy.yaml")).unwrap();
    }

    fn meridian(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_meridian"))
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// What `learn` prints, and its exit code.
    fn learn(&self, arguments: &[&str]) -> (String, Option<i32>) {
        let output = self.meridian(&[&["learn"], arguments, &["access.log"]].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        if output.status.code() == Some(2) {
            panic!("{}", String::from_utf8_lossy(&output.stderr));
        }
        (text, output.status.code())
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let (text, _) = self.learn(&[&["--json"], arguments].concat());
        serde_json::from_str(&text).unwrap()
    }

    /// `[at, pattern]` of everything that is proposed.
    fn patterns(&self, arguments: &[&str]) -> Vec<Value> {
        let found = self.json(arguments);
        let proposals = found["proposals"].as_array().unwrap();
        let hosts = |proposal: &Value| {
            let at = proposal["at"].clone();
            let hosts = proposal["rule"]["hosts"].as_array().unwrap().clone();
            hosts.into_iter().map(move |host| json!([at, host]))
        };
        proposals.iter().flat_map(hosts).collect()
    }

    /// `[host, reasons…]` of everything that is listed apart.
    fn suspicious(&self, arguments: &[&str]) -> Vec<Value> {
        let found = self.json(arguments);
        let list = found["suspicious"].as_array().unwrap();
        let row = |each: &Value| {
            let reasons = each["reasons"].as_array().unwrap().iter();
            let mut row = vec![each["host"].clone()];
            row.extend(reasons.map(|reason| reason["reason"].clone()));
            Value::from(row)
        };
        list.iter().map(row).collect()
    }

    /// Applies a diff to `policy.yaml` as a person would.
    fn patch(&self, diff: &str) {
        let mut patch = Command::new("patch")
            .args(["--fuzz=0", "policy.yaml"])
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("the tests need `patch`, of the Debian package of that name");
        patch
            .stdin
            .take()
            .unwrap()
            .write_all(diff.as_bytes())
            .unwrap();
        assert!(patch.wait().unwrap().success(), "{diff}");
    }

    fn check(&self, policy: &str) {
        let output = self.meridian(&["check", "--policy", policy]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
    }

    /// `decision` and `rule` of a request.
    fn explain(&self, at: &str, authority: &str, more: &[&str]) -> (Value, Value) {
        let arguments = ["explain", "--json", "--policy", "policy.yaml", "--at", at];
        let output = self.meridian(&[&arguments[..], &["--authority", authority], more].concat());
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        (value["decision"].clone(), value["rule"].clone())
    }
}

/// A request that the default refused.
fn refused(at: &str, authority: &str, peer: Option<&str>) -> Value {
    json!({
        "time": "2026-11-24T10:00:00.123Z", "reporter": at, "decision": "deny", "rule": "default",
        "method": "GET", "authority": authority, "status": 403, "details": "meridian_deny{default}",
        "peer": peer, "source": "203.0.113.7:5000",
    })
}

fn at_egress(authority: &str) -> Value {
    refused("egress", authority, Some(SHOP))
}

fn times(count: usize, entry: &Value) -> Vec<Value> {
    vec![entry.clone(); count]
}

fn with(mut entry: Value, key: &str, value: impl Into<Value>) -> Value {
    entry[key] = value.into();
    entry
}

#[test]
fn the_fragment_says_who_asked_how_often_and_when() {
    let mut log = times(3, &at_egress("API.other.example"));
    log.push(with(
        refused("egress", "cdn.other.example:8443", Some(ADMIN)),
        "time",
        "2026-11-24T12:00:00Z",
    ));
    log.push(log[3].clone());
    log.extend(times(
        2,
        &refused("ingress", "intranet.example.com:8443", None),
    ));
    let world = World::new(&log);
    let (fragment, code) = world.learn(&[]);
    assert_eq!(
        fragment,
        "hosts:
  ingress:
    rules:
    # 2 requests by 203.0.113.0/24, 2026-11-24T10:00:00Z
    - name: learned-example-com
      hosts:
      - intranet.example.com
      action: allow
  egress:
    rules:
    # 5 requests by shop/cart (3), admin/web (2), 2026-11-24T10:00:00Z to 2026-11-24T12:00:00Z
    - name: learned-other-example
      hosts:
      - api.other.example  # 3 requests
      - cdn.other.example:8443  # 2 requests
      action: allow
# 7 entries looked at, 2 rules proposed
# at ingress any client can ask for any host: take the names that are yours
"
    );
    assert_eq!(code, Some(1));
    world.write("policy.yaml", &fragment);
    world.check("policy.yaml");
    let allowed = world.explain("egress", "cdn.other.example:8443", &[]);
    assert_eq!(allowed, (json!("allow"), json!("learned-other-example")));
    let other_port = world.explain("egress", "cdn.other.example:22", &[]);
    assert_eq!(other_port.0, "deny");
}

#[test]
fn entries_are_selected_by_vantage_time_decision_and_count() {
    let mut log = times(
        2,
        &json!({
            "authority": "istio.other.example", "method": "GET", "response_code": 403,
            "response_code_details": "meridian_deny{default}", "start_time": "2026-11-24T10:00:00.000Z",
            "downstream_remote_address": "10.0.0.1:4000", "requested_server_name": null,
        }),
    );
    let dry_run = with(at_egress("dry.other.example"), "decision", "allow");
    let dry_run = with(dry_run, "details", "via_upstream");
    log.extend(times(2, &with(dry_run, "dry_run", "deny{default}")));
    let allowed = with(at_egress("fine.other.example"), "decision", "allow");
    let allowed = with(allowed, "details", "via_upstream");
    log.extend(times(2, &allowed));
    let nowhere = with(allowed, "authority", "nowhere.other.example");
    log.extend(times(2, &with(nowhere, "flags", "NR")));
    let late = with(
        at_egress("late.other.example"),
        "time",
        "2026-11-24T11:00:00.000Z",
    );
    log.extend(times(2, &late));
    log.extend(times(2, &refused("ingress", "intranet.example.com", None)));
    let world = World::new(&log);
    let hosts = |arguments: &[&str]| -> String {
        let patterns = world.patterns(arguments);
        let first = |pattern: &Value| {
            let host = pattern[1].as_str().unwrap();
            host.split('.').next().unwrap().to_owned()
        };
        patterns.iter().map(first).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(hosts(&[]), "intranet dry late");
    assert_eq!(hosts(&["--at", "egress"]), "dry istio late");
    assert_eq!(hosts(&["--at", "egress", "--all"]), "dry fine istio late");
    assert_eq!(hosts(&["--since", "2026-11-24T10:30:00Z"]), "late");
    assert_eq!(hosts(&["--until", "2026-11-24T10:30:00Z"]), "intranet dry");
    assert_eq!(hosts(&["--until", "2026-11-24"]), "");
    assert_eq!(hosts(&["--min-requests", "3"]), "");
    assert_eq!(world.json(&[])["without_vantage"], 2);
}

#[test]
fn learn_reads_gzip_from_standard_input_and_passes_malformed_lines_over() {
    let world = World::new(&[at_egress("api.other.example")]);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    writeln!(encoder, "{}", at_egress("api.other.example")).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_meridian"))
        .args(["learn", "access.log", "-"])
        .current_dir(world.folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // The first byte alone does not show what it is.
    let bytes = encoder.finish().unwrap();
    stdin.write_all(&bytes[..1]).unwrap();
    stdin.flush().unwrap();
    stdin.write_all(&bytes[1..]).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("# 2 requests by shop/cart"), "{text}");

    let log = format!(
        "what a proxy says of itself\n{0}\n{{\"a\n{0}\n",
        at_egress("a.example")
    );
    world.write("access.log", log);
    let output = world.meridian(&["learn", "access.log"]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("access.log:1: has no JSON object"),
        "{error}"
    );
    assert!(error.contains("access.log:3: is not JSON"), "{error}");
    assert!(error.contains("2 of 4 lines passed over"), "{error}");
}

#[test]
fn a_folder_stands_for_the_logs_in_it() {
    let world = World::new(&[]);
    std::fs::create_dir(world.path("run")).unwrap();
    for log in ["run/egress.access.log", "run/shop.access.log"] {
        world.write(log, format!("{}\n", at_egress("api.example.com")));
    }
    world.write("run/egress.log", "[info] no access log\n");
    let output = world.meridian(&["learn", "run"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        text.contains("2 entries looked at, 1 rule proposed"),
        "{text}"
    );
}

/// Whatever it is called, a log is counted once, and what is no file is none.
#[test]
fn a_log_of_two_names_is_one_log() {
    let world = World::new(&[]);
    std::fs::create_dir_all(world.path("run/folder.access.log")).unwrap();
    let pipe = std::process::Command::new("mkfifo")
        .arg(world.path("run/pipe.access.log"))
        .status();
    assert!(pipe.unwrap().success());
    world.write(
        "run/egress.access.log",
        format!("{}\n", at_egress("api.example.com")),
    );
    let absolute = world.path("run").display().to_string();
    let output = world.meridian(&["learn", "run", "./run", &absolute, "run/egress.access.log"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("1 entry looked at"), "{output:?}");
}

#[test]
fn no_name_of_a_log_reaches_the_terminal_raw() {
    let world = World::new(&[]);
    std::fs::create_dir(world.path("run")).unwrap();
    let name = "run/\u{1b}[2J\u{1b}]0;x\u{7}.access.log";
    std::os::unix::fs::symlink("/nonexistent", world.path(name)).unwrap();
    let output = world.meridian(&["learn", "run"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(
        told.contains(r"\u{1b}[2J") && !told.contains('\u{1b}'),
        "{told:?}"
    );
}

#[test]
fn misuse_exits_2_and_findings_exit_1() {
    let world = World::new(&[]);
    world.write("bad.yaml", "hosts: {egress: {rule: []}}");
    world.write("other.log", "hello\n");
    for (arguments, error) in [
        (&["learn", "none.log"][..], "cannot open the log none.log"),
        (&["learn", "other.log"], "not one of 1 lines is an entry"),
        (&["learn", "-", "-"], "standard input can be read once"),
        (&["learn", "."], "has no *.access.log"),
        (&["learn"], "required"),
        (
            &["learn", "--format", "diff", "access.log"],
            "--format diff needs --policy",
        ),
        (
            &["learn", "--policy", "bad.yaml", "access.log"],
            "the policy is refused",
        ),
        (&["learn", "--since", "soon", "access.log"], "how long ago"),
        (&["learn", "--at", "here", "access.log"], "ingress, egress"),
    ] {
        let output = world.meridian(arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?} {text}");
        assert!(text.contains(error), "{arguments:?} {text}");
    }
    let proposes = World::new(&times(2, &at_egress("api.other.example")));
    assert_eq!(proposes.learn(&[]).1, Some(1));
    // No traffic is nothing to propose.
    let (text, code) = world.learn(&["--since", "7d"]);
    assert_eq!(code, Some(0));
    assert_eq!(text, "# 0 entries looked at, 0 rules proposed\n");
}
