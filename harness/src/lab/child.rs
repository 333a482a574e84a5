//! A child process that never outlives this one, for Envoy and NGINX.
//!
//! It knows nothing of what it runs: readiness is the caller's business.

use std::fs::File;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getppid};
use tokio::signal::unix::{SignalKind, signal};

/// How often [`ChildProcess::stop`] looks whether the child has gone.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// A child process in a process group of its own, with its output in a file.
///
/// It dies with this process, also by `kill -9` or a panic (`PR_SET_PDEATHSIG`), and with this
/// value. The kernel's death signal reaches the child alone: a program that forks workers, as
/// NGINX does, must run as a single process (`master_process off`) to get the same promise.
#[derive(Debug)]
pub struct ChildProcess {
    child: Child,
    status: Option<ExitStatus>,
    program: String,
    log_path: PathBuf,
    log_start: u64,
}

impl ChildProcess {
    /// Starts `command` with no input, and with stdout and stderr appended to the file `log_path`.
    ///
    /// Any thread may call this, one of short life too.
    ///
    /// # Errors
    /// If the log cannot be opened or the program cannot be started; names both.
    pub fn spawn(mut command: Command, log_path: &Path) -> anyhow::Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let log = File::options()
            .create(true)
            .append(true)
            .open(log_path)
            .with_context(|| format!("cannot open the log {}", log_path.display()))?;
        let log_start = log.metadata()?.len();
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        die_with_the_parent(&mut command);
        let child = spawn_from_lasting_thread(command)
            .with_context(|| format!("cannot start {program}"))?;
        Ok(Self {
            child,
            status: None,
            program,
            log_path: log_path.to_path_buf(),
            log_start,
        })
    }

    /// The child's process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The file with the child's stdout and stderr.
    pub fn log_path(&self) -> &Path {
        &self.log_path
    }

    /// Where in that file the output of this child begins: one before it may have written there too.
    pub fn log_start(&self) -> u64 {
        self.log_start
    }

    /// How the child ended, or `None` while it runs.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn try_wait(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self
                .child
                .try_wait()
                .with_context(|| format!("cannot wait for {}", self.program))?;
        }
        Ok(self.status)
    }

    /// Waits until the child has ended by itself, or `deadline` has passed: then `None`.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub async fn wait_until(&mut self, deadline: Instant) -> anyhow::Result<Option<ExitStatus>> {
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Sends `signal` to the child's process group; nothing if the child has ended.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        // A reaped process id may belong to somebody else by now.
        if self.try_wait()?.is_some() {
            return Ok(());
        }
        killpg(self.group(), signal)
            .with_context(|| format!("cannot send {signal} to {}", self.program))
    }

    /// Ends the child: SIGTERM, and SIGKILL if it still runs after `grace`.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn stop(&mut self, grace: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        match self.wait_until(Instant::now() + grace).await? {
            Some(status) => Ok(status),
            None => self.kill(),
        }
    }

    fn kill(&mut self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::SIGKILL)?;
        let status = match self.status {
            Some(status) => status,
            None => self.child.wait()?,
        };
        self.status = Some(status);
        Ok(status)
    }

    fn group(&self) -> Pid {
        // Linux keeps process ids below 2^22.
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        // There is nobody left to tell; the kernel's death signal is the second line.
        let _ = self.kill();
    }
}

/// Waits until `look` finds something, which it is asked at once, and then whenever a child of this
/// process has ended.
///
/// # Errors
/// Those of `look`, or if the kernel refuses to tell of children.
pub async fn until_a_child_ends<T>(
    mut look: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    // Before the first look, so that no end falls between the two.
    let mut ends = signal(SignalKind::child()).context("cannot listen to signals")?;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        ends.recv().await;
    }
}

/// Says how a process ended in a sentence's words, as in `exited with status 1`.
pub fn describe_exit(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => match Signal::try_from(signal) {
            Ok(signal) => format!("was ended by {signal}"),
            Err(_) => format!("was ended by signal {signal}"),
        },
        (None, None) => "ended".to_owned(),
    }
}

fn die_with_the_parent(command: &mut Command) {
    let parent = Pid::this();
    let prepare = move || -> io::Result<()> {
        set_pdeathsig(Signal::SIGKILL)?;
        // Had the parent died before that call, no signal would ever come.
        if getppid() == parent {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(nix::libc::ESRCH))
        }
    };
    // SAFETY: prctl and getppid are async-signal-safe and the closure allocates nothing.
    unsafe {
        command.pre_exec(prepare);
    }
}

/// The kernel's "parent" of a death signal is the thread that forked, and threads of a runtime's
/// blocking pool come and go. So one thread that ends only with the process does all the forking.
fn spawn_from_lasting_thread(command: Command) -> io::Result<Child> {
    type Request = (Command, Sender<io::Result<Child>>);
    static SPAWNER: LazyLock<Mutex<Sender<Request>>> = LazyLock::new(|| {
        let (sender, requests) = channel::<Request>();
        std::thread::Builder::new()
            .name("spawner".to_owned())
            .spawn(move || {
                for (mut command, reply) in requests {
                    // Nobody waits for a reply when the caller has panicked; then the child is
                    // dropped here, unreaped, until this process ends.
                    let _ = reply.send(command.spawn());
                }
            })
            .map(|_| Mutex::new(sender))
            .unwrap_or_else(|error| {
                panic!("cannot start the thread that starts processes: {error}")
            })
    });
    let (reply, child) = channel();
    SPAWNER
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, reply))
        .map_err(io::Error::other)?;
    child.recv().map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(folder: &Path) -> ChildProcess {
        let mut command = Command::new("sleep");
        command.arg("600");
        ChildProcess::spawn(command, &folder.join("sleep.log")).unwrap()
    }

    /// True while the process runs; a zombie does not.
    fn runs(pid: u32) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").starts_with(" Z"))
    }

    fn await_end(pid: u32) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while runs(pid) {
            assert!(Instant::now() < deadline, "process {pid} still runs");
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    #[test]
    fn a_dropped_child_is_killed_and_reaped() {
        let folder = tempfile::tempdir().unwrap();
        let child = sleeper(folder.path());
        let pid = child.id();
        assert!(runs(pid));
        drop(child);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn a_child_outlives_the_thread_that_asked_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut child =
            std::thread::scope(|scope| scope.spawn(|| sleeper(folder.path())).join().unwrap());
        // The death signal would come with the thread's end, which join has waited for.
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(child.try_wait().unwrap(), None);
    }

    #[tokio::test]
    async fn stop_kills_a_child_that_ignores_sigterm() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("sh.log");
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "trap '' TERM; echo ready; while :; do sleep 0.1; done",
        ]);
        let mut child = ChildProcess::spawn(command, &log).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::fs::read_to_string(&log).unwrap() != "ready\n" {
            assert!(Instant::now() < deadline, "the shell never started");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        let status = child.stop(Duration::from_millis(100)).await.unwrap();
        assert_eq!(describe_exit(status), "was ended by SIGKILL");
    }

    #[tokio::test]
    async fn the_output_and_the_status_of_a_child_that_ends_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let mut child = ChildProcess::spawn(command, &folder.path().join("sh.log")).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let status = child.wait_until(deadline).await.unwrap().unwrap();
        assert_eq!(describe_exit(status), "exited with status 3");
        assert_eq!(
            std::fs::read_to_string(child.log_path()).unwrap(),
            "out\nerr\n"
        );
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let command = Command::new("/nonexistent/envoy");
        let error = ChildProcess::spawn(command, &folder.path().join("log")).unwrap_err();
        assert_eq!(error.to_string(), "cannot start /nonexistent/envoy");
    }

    /// The parent of `kill_9_of_the_parent_ends_the_child`; does nothing by itself.
    #[test]
    fn parent_to_be_killed() {
        let Some(report) = std::env::var_os("MERIDIAN_TEST_CHILD_PID") else {
            return;
        };
        let report = PathBuf::from(report);
        let child = sleeper(report.parent().unwrap());
        crate::lab::paths::write_atomically(&report, child.id().to_string().as_bytes()).unwrap();
        std::thread::sleep(Duration::from_secs(600));
    }

    #[test]
    fn kill_9_of_the_parent_ends_the_child() {
        let folder = tempfile::tempdir().unwrap();
        let report = folder.path().join("pid");
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "lab::child::tests::parent_to_be_killed"])
            .env("MERIDIAN_TEST_CHILD_PID", &report);
        let parent = ChildProcess::spawn(command, &folder.path().join("parent.log")).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let child: u32 = loop {
            if let Ok(pid) = std::fs::read_to_string(&report) {
                break pid.parse().unwrap();
            }
            assert!(
                Instant::now() < deadline,
                "the parent never reported its child"
            );
            std::thread::sleep(POLL_INTERVAL);
        };
        assert!(runs(child));
        // The child has a process group of its own, so this kill reaches the parent alone.
        drop(parent);
        await_end(child);
    }
}
