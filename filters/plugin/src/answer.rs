//! What a client is told whose request or connection goes no further.

use meridian_policy::Reason;

use crate::host::{GrpcStatus, Refused, StreamHost};

/// What the host is to do with the request or connection, in Envoy's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterStatus {
    /// It goes on.
    Continue,
    /// Nothing more: it is answered, or closed.
    StopIteration,
}

/// What a gRPC client reads of a refusal in the place of the HTTP status.
pub(crate) fn grpc_status(reason: Reason) -> GrpcStatus {
    match reason {
        Reason::InvalidHost(_) => GrpcStatus::InvalidArgument,
        Reason::SniMismatch | Reason::Rule(_) | Reason::Default => GrpcStatus::PermissionDenied,
    }
}

/// Answers a request that no policy decides on.
pub fn no_policy<H: StreamHost>(host: H) -> FilterStatus {
    reply(
        host,
        503,
        GrpcStatus::Unavailable,
        "meridian_no_policy",
        "no policy\n",
    )
}

/// Answers the request here, once.
pub(crate) fn reply<H: StreamHost>(
    host: H,
    status: u16,
    grpc_status: GrpcStatus,
    details: &str,
    body: &str,
) -> FilterStatus {
    if let Err(Refused(answer)) = host.local_reply(status, grpc_status, details, body) {
        // The request stays paused, so that it does not pass.
        log::error!("a refusal was not sent: the host answered {answer}");
    }
    FilterStatus::StopIteration
}

/// Closes the connection, before anything behind the filter knows of it.
pub fn close<H: StreamHost>(host: H) -> FilterStatus {
    if let Err(Refused(answer)) = host.close_downstream() {
        log::error!("a refused connection was not closed: the host answered {answer}");
    }
    FilterStatus::StopIteration
}
