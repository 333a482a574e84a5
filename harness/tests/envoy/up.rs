//! `meridian up` as a process: signals, and what is left when it is killed.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use meridian::lab::topology::OnEnd;
use serde_json::Value;

const DEADLINE: Duration = Duration::from_secs(30);
const MARK: &str = "MERIDIAN_TEST_UP";

/// The process that the tests below start; does nothing by itself.
#[test]
fn up_to_be_signalled() {
    if std::env::var_os(MARK).is_none() {
        return;
    }
    let options = meridian::lab::topology::TopologyOptions {
        live: false,
        run: "up".to_owned(),
        envoy: meridian::lab::envoy::obtain(None).unwrap(),
        filters: None,
    };
    let followed = meridian::verbs::up::Followed {
        file: None,
        policy: meridian::policy::PolicyFile::load(None).unwrap(),
        watch: None,
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime
        .block_on(meridian::verbs::up::serve(
            &options,
            true,
            followed,
            OnEnd::Leave,
        ))
        .unwrap();
}

/// A child that is killed if the test fails.
struct Up(Child);

impl Up {
    fn start() -> Self {
        // Downloaded here, where a test may take its time.
        meridian::lab::envoy::obtain(None).unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "up::up_to_be_signalled", "--nocapture"])
            .env(MARK, "1")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// The first line of its stdout that is JSON.
    fn description(&mut self) -> Value {
        let stdout = BufReader::new(self.0.stdout.as_mut().unwrap());
        let line = stdout
            .lines()
            .map(Result::unwrap)
            .find(|line| line.starts_with('{'));
        serde_json::from_str(&line.expect("a description")).unwrap()
    }

    fn signal(&self, signal: &str) {
        let pid = self.0.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    fn await_end(&mut self) -> ExitStatus {
        poll("up still runs", || self.0.try_wait().unwrap())
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn poll<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The processes with `text` in their command line.
fn processes(text: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| {
            std::fs::read(path.join("cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(text))
        })
        .collect()
}

fn await_none(run: &str) {
    poll("processes are left", || {
        processes(run).is_empty().then_some(())
    });
}

#[test]
fn up_serves_until_sigint_and_leaves_nothing() {
    let mut up = Up::start();
    let description = up.description();
    assert_eq!(description["ready"], true);
    let run = description["run"].as_str().unwrap().to_owned();
    let expected = if description["nginx"].is_null() { 5 } else { 6 };
    assert_eq!(processes(&run).len(), expected);
    for pointer in [
        "/ingress/admin",
        "/ingress/http",
        "/ingress/https",
        "/ingress/tls_passthrough",
        "/egress/admin",
        "/egress/http",
        "/egress/tls_passthrough",
        "/sidecars/shop/admin",
        "/sidecars/orders/inbound",
        "/sidecars/console/outbound",
        "/outside/api.partner.example",
        "/workloads/shop",
    ] {
        let address = description
            .pointer(pointer)
            .and_then(Value::as_str)
            .expect(pointer);
        std::net::TcpStream::connect(address).expect(pointer);
    }
    let certificates = description["certificates"].as_str().unwrap();
    assert!(Path::new(certificates).join("mesh-ca.pem").is_file());

    up.signal("-INT");
    assert!(up.await_end().success());
    assert!(processes(&run).is_empty());
}

#[test]
fn a_signal_before_it_is_ready_ends_up_cleanly_too() {
    let mut up = Up::start();
    let run = format!("/runs/up-{}-", up.0.id());
    poll("no Envoy ever started", || {
        (!processes(&run).is_empty()).then_some(())
    });
    up.signal("-TERM");
    assert!(up.await_end().success());
    assert!(processes(&run).is_empty());
    let mut stdout = String::new();
    up.0.stdout
        .as_mut()
        .unwrap()
        .read_to_string(&mut stdout)
        .unwrap();
    assert!(!stdout.contains("\"ready\""), "{stdout}");
}

#[test]
fn kill_9_leaves_nothing() {
    let mut up = Up::start();
    let run = up.description()["run"].as_str().unwrap().to_owned();
    assert!(!processes(&run).is_empty());
    up.signal("-KILL");
    assert_eq!(up.await_end().signal(), Some(9));
    await_none(&run);
}
