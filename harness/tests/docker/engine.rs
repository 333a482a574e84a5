//! A Docker engine for one test: a daemon of its own in a network, a process tree, a folder and a
//! control group of its own, which all end with the test, whatever ends it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use meridian::lab::child::{ChildProcess, describe_exit};
use meridian::lab::namespaces::{Mount, Mounts, Network, Place};
use meridian::lab::paths;
use nix::sys::signal::Signal;

/// One engine at a time: each has images of its own, which take hundreds of megabytes.
static TURN: Mutex<()> = Mutex::new(());

/// Where the daemon listens, as its clients see it.
const SOCKET: &str = "unix:///run/docker.sock";

/// Debian's folders before others: a newer client may not speak with the daemon of Debian.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin";

/// The programs that it takes, each with Debian's package.
const PROGRAMS: [(&str, &str); 8] = [
    ("dockerd", "docker.io"),
    ("docker", "docker.io"),
    ("docker-compose", "docker-compose"),
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("ldd", "libc-bin"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
];

/// How long the daemon may take to answer, and to end.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A running daemon. Its published ports are on the loopback of its own network.
pub struct Engine {
    daemon: Option<ChildProcess>,
    place: Place,
    /// The name of its folder and of its control group.
    name: String,
    folder: PathBuf,
    process_tree: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

impl Engine {
    /// Waits until no other test of this process has an engine, and starts one; `None`, and a line on
    /// stderr, where this machine cannot run one, unless `CI` is set.
    pub fn start() -> Option<Self> {
        if let Some(missing) = missing() {
            eprintln!("skipped: {missing}");
            assert!(std::env::var_os("CI").is_none(), "{missing}");
            return None;
        }
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let engines = paths::target_dir().unwrap().join("docker");
        sweep(&engines);
        let name = name_of(std::process::id());
        let folder = engines.join(&name);
        for inner in ["data", "etc", "client"] {
            fs::create_dir_all(folder.join(inner)).unwrap();
        }
        let mounts = [
            // The daemon's socket, its containers' state and the lock of `iptables`.
            Mount::Empty("/run".into()),
            // The machine's own daemon.json, and the key that a daemon writes there.
            Mount::Bind {
                source: folder.join("etc"),
                target: "/etc/docker".into(),
            },
        ];
        let place = Place {
            network: Network::create().unwrap(),
            mounts: Mounts::create(&mounts).unwrap(),
            folder: folder.clone(),
        };
        let up = place
            .command("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        assert!(up.unwrap().success());

        let mut command = place.command("unshare");
        command
            .args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"])
            .args(["dockerd", "--log-level", "error", "--host", SOCKET])
            .args(["--exec-root", "/run/docker", "--pidfile", "/run/docker.pid"])
            .args(["--cgroup-parent", &format!("/{name}")])
            .arg("--data-root")
            .arg(folder.join("data"))
            .env("PATH", PATH);
        let mut daemon = ChildProcess::spawn(command, &folder.join("log")).unwrap();
        let id = daemon.id();
        let mut engine = Self {
            process_tree: PathBuf::new(),
            place,
            name,
            folder,
            _turn: turn,
            daemon: None,
        };
        let answers = |engine: &Self| {
            let asked = engine.command("docker").arg("version").output();
            asked.unwrap().status.success()
        };
        until("the daemon answers", || {
            if let Some(status) = daemon.try_wait().unwrap() {
                let log = fs::read_to_string(daemon.log_path()).unwrap();
                panic!("dockerd {}: {log}", describe_exit(status));
            }
            answers(&engine)
        });
        engine.process_tree = fs::read_link(format!("/proc/{id}/ns/pid_for_children")).unwrap();
        engine.daemon = Some(daemon);
        Some(engine)
    }

    /// A command that runs in the engine's network, where published ports are, as its client.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.place.command(program);
        command
            .env("PATH", PATH)
            .env("DOCKER_HOST", SOCKET)
            .env("DOCKER_CONFIG", self.folder.join("client"))
            .env("COMPOSE_HTTP_TIMEOUT", "120")
            .stdin(Stdio::null());
        command
    }

    /// What `docker` prints, given these arguments; it must succeed.
    pub fn docker<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> String {
        let mut command = self.command("docker");
        succeed(command.args(arguments))
    }

    /// What `docker-compose` prints, given these arguments, for the project in `folder`; it must
    /// succeed.
    pub fn compose<S: AsRef<OsStr>>(
        &self,
        folder: &Path,
        arguments: impl IntoIterator<Item = S>,
    ) -> String {
        succeed(self.compose_command(folder).args(arguments))
    }

    /// `docker-compose` as somebody in `folder` runs it.
    pub fn compose_command(&self, folder: &Path) -> Command {
        let mut command = self.command("env");
        command.arg("--chdir").arg(folder).arg("docker-compose");
        command
    }

    /// Ends the daemon with all its containers and checks that nothing of it is left.
    pub fn end(mut self) {
        self.stop();
        let (name, folder) = (&self.name, &self.folder);
        assert_eq!(
            processes(name, &self.process_tree),
            <[String; 0]>::default()
        );
        assert_eq!(control_groups(name), <[PathBuf; 0]>::default());
        assert!(!folder.exists(), "{} is left", folder.display());
    }

    /// What Linux knows of its processes: those of the daemon's tree and those of containers.
    pub fn processes(&self) -> Vec<String> {
        processes(&self.name, &self.process_tree)
    }

    fn stop(&mut self) {
        let Some(mut daemon) = self.daemon.take() else {
            return;
        };
        // The daemon ends its containers; the rest is for a daemon that does not.
        if daemon.signal(Signal::SIGTERM).is_ok() {
            let deadline = Instant::now() + PATIENCE;
            while daemon.try_wait().is_ok_and(|status| status.is_none())
                && Instant::now() < deadline
            {
                std::thread::sleep(POLL_INTERVAL);
            }
        }
        drop(daemon);
        let deadline = Instant::now() + PATIENCE;
        while !self.processes().is_empty() && Instant::now() < deadline {
            std::thread::sleep(POLL_INTERVAL);
        }
        remove(&self.name, &self.folder);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Calls `is_true` until it is; fails after a minute.
pub fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_true() {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// What the command prints; it must succeed.
pub fn succeed(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    assert!(
        status.success(),
        "{command:?} {}: {}{}",
        describe_exit(status),
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr)
    );
    String::from_utf8(stdout).unwrap()
}

/// What this machine lacks, in a sentence.
fn missing() -> Option<String> {
    let mut lacking: Vec<String> = PROGRAMS
        .iter()
        .filter(|(program, _)| {
            let mut folders = std::env::split_paths(PATH);
            !folders.any(|folder| folder.join(program).is_file())
        })
        .map(|(program, package)| format!("`{program}` (Debian's package {package})"))
        .collect();
    if !nix::unistd::geteuid().is_root() {
        lacking.push("root, for its network namespace".to_owned());
    }
    (!lacking.is_empty()).then(|| format!("a Docker engine needs {}", lacking.join(", ")))
}

fn name_of(process: u32) -> String {
    format!("meridian-test-{process}")
}

/// Removes what tests left that were killed: their daemons have ended with them.
fn sweep(engines: &Path) {
    let Ok(entries) = engines.read_dir() else {
        return;
    };
    for entry in entries {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let owner = name.rsplit('-').next().unwrap();
        if !Path::new("/proc").join(owner).exists() {
            remove(&name, &engines.join(&name));
        }
    }
}

/// Removes an engine's folder and control groups; what cannot be removed, stays.
fn remove(name: &str, folder: &Path) {
    let _ = fs::remove_dir_all(folder);
    for group in control_groups(name) {
        remove_control_group(&group);
    }
}

/// A group's files cannot be removed, and go with it.
fn remove_control_group(group: &Path) {
    for entry in group.read_dir().into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_control_group(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}

/// The engine's control groups: one, or one a hierarchy.
fn control_groups(name: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = root.read_dir().into_iter().flatten().flatten();
    let candidates = hierarchies.map(|entry| entry.path().join(name));
    let candidates = candidates.chain([root.join(name)]);
    candidates.filter(|group| group.is_dir()).collect()
}

/// The processes of a daemon's tree and those of its containers, which have trees of their own.
fn processes(name: &str, process_tree: &Path) -> Vec<String> {
    let group = format!("/{name}/");
    let all = Path::new("/proc").read_dir().unwrap().flatten();
    all.map(|entry| entry.path())
        .filter(|process| {
            fs::read_link(process.join("ns/pid")).is_ok_and(|tree| tree == process_tree)
                || fs::read_to_string(process.join("cgroup"))
                    .is_ok_and(|groups| groups.contains(&group))
        })
        // A process that has just ended has no command line, and none to be shown.
        .filter_map(|process| fs::read_to_string(process.join("cmdline")).ok())
        .filter(|command| !command.is_empty())
        .map(|command| command.replace('\0', " "))
        .collect()
}
