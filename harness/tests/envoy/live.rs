//! A policy that is edited while `meridian up` runs.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use meridian::lab::prometheus::Samples;
use meridian::lab::topology::Call;
use meridian::policy::PolicyFile;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// How long an edit may take to be in force.
const LIVE: Duration = Duration::from_secs(1);
/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A policy that lets `shop.example.com` in, and another host too if it is `open`.
fn policy(open: bool) -> String {
    let more = if open { ", intranet.example.com" } else { "" };
    format!(
        "mesh: {{cidrs: [127.1.0.0/16]}}\nhosts:\n  ingress:\n    default: deny\n    rules:\n    - name: \
         shop\n      hosts: [shop.example.com{more}]\n      action: allow\n"
    )
}

fn revision(policy: &str) -> f64 {
    PolicyFile::parse(policy.as_bytes()).unwrap().revision() as f64
}

/// `meridian up`, and what it says.
struct Up {
    process: Child,
    description: Value,
    told: Receiver<String>,
    policy: PathBuf,
    _folder: tempfile::TempDir,
}

impl Up {
    fn start(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy.yaml");
        std::fs::write(&file, policy(false)).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_meridian"))
            .args(["up", "--json", "--policy"])
            .arg(&file)
            .args(options)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let description = serde_json::from_str(&line).expect("the description");
        let (tell, told) = channel();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            process,
            description,
            told,
            policy: file,
            _folder: folder,
        }
    }

    /// The next line that begins so.
    fn told(&self, start: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.told.recv_timeout(left);
            let line = line.unwrap_or_else(|error| panic!("no line `{start}…`: {error}"));
            if line.starts_with(start) {
                return line;
            }
        }
    }

    fn ingress(&self) -> SocketAddr {
        self.description["ingress"]["http"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap()
    }

    /// The admin of every Envoy.
    fn admins(&self) -> Vec<SocketAddr> {
        let description = &self.description;
        let sidecars = description["sidecars"].as_object().unwrap().values();
        [&description["ingress"], &description["egress"]]
            .into_iter()
            .chain(sidecars)
            .map(|proxy| proxy["admin"].as_str().unwrap().parse().unwrap())
            .collect()
    }

    fn end(mut self) {
        kill(Pid::from_raw(self.process.id() as i32), Signal::SIGTERM).unwrap();
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn status(ingress: SocketAddr, host: &str) -> anyhow::Result<u16> {
    Ok(Call::new(ingress, host).send().await?.status)
}

/// Every revision that an Envoy's filters report.
async fn revisions(admin: SocketAddr) -> Vec<f64> {
    let call = Call::new(admin, "admin").path("/stats/prometheus");
    let samples = Samples::parse(&call.send().await.unwrap().text()).unwrap();
    let revisions = samples.find("meridian_policy_revision", &[]);
    revisions.map(|sample| sample.value).collect()
}

/// Puts another file in the place of the policy's, as most editors do.
fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, file).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_is_in_force_within_a_second_and_fails_no_request() {
    let up = Up::start(&["--watch"]);
    let ingress = up.ingress();
    let admins = up.admins();
    assert_eq!(admins.len(), 5);
    assert_eq!(status(ingress, "intranet.example.com").await.unwrap(), 403);

    // What every policy here allows is asked for all the time.
    let ends = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicU64::new(0));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (ends, asked) = (ends.clone(), asked.clone());
            tokio::spawn(async move {
                let mut failed = Vec::new();
                while !ends.load(Ordering::Relaxed) {
                    match status(ingress, "shop.example.com").await {
                        Ok(200) => {}
                        other => failed.push(format!("{other:?}")),
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                }
                failed
            })
        })
        .collect();
    let mut taken = Vec::new();
    for turn in 0..10 {
        let open = turn % 2 == 0;
        let text = policy(open);
        let start = Instant::now();
        replace(&up.policy, &text);
        let line = tokio::task::block_in_place(|| up.told("policy "));
        assert!(line.contains(" 1 rules is in force at 5 proxies"), "{line}");
        taken.push(start.elapsed());
        for admin in &admins {
            let revisions = revisions(*admin).await;
            assert!(!revisions.is_empty());
            assert!(
                revisions.iter().all(|seen| *seen == revision(&text)),
                "{revisions:?}"
            );
        }
        let expected = if open { 200 } else { 403 };
        assert_eq!(
            status(ingress, "intranet.example.com").await.unwrap(),
            expected
        );
    }
    // Other tests have the machine, too: one of ten may wait for it.
    taken.sort();
    assert!(taken[taken.len() / 2] < LIVE, "in force after {taken:?}");
    ends.store(true, Ordering::Relaxed);
    for task in load {
        assert_eq!(task.await.unwrap(), <[String; 0]>::default());
    }
    let asked = asked.load(Ordering::Relaxed);
    assert!(asked > 100, "only {asked} requests were sent");

    // A policy with errors is told with its errors, and the old one stays.
    replace(&up.policy, &policy(true).replace("deny", "refuse"));
    tokio::task::block_in_place(|| {
        up.told("the policy is refused, and the one before stays in force:");
        up.told("hosts.ingress.default: ");
    });
    assert_eq!(status(ingress, "intranet.example.com").await.unwrap(), 403);
    // So is one that would need other configurations.
    replace(
        &up.policy,
        &policy(true).replace("127.1.0.0/16", "127.0.0.0/8"),
    );
    tokio::task::block_in_place(|| up.told("mesh.cidrs: "));
    assert_eq!(status(ingress, "intranet.example.com").await.unwrap(), 403);

    // A file that is written in two parts is read as a whole.
    let text = policy(true);
    let (first, second) = text.split_at(text.len() / 2);
    std::fs::write(&up.policy, first).unwrap();
    std::fs::write(&up.policy, format!("{first}{second}")).unwrap();
    let line = tokio::task::block_in_place(|| up.told(""));
    assert!(line.contains("in force at 5 proxies"), "{line}");
    up.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigusr1_has_the_file_read_again() {
    let up = Up::start(&[]);
    let ingress = up.ingress();
    replace(&up.policy, &policy(true));
    let id = Pid::from_raw(up.process.id() as i32);
    kill(id, Signal::SIGUSR1).unwrap();
    let line = tokio::task::block_in_place(|| up.told("policy "));
    assert!(line.contains("in force at 5 proxies"), "{line}");
    assert_eq!(status(ingress, "intranet.example.com").await.unwrap(), 200);
    std::fs::remove_file(&up.policy).unwrap();
    kill(id, Signal::SIGUSR1).unwrap();
    tokio::task::block_in_place(|| up.told("the policy is refused"));
    assert_eq!(status(ingress, "intranet.example.com").await.unwrap(), 200);
    up.end();
}

/// The process of one of the topology's Envoys.
fn process(run: &str, name: &str) -> Pid {
    let bootstrap = format!("{run}/{name}.json");
    let found = std::fs::read_dir("/proc").unwrap().flatten().find(|entry| {
        std::fs::read(entry.path().join("cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&bootstrap))
    });
    let id = found.unwrap().file_name().into_string().unwrap();
    Pid::from_raw(id.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_does_not_take_a_policy_is_named_and_the_next_policy_comes_all_the_same() {
    let up = Up::start(&["--watch"]);
    let run = up.description["run"].as_str().unwrap();
    let orders = process(run, "orders");
    kill(orders, Signal::SIGSTOP).unwrap();
    replace(&up.policy, &policy(true));
    tokio::task::block_in_place(|| {
        let line = up.told("policy ");
        assert!(line.contains("is NOT in force everywhere"), "{line}");
        let line = up.told("");
        assert!(line.starts_with("orders does not answer: "), "{line}");
    });
    // The others have it.
    let ingress = up.ingress();
    assert_eq!(status(ingress, "intranet.example.com").await.unwrap(), 200);
    kill(orders, Signal::SIGCONT).unwrap();
    replace(&up.policy, &policy(false));
    let line = tokio::task::block_in_place(|| up.told("policy "));
    assert!(line.contains("in force at 5 proxies"), "{line}");
    up.end();
}

/// What 200 updates leave in memory is bounded: the second hundred adds next to nothing to the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_updates_do_not_grow_an_envoy() {
    let up = Up::start(&["--watch"]);
    let admin = up.admins()[0];
    let memory = async || {
        let reply = Call::new(admin, "admin").path("/memory").send().await;
        let memory: Value = serde_json::from_str(&reply.unwrap().text()).unwrap();
        memory["allocated"]
            .as_str()
            .unwrap()
            .parse::<i64>()
            .unwrap()
    };
    let modules = meridian::lab::paths::modules_dir().unwrap();
    let run = PathBuf::from(up.description["run"].as_str().unwrap());
    let first = PolicyFile::parse(policy(false).as_bytes()).unwrap();
    let mut live = meridian::lab::live::Live::of(&first, modules, run.join("filters"));
    let mut seen = vec![memory().await];
    for update in 0..200 {
        let text = policy(update % 2 == 0);
        live.renew(&PolicyFile::parse(text.as_bytes()).unwrap())
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        while !revisions(admin)
            .await
            .iter()
            .all(|seen| *seen == revision(&text))
        {
            assert!(Instant::now() < deadline, "update {update} does not arrive");
        }
        if update % 100 == 99 {
            seen.push(memory().await);
        }
    }
    eprintln!("bytes allocated before, after 100 and after 200 updates: {seen:?}");
    let grown = seen[2] - seen[1];
    assert!(
        grown < 2_000_000,
        "{grown} bytes in the second hundred: {seen:?}"
    );
    up.end();
}
