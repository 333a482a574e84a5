//! The async runtime of the verbs that hold sockets.

use anyhow::Context;

/// Runs `verb` to its end on a multi-threaded runtime.
///
/// # Errors
/// Those of `verb`, or if the runtime cannot start.
pub(crate) fn block_on<T>(verb: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Runtime::new()
        .context("cannot start the async runtime")?
        .block_on(verb)
}
