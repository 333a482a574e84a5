//! Policies whose YAML aliases stand for far more than the file.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, setrlimit};

/// What a verb may take, and far less than these files stand for.
const MEMORY: u64 = 512 << 20;
const TIME: Duration = Duration::from_secs(20);

/// Runs a verb within those bounds.
fn meridian(arguments: &[&str], file: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meridian"));
    command.args(arguments).arg(file);
    let limit = || Ok(setrlimit(Resource::RLIMIT_AS, MEMORY, MEMORY)?);
    // SAFETY: setrlimit is async-signal-safe and the closure allocates nothing.
    unsafe {
        command.pre_exec(limit);
    }
    let begin = Instant::now();
    let output = command.output().unwrap();
    assert!(begin.elapsed() < TIME, "{:?}", begin.elapsed());
    output
}

/// Exit code, stdout and stderr.
fn check(text: &str) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.yaml");
    fs::write(&file, text).unwrap();
    let output = meridian(&["check", "--policy"], &file);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// The same list in so many rules.
fn rules(rules: usize, hosts: usize) -> String {
    let names: Vec<String> = (0..hosts)
        .map(|number| format!("h{number}.example"))
        .collect();
    let mut text = format!(
        "hosts:\n  ingress:\n    rules:\n    - {{name: r0, action: allow, ports: [1], hosts: &h [{}]}}\n",
        names.join(", ")
    );
    for rule in 1..rules {
        let port = rule + 1;
        text.push_str(&format!(
            "    - {{name: r{rule}, action: allow, ports: [{port}], hosts: *h}}\n"
        ));
    }
    text
}

#[test]
fn a_long_list_behind_a_few_aliases_is_read() {
    // A list in many rules, and a long one at every vantage point.
    let names: Vec<String> = (0..50_000)
        .map(|number| format!("h{number}.example"))
        .collect();
    let names = names.join(", ");
    let section = |hosts: &str| format!("{{rules: [{{name: r, action: allow, hosts: {hosts}}}]}}");
    let four = format!(
        "hosts:\n  ingress: {}\n  egress: {}\n  inbound: {}\n  outbound: {}\n",
        section(&format!("&h [{names}]")),
        section("*h "),
        section("*h "),
        section("*h "),
    );
    for text in [rules(50, 100), four] {
        let (code, stdout, stderr) = check(&text);
        assert_eq!(code, Some(0), "{stdout}{stderr}");
        assert!(stderr.contains(": no errors"), "{stderr}");
    }
}

#[test]
fn aliases_that_expand_beyond_the_limit_are_refused_with_their_place() {
    // 100 kB of names in each of 10,000 rules: a gigabyte, and its nodes.
    let text = rules(10_000, 6_000);
    let (code, stdout, stderr) = check(&text);
    assert_eq!(code, Some(1), "{stderr}");
    let limit = 5 * text.len() + 500_000;
    assert!(stdout.starts_with("hosts.ingress.rules["), "{stdout}");
    let expected = format!(
        "is where the file comes to more than {limit} bytes, with what its aliases stand for"
    );
    assert!(stdout.contains(&expected), "{stdout}");
    assert!(
        stdout.contains("write out what the aliases (*NAME) stand for, or less of it"),
        "{stdout}"
    );
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
}

#[test]
fn nested_aliases_that_grow_exponentially_are_refused() {
    let mut text = "a0: &a0 [lol]\n".to_owned();
    for list in 1..=12 {
        let aliases = vec![format!("*a{}", list - 1); 30].join(", ");
        text.push_str(&format!("a{list}: &a{list} [{aliases}]\n"));
    }
    let (code, stdout, stderr) = check(&text);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(
        stdout.contains("with what its aliases stand for"),
        "{stdout}"
    );
}

#[test]
fn expectations_with_too_many_aliases_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("expectations.yaml");
    let string = "x".repeat(100_000);
    let aliases = vec!["*x"; 100_000].join(", ");
    fs::write(&file, format!("- &x {string}\n- [{aliases}]\n")).unwrap();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/policy.yaml");
    let output = meridian(&["test", "--policy", sample.to_str().unwrap()], &file);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("with what its aliases stand for"),
        "{stderr}"
    );
}
