//! Each way to speak HTTP, allowed and refused, on real Envoy: what the client gets, what reaches
//! the upstream, what is counted and what is logged.

mod grpc;
mod guess;
mod http1;
mod http2;
mod http3;
mod reuse;
mod tunnels;

use meridian_tests::raw::{Answer, Progress, Response};

/// The body of a refusal.
const REFUSED: &[u8] = b"host not allowed\n";

fn response(answer: Answer) -> anyhow::Result<Response> {
    match answer {
        Answer::Response(response) => Ok(response),
        Answer::Reset(why) => anyhow::bail!("no response: {why}"),
    }
}

/// The response of an HTTP/2 stream, which must have one.
fn response_of(progress: Progress) -> anyhow::Result<Response> {
    match (progress.response, progress.reset) {
        (Some(response), None) => Ok(response),
        (response, reset) => anyhow::bail!("{response:?}, reset: {reset:?}"),
    }
}

#[track_caller]
fn assert_refused(response: &Response) {
    assert_eq!((response.status, &*response.body), (403, REFUSED));
}

/// That the upstream answered, and to which request.
#[track_caller]
fn assert_served(response: &Response, what: &str) {
    let body = String::from_utf8_lossy(&response.body);
    assert_eq!((response.status, body.trim_end()), (200, what));
}
