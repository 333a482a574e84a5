//! The async runtime of the verbs that hold sockets, and the signals that end those that serve.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Runs `verb` to its end on a multi-threaded runtime.
///
/// # Errors
/// Those of `verb`, or if the runtime cannot start.
pub(crate) fn block_on<T>(verb: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Runtime::new()
        .context("cannot start the async runtime")?
        .block_on(verb)
}

/// The signals that end a verb that serves: SIGINT, as from Ctrl-C, SIGTERM, and SIGHUP, as from a
/// terminal that is closed, unless the verb was started to outlive it, as by `nohup`.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Option<Signal>,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        let hang_up = match is_ignored(nix::libc::SIGHUP) {
            true => None,
            false => Some(listen(SignalKind::hangup())?),
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up,
        })
    }

    /// The name of the next one.
    pub(crate) async fn next(&mut self) -> &'static str {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = hang_up => "SIGHUP",
        }
    }
}

/// Whether this process was started with the signal ignored.
fn is_ignored(signal: nix::libc::c_int) -> bool {
    let mut action = std::mem::MaybeUninit::<nix::libc::sigaction>::uninit();
    // SAFETY: without a new action nothing is changed, and the old one is written to memory of its size.
    let asked = unsafe { nix::libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: on success the kernel has written the whole of it.
    asked == 0 && unsafe { action.assume_init() }.sa_sigaction == nix::libc::SIG_IGN
}
