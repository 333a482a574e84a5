//! HTTP/1: exact bytes out, one response in.

use std::time::Duration;

use anyhow::bail;
use meridian::lab::topology::raw;

use super::{Answer, Stream};

pub use meridian::lab::topology::raw::Reader;

/// Writes `request` and reads one response: as long as it says it is, or to the connection's end.
///
/// After a 2xx to CONNECT and after 101 the connection is a tunnel; nothing of it is read.
///
/// # Errors
/// If nothing complete arrives within `deadline`, or what arrives is not HTTP/1.
pub async fn exchange(
    stream: &mut dyn Stream,
    request: &[u8],
    deadline: Duration,
) -> anyhow::Result<Answer> {
    match tokio::time::timeout(deadline, raw::exchange(stream, request)).await {
        Ok(answer) => answer,
        Err(_) => bail!("no complete response within {deadline:?}"),
    }
}
