//! Rules that expire, on a running Envoy whose clock is moved over midnight.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use meridian::lab::envoy::EnvoyOptions;
use meridian_tests::announce;
use meridian_tests::raw::{Answer, Connection, Peer, connect, http1};
use tempfile::TempDir;

use crate::discovered::{self, Gateway};

/// The filter's tick, 60 s, and what a busy machine may take.
const TICK: Duration = Duration::from_secs(90);
/// How long a request, or an update of the policy, may take.
const DEADLINE: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Connections that are kept; beside them there is a new one each time.
const KEPT: usize = 4;
/// So many new connections in a row find every worker.
const IN_A_ROW: usize = 20;

/// An hour before the end of 2026-11-30 in UTC, and a second after it; Unix seconds.
const EVE: i64 = 1_796_079_600;
const DAY_AFTER: i64 = EVE + 3_601;

const LASTING: &str = r#"{"hosts": {"ingress": {"rules": [
    {"name": "sale", "hosts": ["sale.example.com"], "action": "allow"},
    {"name": "freeze", "hosts": ["frozen.example.com"], "action": "deny"},
    {"name": "others", "hosts": ["*.example.com"], "action": "allow", "notHosts": ["sale.example.com"]}
]}}}"#;
const EXPIRING: &str = r#"{"hosts": {"ingress": {"rules": [
    {"name": "sale", "hosts": ["sale.example.com"], "action": "allow", "expires": "2026-11-30"},
    {"name": "freeze", "hosts": ["frozen.example.com"], "action": "deny", "expires": "2026-11-30"},
    {"name": "others", "hosts": ["*.example.com"], "action": "allow", "notHosts": ["sale.example.com"]}
]}}}"#;
/// The same with another status, which tells the policies apart.
const EXPIRING_451: &str = r#"{"deny": {"status": 451}, "hosts": {"ingress": {"rules": [
    {"name": "sale", "hosts": ["sale.example.com"], "action": "allow", "expires": "2026-11-30"},
    {"name": "freeze", "hosts": ["frozen.example.com"], "action": "deny", "expires": "2026-11-30"},
    {"name": "others", "hosts": ["*.example.com"], "action": "allow", "notHosts": ["sale.example.com"]}
]}}}"#;

/// What is asked for, and what it gets under each policy before and after the turn of the day.
const HOSTS: [&str; 4] = [
    "sale.example.com",
    "frozen.example.com",
    "shop.example.com",
    "shop.example.org",
];
type Statuses = [u16; HOSTS.len()];
const BEFORE: Statuses = [200, 403, 200, 403];
const AFTER: Statuses = [403, 200, 200, 403];
const BEFORE_451: Statuses = [200, 451, 200, 451];
const AFTER_451: Statuses = [451, 200, 200, 451];

/// The wall clock of an Envoy, which goes on from where it was set.
struct Clock {
    folder: TempDir,
    file: File,
}

impl Clock {
    /// One that is set.
    fn at(unix_seconds: i64) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut compiler = Command::new("cc");
        compiler
            .args([
                "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o",
            ])
            .arg(folder.path().join("clock.so"))
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/expiry/clock.c"));
        let compiled = compiler.output().context(
            "cannot run the C compiler `cc`, which Rust's own linking wants too: install it",
        )?;
        ensure!(
            compiled.status.success(),
            "cc refuses clock.c:\n{}",
            String::from_utf8_lossy(&compiled.stderr)
        );
        let path = folder.path().join("ahead");
        fs::write(&path, 0_i64.to_ne_bytes())?;
        let file = File::options().write(true).open(path)?;
        let clock = Self { folder, file };
        clock.set(unix_seconds)?;
        Ok(clock)
    }

    /// Sets it.
    fn set(&self, unix_seconds: i64) -> anyhow::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let ahead = unix_seconds - i64::try_from(now)?;
        Ok(self.file.write_all_at(&ahead.to_ne_bytes(), 0)?)
    }

    /// A gateway that goes by this clock, with two workers, each of which has its own tick.
    async fn gateway(&self, name: &str, policy: &str) -> anyhow::Result<Gateway> {
        let variable = |name: &str, file: &str| {
            let path = self.folder.path().join(file);
            (name.to_owned(), path.into_os_string())
        };
        let options = EnvoyOptions {
            concurrency: 2,
            environment: vec![
                variable("LD_PRELOAD", "clock.so"),
                variable("MERIDIAN_TEST_CLOCK", "ahead"),
            ],
            ..EnvoyOptions::default()
        };
        Gateway::start_with(name, policy, &options).await
    }
}

/// Clients that never stop asking. On a connection, which is one worker's, the states that may
/// follow each other do so and none comes again; any other answer is an error.
struct Clients {
    server: SocketAddr,
    states: &'static [Statuses],
    kept: Vec<(Connection, usize)>,
    sent: usize,
}

impl Clients {
    async fn connect(server: SocketAddr, states: &'static [Statuses]) -> anyhow::Result<Self> {
        let mut kept = Vec::new();
        for _ in 0..KEPT {
            kept.push((connection(server).await?, 0));
        }
        Ok(Self {
            server,
            states,
            kept,
            sent: 0,
        })
    }

    /// Asks until every worker is at the state, for as long as `patience`.
    async fn reach(&mut self, state: usize, patience: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        let mut in_a_row = 0;
        while in_a_row < IN_A_ROW {
            let mut least = usize::MAX;
            for (connection, at) in &mut self.kept {
                *at = next_state(connection, self.states, *at).await?;
                least = least.min(*at);
            }
            let mut fresh = connection(self.server).await?;
            least = least.min(next_state(&mut fresh, self.states, 0).await?);
            self.sent += (KEPT + 1) * HOSTS.len();
            in_a_row = if least >= state { in_a_row + 1 } else { 0 };
            ensure!(
                in_a_row > 0 || Instant::now() < deadline,
                "still {:?}, not {:?}, after {patience:?}",
                self.states[least],
                self.states[state]
            );
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }
}

async fn connection(server: SocketAddr) -> anyhow::Result<Connection> {
    let source = [127, 9, 0, 1].into();
    connect(&Peer::Tcp { server, source }).await
}

/// Where to read on.
fn log(gateway: &Gateway) -> String {
    format!("Envoy's log is {}", gateway.envoy.log_path().display())
}

/// Asks for every host and gives the state after it: the first from `at` on that each answer fits.
async fn next_state(
    connection: &mut Connection,
    states: &[Statuses],
    mut at: usize,
) -> anyhow::Result<usize> {
    for (index, host) in HOSTS.iter().enumerate() {
        let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n");
        let answer = http1::exchange(&mut *connection.stream, request.as_bytes(), DEADLINE).await?;
        let Answer::Response(response) = answer else {
            anyhow::bail!("{host} in state {at}: {answer:?}");
        };
        at = (at..states.len())
            .find(|state| states[*state][index] == response.status)
            .with_context(|| format!("{host} in state {at} or later: {response:?}"))?;
    }
    Ok(at)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_end_with_their_day_while_envoy_serves() -> anyhow::Result<()> {
    let clock = Clock::at(EVE)?;
    let gateway = clock.gateway("expiry", EXPIRING).await?;
    let mut clients = Clients::connect(gateway.address, &[BEFORE, AFTER]).await?;
    clients.reach(0, DEADLINE).await?;
    let stayed = clients.kept.iter().all(|(_, state)| *state == 0);
    ensure!(stayed, "a rule ended before its day did");
    clock.set(DAY_AFTER)?;
    let moved = Instant::now();
    clients
        .reach(1, TICK)
        .await
        .with_context(|| log(&gateway))?;
    announce(&format!(
        "{} requests over midnight; every worker had turned {:.0} s after it",
        clients.sent,
        moved.elapsed().as_secs_f64()
    ));
    gateway.envoy.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_policy_with_an_expiry_sets_the_tick() -> anyhow::Result<()> {
    let clock = Clock::at(EVE)?;
    let mut gateway = clock.gateway("expiry-update", LASTING).await?;
    let states = &[BEFORE, BEFORE_451, AFTER_451];
    let mut clients = Clients::connect(gateway.address, states).await?;
    clients.reach(0, DEADLINE).await?;
    gateway.publish(discovered::text(EXPIRING_451))?;
    clients.reach(1, DEADLINE).await?;
    let stayed = clients.kept.iter().all(|(_, state)| *state == 1);
    ensure!(stayed, "a rule ended before its day did");
    clock.set(DAY_AFTER)?;
    clients
        .reach(2, TICK)
        .await
        .with_context(|| log(&gateway))?;
    gateway.envoy.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_comes_after_the_day_knows_it_at_once() -> anyhow::Result<()> {
    let clock = Clock::at(EVE)?;
    let mut gateway = clock.gateway("expiry-late", EXPIRING).await?;
    // The new policy on the old day is no state.
    let states = &[BEFORE, AFTER, AFTER_451];
    let mut clients = Clients::connect(gateway.address, states).await?;
    clients.reach(0, DEADLINE).await?;
    clock.set(DAY_AFTER)?;
    gateway.publish(discovered::text(EXPIRING_451))?;
    clients
        .reach(2, DEADLINE)
        .await
        .with_context(|| log(&gateway))?;
    gateway.envoy.stop().await
}
