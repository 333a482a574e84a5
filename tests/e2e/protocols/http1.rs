//! HTTP/1.0 and HTTP/1.1: pipelining, an upgrade to HTTP/2, Expect.

use meridian_tests::raw::http1::Reader;

use super::{assert_refused, assert_served, response};
use crate::gateway::{Gateway, POLICY, soon};

const ALLOWED: &str = "GET /a HTTP/1.1\r\nHost: shop.example.com\r\n\r\n";
const REFUSED: &str = "GET /r HTTP/1.1\r\nHost: evil.test\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_are_decided_each_by_itself_and_answered_in_their_order()
-> anyhow::Result<()> {
    let mut gateway = Gateway::start("pipelining", POLICY).await?;
    for pipeline in [
        &[ALLOWED, REFUSED][..],
        &[REFUSED, ALLOWED],
        &[REFUSED, REFUSED],
        &[REFUSED, ALLOWED, ALLOWED],
        &[ALLOWED, ALLOWED, REFUSED],
    ] {
        let mut stream = gateway.connect("strict").await?;
        let mut reader = Reader::new(&mut *stream);
        reader.send(pipeline.concat().as_bytes()).await?;
        // What comes after the pipeline shows that the connection is still in order.
        let after = [ALLOWED, REFUSED, ALLOWED];
        for (position, request) in pipeline.iter().chain(&after).enumerate() {
            if position >= pipeline.len() {
                reader.send(request.as_bytes()).await?;
            }
            let response = response(soon(reader.response(b"GET")).await?)?;
            assert_eq!(response.header("connection"), None);
            if *request == ALLOWED {
                assert_served(&response, "GET shop.example.com /a");
            } else {
                assert_refused(&response);
            }
        }
    }
    assert_eq!(gateway.upstream.take().len(), 6 + 2 * 5);
    gateway
        .assert_counted(&[("allow storefront", 16), ("deny default", 11)])
        .await?;
    let logged = gateway.stop().await?;
    let count = |line: &str| logged.iter().filter(|logged| logged.line == line).count();
    assert_eq!(count("HTTP/1.1 GET shop.example.com 200 via_upstream"), 16);
    assert_eq!(
        count("HTTP/1.1 GET evil.test 403 meridian_deny{default}"),
        11
    );
    Ok(())
}

/// Envoy takes three answers that wait in its buffer for an attack (`Too many responses queued`),
/// its own refusals too, and closes the connection: the request after them is not looked at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_two_pipelined_refusals_end_the_connection() -> anyhow::Result<()> {
    let mut gateway = Gateway::start("flood", POLICY).await?;
    let mut stream = gateway.connect("strict").await?;
    let mut reader = Reader::new(&mut *stream);
    let pipeline = [REFUSED, REFUSED, ALLOWED].concat();
    reader.send(pipeline.as_bytes()).await?;
    for _ in 0..2 {
        assert_refused(&response(soon(reader.response(b"GET")).await?)?);
    }
    assert!(soon(reader.is_at_end()).await?);
    assert_eq!(gateway.upstream.connections(), 0);
    gateway.assert_counted(&[("deny default", 2)]).await?;
    let refused = "HTTP/1.1 GET evil.test 403 meridian_deny{default}";
    let lines = gateway.stop().await?;
    let mut lines = lines.iter().map(|logged| logged.line.as_str());
    assert_eq!((lines.next(), lines.next()), (Some(refused), Some(refused)));
    Ok(())
}

/// A refusal between requests that come in one piece: Envoy answers the first two and closes, whatever
/// comes after a refusal that waited for an answer before it. The client sends that again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pipelined_behind_a_refusal_that_waited_is_lost_with_the_connection()
-> anyhow::Result<()> {
    let mut gateway = Gateway::start("behind-refusal", POLICY).await?;
    for _ in 0..3 {
        let mut stream = gateway.connect("http").await?;
        let mut reader = Reader::new(&mut *stream);
        reader
            .send([ALLOWED, REFUSED, ALLOWED].concat().as_bytes())
            .await?;
        let first = response(soon(reader.response(b"GET")).await?)?;
        assert_served(&first, "GET shop.example.com /a");
        let refused = response(soon(reader.response(b"GET")).await?)?;
        assert_refused(&refused);
        // The answer does not say so.
        assert_eq!(refused.header("connection"), None);
        assert!(soon(reader.is_at_end()).await?);
    }
    assert_eq!(gateway.upstream.take().len(), 3, "the third never arrives");
    gateway
        .assert_counted(&[("allow storefront", 3), ("deny default", 3)])
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expect_100_continue() -> anyhow::Result<()> {
    let mut gateway = Gateway::start("expect", POLICY).await?;
    let post = |host: &str| {
        format!(
            "POST /e HTTP/1.1\r\nHost: {host}\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
        )
    };

    let mut stream = gateway.connect("strict").await?;
    let mut reader = Reader::new(&mut *stream);
    reader.send(post("shop.example.com").as_bytes()).await?;
    assert_eq!(soon(reader.head()).await?.status, 100);
    reader.send(b"body").await?;
    let allowed = response(soon(reader.response(b"POST")).await?)?;
    assert_served(&allowed, "POST shop.example.com /e body");

    // Envoy itself invites the body before any filter has seen the request.
    let mut stream = gateway.connect("strict").await?;
    let mut reader = Reader::new(&mut *stream);
    reader.send(post("evil.test").as_bytes()).await?;
    assert_eq!(soon(reader.head()).await?.status, 100);
    let refused = response(soon(reader.response(b"POST")).await?)?;
    assert_refused(&refused);
    assert_eq!(refused.header("connection"), Some(&b"close"[..]));
    assert!(soon(reader.is_at_end()).await?);

    assert_eq!(gateway.upstream.take().len(), 1);
    gateway
        .assert_counted(&[("allow storefront", 1), ("deny default", 1)])
        .await?;
    gateway
        .assert_logged(&[
            "HTTP/1.1 POST shop.example.com 200 via_upstream",
            "HTTP/1.1 POST evil.test 403 meridian_deny{default}",
        ])
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_1_0_with_and_without_host() -> anyhow::Result<()> {
    let mut gateway = Gateway::start("http10", POLICY).await?;
    for (listener, host, status) in [
        ("http", "Host: shop.example.com\r\n", 200),
        ("http", "Host: evil.test\r\n", 403),
        // Neither of these gets as far as the filter.
        ("http", "", 400),
        ("strict", "Host: shop.example.com\r\n", 426),
    ] {
        let mut stream = gateway.connect(listener).await?;
        let mut reader = Reader::new(&mut *stream);
        reader
            .send(format!("GET /0 HTTP/1.0\r\n{host}\r\n").as_bytes())
            .await?;
        let answer = response(soon(reader.response(b"GET")).await?)?;
        assert_eq!(answer.status, status, "{listener}, {host:?}");
        // A client of HTTP/1.0 that does not ask for more gets one answer for one connection.
        assert!(soon(reader.is_at_end()).await?, "{listener}, {host:?}");
    }
    // One that asks keeps it, refused or not.
    let mut stream = gateway.connect("http").await?;
    let mut reader = Reader::new(&mut *stream);
    for (host, is_allowed) in [("evil.test", false), ("shop.example.com", true)] {
        let request = format!("GET /k HTTP/1.0\r\nHost: {host}\r\nConnection: keep-alive\r\n\r\n");
        reader.send(request.as_bytes()).await?;
        let answer = response(soon(reader.response(b"GET")).await?)?;
        if is_allowed {
            assert_served(&answer, "GET shop.example.com /k");
        } else {
            assert_refused(&answer);
        }
    }
    assert_eq!(gateway.upstream.take().len(), 2);
    gateway
        .assert_counted(&[("allow storefront", 2), ("deny default", 2)])
        .await?;
    gateway
        .assert_logged(&[
            "HTTP/1.0 GET shop.example.com 200 via_upstream",
            "HTTP/1.0 GET evil.test 403 meridian_deny{default}",
            "HTTP/1.0 GET - 400 missing_host_header",
            "HTTP/1.1 - - 426 low_version",
            "HTTP/1.0 GET evil.test 403 meridian_deny{default}",
            "HTTP/1.0 GET shop.example.com 200 via_upstream",
        ])
        .await
}

/// Chunks are not part of HTTP/1.0, but Envoy reads them there too: what comes behind them is a request
/// of its own, decided by itself, or lost with the connection of a refused one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_smuggled_behind_a_chunked_body_of_http_1_0() -> anyhow::Result<()> {
    let mut gateway = Gateway::start("http10-chunked", POLICY).await?;
    let post = |host: &str| {
        format!(
            "POST /c HTTP/1.0\r\nHost: {host}\r\nConnection: keep-alive\r\n\
             Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
             GET /hidden HTTP/1.1\r\nHost: paste.example.com\r\n\r\n"
        )
    };

    let mut stream = gateway.connect("http").await?;
    let mut reader = Reader::new(&mut *stream);
    reader.send(post("shop.example.com").as_bytes()).await?;
    let allowed = response(soon(reader.response(b"POST")).await?)?;
    assert_served(&allowed, "POST shop.example.com /c");
    assert_refused(&response(soon(reader.response(b"GET")).await?)?);

    let mut stream = gateway.connect("http").await?;
    let mut reader = Reader::new(&mut *stream);
    reader.send(post("evil.test").as_bytes()).await?;
    assert_refused(&response(soon(reader.response(b"POST")).await?)?);
    assert!(soon(reader.is_at_end()).await?);

    assert_eq!(gateway.upstream.take().len(), 1);
    let expected = [
        ("allow storefront", 1),
        ("deny default", 1),
        ("deny no-paste", 1),
    ];
    gateway.assert_counted(&expected).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_to_h2c_is_ignored_and_the_request_decided() -> anyhow::Result<()> {
    let mut gateway = Gateway::start("h2c", POLICY).await?;
    let mut stream = gateway.connect("http").await?;
    let mut reader = Reader::new(&mut *stream);
    for (host, is_allowed) in [("evil.test", false), ("shop.example.com", true)] {
        let request = format!(
            "GET /u HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade, HTTP2-Settings\r\n\
             Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
        );
        reader.send(request.as_bytes()).await?;
        let answer = response(soon(reader.response(b"GET")).await?)?;
        if is_allowed {
            assert_served(&answer, "GET shop.example.com /u");
        } else {
            assert_refused(&answer);
        }
    }
    let arrived = gateway.upstream.take();
    assert_eq!(arrived.len(), 1);
    assert!(!arrived[0].headers.contains_key("upgrade"));
    gateway
        .assert_counted(&[("allow storefront", 1), ("deny default", 1)])
        .await?;
    gateway
        .assert_logged(&[
            "HTTP/1.1 GET evil.test 403 meridian_deny{default}",
            "HTTP/1.1 GET shop.example.com 200 via_upstream",
        ])
        .await
}
