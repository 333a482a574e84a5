//! A connection as its bytes, whatever carries them.

use tokio::io::{AsyncRead, AsyncWrite};

/// A connection of either kind.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}
