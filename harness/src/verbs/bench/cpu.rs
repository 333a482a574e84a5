//! CPU time of a process as the kernel accounts for it, thread by thread, and which CPU it runs on.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// How often [`settled`] looks, and for how long at most.
const SETTLE_INTERVAL: Duration = Duration::from_millis(1);
const SETTLE_LIMIT: Duration = Duration::from_secs(5);

/// The CPUs of a run: one for the Envoy that is measured, another for everything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpus {
    /// For the load generator, the upstream and whatever else this process does.
    pub load: usize,
    /// For Envoy.
    pub envoy: usize,
}

impl Cpus {
    /// The last two CPUs that this process may use: the first one of a machine has its interrupts.
    ///
    /// # Errors
    /// If there is one only.
    pub fn choose() -> anyhow::Result<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(0)).context("which CPUs may be used?")?;
        let mut cpus = (0..CpuSet::count())
            .rev()
            .filter(|cpu| allowed.is_set(*cpu) == Ok(true));
        match (cpus.next(), cpus.next()) {
            (Some(envoy), Some(load)) => Ok(Self { load, envoy }),
            _ => bail!(
                "this process may use one CPU only, and Envoy and its load need one each: run it \
                 where it has two"
            ),
        }
    }
}

/// Binds every thread of a process to one CPU; those that it starts later inherit that.
///
/// # Errors
/// If the process is gone, or not ours.
pub fn pin(pid: u32, cpu: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)
        .with_context(|| format!("CPU {cpu} is beyond what the kernel's call can name"))?;
    let mut bound = Vec::new();
    loop {
        // A thread that was being started by one not yet bound would be missed by a single look.
        let unbound: Vec<i32> = threads(pid)?
            .into_iter()
            .filter(|thread| !bound.contains(thread))
            .collect();
        if unbound.is_empty() {
            return Ok(());
        }
        for thread in unbound {
            match sched_setaffinity(Pid::from_raw(thread), &set) {
                // It has ended in the meantime.
                Ok(()) | Err(Errno::ESRCH) => bound.push(thread),
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("cannot bind thread {thread} to CPU {cpu}"));
                }
            }
        }
    }
}

/// What the threads of a process have used so far, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// On a CPU, all threads together.
    pub cpu: u64,
    /// Of that, Envoy's workers.
    pub workers: u64,
    /// Ready to run while something else had the CPU, all threads together.
    pub waited: u64,
}

impl Spent {
    /// What was used since an `earlier` look at the same process.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            workers: self.workers.saturating_sub(earlier.workers),
            waited: self.waited.saturating_sub(earlier.waited),
        }
    }

    /// The time of waiting for a CPU as a share of the time of having one.
    pub fn waited_share(self) -> f64 {
        self.waited as f64 / self.cpu.max(1) as f64
    }
}

/// What a process has used so far. A thread that runs at this moment is behind by up to a tick of
/// the kernel; see [`settled`].
///
/// # Errors
/// If the process is gone, or the kernel keeps no such account (`CONFIG_SCHED_INFO`).
pub fn spent(pid: u32) -> anyhow::Result<Spent> {
    let mut sum = Spent::default();
    for thread in threads(pid)? {
        let folder = PathBuf::from(format!("/proc/{pid}/task/{thread}"));
        let (Ok(statistics), Ok(name)) = (
            fs::read_to_string(folder.join("schedstat")),
            fs::read_to_string(folder.join("comm")),
        ) else {
            // It has ended since it was listed.
            continue;
        };
        let (cpu, waited) = parse_schedstat(&statistics)
            .with_context(|| format!("/proc/{pid}/task/{thread}/schedstat: {statistics:?}"))?;
        sum.cpu += cpu;
        sum.waited += waited;
        if name.starts_with("wrk:") {
            sum.workers += cpu;
        }
    }
    if sum.cpu == 0 {
        bail!("the kernel accounts for no CPU time of process {pid}: is it gone?");
    }
    Ok(sum)
}

/// What a process has used so far, looked at when none of its threads runs or wants to: the kernel
/// brings the account of a thread up to date when the thread leaves its CPU.
///
/// # Errors
/// As [`spent`], or if it does not come to rest.
pub async fn settled(pid: u32) -> anyhow::Result<Spent> {
    let deadline = Instant::now() + SETTLE_LIMIT;
    let mut last = spent(pid)?;
    while Instant::now() < deadline {
        tokio::time::sleep(SETTLE_INTERVAL).await;
        let now = spent(pid)?;
        if now.cpu == last.cpu && !is_runnable(pid)? {
            return Ok(now);
        }
        last = now;
    }
    bail!(
        "process {pid} is still busy {} s after its last request",
        SETTLE_LIMIT.as_secs()
    )
}

/// True if a thread of the process has a CPU or waits for one.
fn is_runnable(pid: u32) -> anyhow::Result<bool> {
    let state = |thread| {
        let stat = fs::read_to_string(format!("/proc/{pid}/task/{thread}/stat")).ok()?;
        // The name before it is in parentheses and may hold anything.
        stat.rsplit_once(") ")?.1.chars().next()
    };
    Ok(threads(pid)?
        .into_iter()
        .any(|thread| state(thread) == Some('R')))
}

/// What a CPU's time went to since the machine started, in the kernel's ticks: `(stolen, all)`, the
/// first by the hypervisor.
///
/// # Errors
/// If the kernel does not say.
pub fn stolen(cpu: usize) -> anyhow::Result<(u64, u64)> {
    let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    parse_stat(&text, cpu).with_context(|| format!("/proc/stat has no cpu{cpu}"))
}

/// User, nice, system, idle, waiting for I/O, two kinds of interrupts, stolen; what follows is in
/// user already.
fn parse_stat(text: &str, cpu: usize) -> Option<(u64, u64)> {
    let mut lines = text.lines().map(str::split_ascii_whitespace);
    let name = format!("cpu{cpu}");
    let fields = lines.find_map(|mut fields| (fields.next() == Some(&name)).then_some(fields))?;
    let ticks: Vec<u64> = fields
        .take(8)
        .map_while(|field| field.parse().ok())
        .collect();
    Some((*ticks.get(7)?, ticks.iter().sum()))
}

fn threads(pid: u32) -> anyhow::Result<Vec<i32>> {
    let folder = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))?;
    Ok(entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect())
}

/// Time on the CPU, time waiting for it, and the number of times that it got it.
fn parse_schedstat(text: &str) -> Option<(u64, u64)> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_schedstat_begins_with_running_and_waiting() {
        assert_eq!(parse_schedstat("91362 71944 2\n"), Some((91362, 71944)));
        assert_eq!(parse_schedstat(""), None);
    }

    #[test]
    fn a_cpu_s_stolen_time_is_its_eighth_number() {
        let text =
            "cpu  2 2 2 2 2 2 2 2 2 2\ncpu0 1 1 1 1 1 1 1 7 9 0\ncpu11 1 2 3 4 5 6 7 8 0 0\n";
        assert_eq!(parse_stat(text, 0), Some((7, 14)));
        assert_eq!(parse_stat(text, 11), Some((8, 36)));
        assert_eq!(parse_stat(text, 1), None);
    }

    #[test]
    fn a_busy_thread_is_accounted_for() {
        let before = spent(std::process::id()).unwrap();
        let end = Instant::now() + Duration::from_millis(50);
        std::thread::scope(|scope| {
            scope.spawn(|| while Instant::now() < end {});
            // Read while the thread is still there: an ended one is no longer listed.
            while Instant::now() < end {
                std::thread::yield_now();
            }
            assert!(spent(std::process::id()).unwrap().cpu > before.cpu);
        });
    }

    #[tokio::test]
    async fn a_process_that_does_not_rest_is_not_looked_at() {
        let mut busy = std::process::Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .spawn()
            .unwrap();
        // Until it has run for the first time nothing is accounted for.
        let deadline = Instant::now() + Duration::from_secs(10);
        while spent(busy.id()).is_err() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let error = settled(busy.id()).await.unwrap_err().to_string();
        busy.kill().unwrap();
        busy.wait().unwrap();
        assert!(error.contains("is still busy"), "{error}");
    }

    #[test]
    fn a_pinned_process_has_one_cpu_and_so_have_its_later_threads() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "read line; nproc"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        pin(child.id(), Cpus::choose().unwrap().envoy).unwrap();
        use std::io::Write;
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "1\n");
    }
}
