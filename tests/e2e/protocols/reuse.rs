//! A refusal answers before the body has been read: what is left of it must never be taken for a
//! request.

use meridian_tests::raw::http1::Reader;

use super::{assert_refused, assert_served, response};
use crate::gateway::{Gateway, POLICY, soon};

/// A whole request to a host that is allowed; inside a body it is only bytes.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: shop.example.com\r\n\r\n";
const FOLLOWING: &str = "GET /next HTTP/1.1\r\nHost: shop.example.com\r\n\r\n";

/// How a body is framed and how much of it arrives together with the head.
fn refused_with_bodies() -> Vec<(&'static str, String, String)> {
    let head = |framing: &str| format!("POST /b HTTP/1.1\r\nHost: evil.test\r\n{framing}\r\n\r\n");
    let length = head(&format!("Content-Length: {}", SMUGGLED.len()));
    let chunked = head("Transfer-Encoding: chunked");
    let chunk = format!("{:x}\r\n{SMUGGLED}\r\n", SMUGGLED.len());
    let both = head(&format!(
        "Content-Length: {}\r\nTransfer-Encoding: chunked",
        SMUGGLED.len()
    ));
    let empty = head("Transfer-Encoding: chunked");
    vec![
        (
            "a body with its head",
            length.clone() + SMUGGLED,
            FOLLOWING.to_owned(),
        ),
        (
            "a body after the answer",
            length.clone(),
            format!("{SMUGGLED}{FOLLOWING}"),
        ),
        (
            "half a body",
            length + &SMUGGLED[..20],
            format!("{}{FOLLOWING}", &SMUGGLED[20..]),
        ),
        (
            "chunks with their head",
            format!("{chunked}{chunk}0\r\n\r\n"),
            FOLLOWING.to_owned(),
        ),
        (
            "chunks after the answer",
            chunked.clone(),
            format!("{chunk}0\r\n\r\n{FOLLOWING}"),
        ),
        (
            "chunks without an end",
            format!("{chunked}{chunk}"),
            SMUGGLED.to_owned(),
        ),
        (
            "an empty chunked body, then a request",
            format!("{empty}0\r\n\r\n"),
            FOLLOWING.to_owned(),
        ),
        (
            "a length and chunks",
            format!("{both}0\r\n\r\n{SMUGGLED}"),
            FOLLOWING.to_owned(),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_unread_body_of_a_refused_request_is_never_a_request() -> anyhow::Result<()> {
    let mut gateway = Gateway::start("smuggling", POLICY).await?;
    for (what, first, rest) in refused_with_bodies() {
        let mut stream = gateway.connect("strict").await?;
        let mut reader = Reader::new(&mut *stream);
        reader.send(first.as_bytes()).await?;
        let refused = response(soon(reader.response(b"POST")).await?)?;
        let is_decided = refused.status == 403;
        if is_decided {
            assert_refused(&refused);
        }
        // Envoy reads no further: it says so, and closes.
        assert_eq!(refused.header("connection"), Some(&b"close"[..]), "{what}");
        let _ = reader.send(rest.as_bytes()).await;
        assert!(soon(reader.is_at_end()).await?, "{what}: a second answer");
        assert_eq!(gateway.upstream.connections(), 0, "{what}");
        let expected: &[_] = match (is_decided, what) {
            (true, _) => &[("deny default", 1)],
            // RFC 9112, 6.3: an attempt at smuggling, which Envoy refuses unseen by the filter.
            (false, "a length and chunks") => &[],
            (false, _) => panic!("{what}: {refused:?}"),
        };
        gateway.assert_counted(expected).await?;
    }
    let logged = gateway.stop().await?;
    let mut lines: Vec<&str> = logged.iter().map(|logged| logged.line.as_str()).collect();
    assert_eq!(
        lines.pop(),
        Some("HTTP/1.1 - - 400 http1.content_length_and_chunked_not_allowed")
    );
    assert_eq!(
        lines,
        ["HTTP/1.1 POST evil.test 403 meridian_deny{default}"; 7]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_refusal_without_a_body_the_connection_serves_the_next_request()
-> anyhow::Result<()> {
    let mut gateway = Gateway::start("keep-alive", POLICY).await?;
    let mut stream = gateway.connect("strict").await?;
    let mut reader = Reader::new(&mut *stream);
    for framing in ["", "Content-Length: 0\r\n"] {
        let request = format!("POST /b HTTP/1.1\r\nHost: evil.test\r\n{framing}\r\n");
        reader.send(request.as_bytes()).await?;
        assert_refused(&response(soon(reader.response(b"POST")).await?)?);
        reader.send(FOLLOWING.as_bytes()).await?;
        let served = response(soon(reader.response(b"GET")).await?)?;
        assert_served(&served, "GET shop.example.com /next");
    }
    gateway
        .assert_counted(&[("allow storefront", 2), ("deny default", 2)])
        .await?;
    let refused = "HTTP/1.1 POST evil.test 403 meridian_deny{default}";
    let served = "HTTP/1.1 GET shop.example.com 200 via_upstream";
    gateway
        .assert_logged(&[refused, served, refused, served])
        .await
}
