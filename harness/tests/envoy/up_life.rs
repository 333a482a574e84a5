//! `meridian up` when something goes wrong under it: processes that die, and terminals that are closed.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const DEADLINE: Duration = Duration::from_secs(30);

fn up(arguments: &[&str]) -> Command {
    // Downloaded here, where a test may take its time.
    meridian::lab::envoy::obtain(None).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_meridian"));
    command
        .args(["up", "--no-filters", "--json"])
        .args(arguments);
    command
}

/// `meridian up`, which is killed if the test fails.
struct Up {
    child: Child,
    description: Value,
    told: Receiver<String>,
}

impl Up {
    fn start(arguments: &[&str]) -> Self {
        let mut child = up(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (tell, told) = channel();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // Nobody listens any more when a test has ended.
                let _ = tell.send(line);
            }
        });
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let line = stdout.lines().next().unwrap().unwrap();
        Self {
            child,
            description: serde_json::from_str(&line).unwrap(),
            told,
        }
    }

    fn address(&self, pointer: &str) -> SocketAddr {
        address(&self.description, pointer)
    }

    /// Waits until stderr has a line that begins so, and returns it.
    #[track_caller]
    fn hears(&self, start: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        let mut heard = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.told.recv_timeout(left) {
                Ok(line) if line.starts_with(start) => return line,
                Ok(line) => heard.push(line),
                Err(_) => panic!("never heard `{start}`, but {heard:#?}"),
            }
        }
    }

    fn kill_envoy(&self, name: &str) {
        let run = self.description["run"].as_str().unwrap();
        kill_one(&format!("{run}/{name}.json"));
    }

    /// Ends it by a signal, and returns the exit code.
    fn end(mut self, signal: Signal) -> (Option<i32>, Vec<String>) {
        kill(pid(&self.child), signal).unwrap();
        let code = await_end(&mut self.child);
        await_none(self.description["run"].as_str().unwrap());
        (code, self.told.iter().collect())
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn address(description: &Value, pointer: &str) -> SocketAddr {
    let address = description.pointer(pointer).and_then(Value::as_str);
    address.expect(pointer).parse().unwrap()
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
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

fn await_end(child: &mut Child) -> Option<i32> {
    poll("up still runs", || child.try_wait().unwrap()).code()
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

/// Kills the one process with `text` in its command line.
fn kill_one(text: &str) {
    let found = processes(text);
    let [process] = &found[..] else {
        panic!("{found:?} have {text}");
    };
    let pid = process.file_name().unwrap().to_str().unwrap();
    kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL).unwrap();
}

/// The status of a request, whose path is to be found in the access log.
fn ask(target: SocketAddr, host: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(target)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1);
    Ok(status.unwrap_or_default().to_owned())
}

/// The paths in an access log, each line of which is whole.
fn logged(run: &Path, name: &str) -> Vec<String> {
    let log = std::fs::read_to_string(run.join(format!("{name}.access.log"))).unwrap();
    log.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|line| line["path"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_process_that_dies_is_told_at_once_and_all_else_goes_on() {
    let up = Up::start(&[]);
    up.hears("until Ctrl-C");
    let run = up.description["run"].as_str().unwrap().to_owned();

    up.kill_envoy("egress");
    let told = up.hears("Envoy `egress`");
    let ended = "Envoy `egress` was ended by SIGKILL; its files are in ";
    assert!(told.starts_with(ended), "{told}");
    assert!(
        up.hears("  [").contains("[info]"),
        "the last lines of its log"
    );
    let ingress = up.address("/ingress/http");
    assert_eq!(ask(ingress, "shop.example.com", "/on").unwrap(), "200");

    let has_nginx = !up.description["nginx"].is_null();
    if has_nginx {
        kill_one(&format!("{run}/nginx/nginx.conf"));
        let told = up.hears("NGINX");
        assert!(told.starts_with("NGINX was ended by SIGKILL; "), "{told}");
    }

    let (code, told) = up.end(Signal::SIGINT);
    assert_eq!(code, Some(2), "{told:?}");
    let error = format!(
        "error: Envoy `egress` was ended by SIGKILL before it was stopped; its files are in {run}"
    );
    let at = told.iter().position(|line| *line == error);
    let after = &told[at.expect("an error") + 1..];
    assert_eq!(
        after.len(),
        usize::from(has_nginx),
        "no line is told twice: {after:?}"
    );
    assert!(logged(Path::new(&run), "ingress").contains(&"/on".to_owned()));
}

#[test]
fn a_process_that_dies_is_started_again_where_it_was_by_choice() {
    let up = Up::start(&["--restart"]);
    up.hears("until Ctrl-C");
    let ingress = up.address("/ingress/http");
    let admin = up.address("/ingress/admin");
    assert_eq!(ask(ingress, "shop.example.com", "/").unwrap(), "200");
    for rest in ["0.5 s", "1 s"] {
        up.kill_envoy("ingress");
        up.hears("Envoy `ingress` was ended by SIGKILL; ");
        let told = up.hears("Envoy `ingress` is started again in ");
        assert!(told.ends_with(rest), "{told}");
        up.hears("Envoy `ingress` runs again, where it was");
        assert_eq!(ask(ingress, "shop.example.com", "/").unwrap(), "200");
        assert_eq!(ask(admin, "admin", "/ready").unwrap(), "200");
    }
    if !up.description["nginx"].is_null() {
        let run = up.description["run"].as_str().unwrap();
        kill_one(&format!("{run}/nginx/nginx.conf"));
        up.hears("NGINX runs again, where it was");
        let nginx = up.address("/nginx/http");
        assert_eq!(
            ask(nginx, "console.system.example.com", "/").unwrap(),
            "200"
        );
    }
    let (code, told) = up.end(Signal::SIGTERM);
    assert_eq!(code, Some(0), "{told:?}");
}

/// The description from a stream of lines, and what has been read.
fn description(stream: impl Read) -> Value {
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    let line = lines.find(|line| line.starts_with('{'));
    serde_json::from_str(&line.expect("a description")).unwrap()
}

fn ends_in_order(mut child: Child, description: &Value, end: impl FnOnce(&mut Child)) {
    let run = Path::new(description["run"].as_str().unwrap());
    let ingress = address(description, "/ingress/http");
    for number in 0..100 {
        let path = format!("/{number}");
        assert_eq!(ask(ingress, "shop.example.com", &path).unwrap(), "200");
    }
    end(&mut child);
    assert_eq!(await_end(&mut child), Some(0));
    await_none(run.to_str().unwrap());
    let expected: Vec<String> = (0..100).map(|number| format!("/{number}")).collect();
    assert_eq!(logged(run, "ingress"), expected, "flushed");
}

#[test]
fn sigterm_and_sighup_end_it_in_order_with_nobody_left_to_tell() {
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let mut child = up(&[])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let description = description(child.stdout.as_mut().unwrap());
        ends_in_order(child, &description, |child| {
            // What is written from now on meets EPIPE.
            child.stdout.take();
            child.stderr.take();
            kill(pid(child), signal).unwrap();
        });
    }
}

#[test]
fn a_closed_terminal_ends_it_in_order() {
    // The programs that other tests start at the same time must not hold it open.
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = posix_openpt(flags).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname_r(&master).unwrap();
    let slave = || {
        let mut options = File::options();
        let options = options.read(true).write(true);
        Stdio::from(
            options
                .custom_flags(OFlag::O_NOCTTY.bits())
                .open(&name)
                .unwrap(),
        )
    };
    let started = up(&[]);
    // As a shell does: a session of its own, whose terminal this is.
    let child = Command::new("setsid")
        .arg("--ctty")
        .arg(started.get_program())
        .args(started.get_args())
        .stdin(slave())
        .stdout(slave())
        .stderr(slave())
        .spawn()
        .unwrap();
    let mut master = master;
    let description = description(&mut master);
    // What is written from now on meets EIO.
    ends_in_order(child, &description, |_| drop(master));
}

#[test]
fn under_nohup_it_outlives_its_terminal() {
    let mut child = Command::new("nohup")
        .arg(env!("CARGO_BIN_EXE_meridian"))
        .args(["up", "--no-filters", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let description = description(child.stdout.as_mut().unwrap());
    kill(pid(&child), Signal::SIGHUP).unwrap();
    ends_in_order(child, &description, |child| {
        kill(pid(child), Signal::SIGTERM).unwrap();
    });
}
