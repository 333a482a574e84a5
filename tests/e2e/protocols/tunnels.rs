//! WebSocket and CONNECT: decided once, when they open, by host and port of the target.

use anyhow::Context;
use meridian_tests::raw::Session;
use meridian_tests::raw::http1::Reader;
use meridian_tests::raw::http2::{ENABLE_CONNECT_PROTOCOL, Request};

use super::{assert_refused, response, response_of};
use crate::gateway::{GREETING, Gateway, POLICY, soon};

/// What goes through a tunnel is no request, even if it looks like one that would be refused.
const BYTES: &[u8] = b"GET /inside HTTP/1.1\r\nHost: evil.test\r\n\r\n";

/// An upgrade to WebSocket over HTTP/1.1.
fn upgrade(host: &str) -> String {
    format!(
        "GET /chat HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// CONNECT over HTTP/1.1, with a Host that has no say.
fn connect(target: &str) -> String {
    format!("CONNECT {target} HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")
}

/// The same over HTTP/2 (RFC 8441).
fn extended_connect(authority: &str) -> Request {
    let mut request = Request::get(authority.as_bytes());
    request.fields[0].1 = b"CONNECT".to_vec();
    request.fields[2].1 = b"/chat".to_vec();
    request
        .fields
        .insert(1, (b":protocol".to_vec(), b"websocket".to_vec()));
    request.push("sec-websocket-version", "13");
    request.end_stream = false;
    request
}

/// Opens a tunnel over HTTP/1.1 and shows that data flows both ways.
async fn through_http1(gateway: &Gateway, request: &str, status: u16) -> anyhow::Result<()> {
    let mut stream = gateway.connect("http").await?;
    let mut reader = Reader::new(&mut *stream);
    reader.send(request.as_bytes()).await?;
    assert_eq!(soon(reader.head()).await?.status, status, "{request}");
    assert_eq!(soon(reader.exactly(GREETING.len())).await?, GREETING);
    for _ in 0..2 {
        reader.send(BYTES).await?;
        assert_eq!(soon(reader.exactly(BYTES.len())).await?, BYTES);
    }
    Ok(())
}

/// The same over HTTP/2.
async fn through_http2(gateway: &Gateway, request: &Request) -> anyhow::Result<()> {
    let mut session = Session::open(gateway.connect("http").await?);
    let stream = session.request(request);
    assert_eq!(response_of(soon(session.head(stream)).await?)?.status, 200);
    soon(session.body(stream, GREETING.len())).await?;
    let mut expected = GREETING.to_vec();
    for _ in 0..2 {
        session.data(stream, BYTES, false);
        expected.extend_from_slice(BYTES);
        let progress = soon(session.body(stream, expected.len())).await?;
        assert_eq!(response_of(progress)?.body, expected);
    }
    Ok(())
}

async fn refused_http1(gateway: &Gateway, request: &str) -> anyhow::Result<()> {
    let mut stream = gateway.connect("http").await?;
    let mut reader = Reader::new(&mut *stream);
    reader.send(request.as_bytes()).await?;
    assert_refused(&response(soon(reader.response(b"GET")).await?)?);
    Ok(())
}

async fn refused_http2(gateway: &Gateway, request: &Request) -> anyhow::Result<()> {
    let mut session = Session::open(gateway.connect("http").await?);
    let stream = session.request(request);
    // Early data of a client that does not wait for the answer.
    session.data(stream, BYTES, false);
    assert_refused(&response(soon(session.answer(stream)).await?)?);
    Ok(())
}

/// Asserts how each line of the access log begins: how a tunnel ends depends on who ends it.
async fn assert_logged(gateway: Gateway, expected: &[&str]) -> anyhow::Result<()> {
    let mut logged = gateway.stop().await?;
    assert_eq!(logged.len(), expected.len());
    // A tunnel is logged when it ends, which is not in the order of their opening.
    for expected in expected {
        let found = logged
            .iter()
            .position(|logged| logged.line.starts_with(expected));
        let found = found.with_context(|| format!("{expected:?} is not in {logged:?}"))?;
        logged.remove(found);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_is_decided_once_when_it_opens() -> anyhow::Result<()> {
    let mut gateway = Gateway::start("websocket", POLICY).await?;
    refused_http1(&gateway, &upgrade("evil.test")).await?;
    refused_http2(&gateway, &extended_connect("evil.test")).await?;
    assert_eq!(gateway.upstream.connections(), 0);
    gateway.assert_counted(&[("deny default", 2)]).await?;

    through_http1(&gateway, &upgrade("shop.example.com"), 101).await?;
    let mut session = Session::open(gateway.connect("http").await?);
    assert_eq!(
        soon(session.setting(ENABLE_CONNECT_PROTOCOL)).await?,
        Some(1)
    );
    through_http2(&gateway, &extended_connect("shop.example.com")).await?;
    let arrived: Vec<_> = gateway
        .upstream
        .take()
        .into_iter()
        .map(|arrived| arrived.what)
        .collect();
    assert_eq!(
        arrived,
        [
            "GET shop.example.com /chat",
            "CONNECT shop.example.com /chat"
        ]
    );
    gateway.assert_counted(&[("allow storefront", 2)]).await?;
    assert_logged(
        gateway,
        &[
            "HTTP/1.1 GET evil.test 403 meridian_deny{default}",
            "HTTP/2 GET evil.test 403 meridian_deny{default}",
            "HTTP/1.1 GET shop.example.com 101 ",
            "HTTP/2 GET shop.example.com 101 ",
        ],
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_slips_in_behind_a_refused_upgrade() -> anyhow::Result<()> {
    let mut gateway = Gateway::start("behind", POLICY).await?;
    for opening in [upgrade("evil.test"), connect("evil.test:443")] {
        let mut stream = gateway.connect("http").await?;
        let mut reader = Reader::new(&mut *stream);
        let both = format!("{opening}GET /behind HTTP/1.1\r\nHost: shop.example.com\r\n\r\n");
        reader.send(both.as_bytes()).await?;
        let refused = response(soon(reader.response(b"GET")).await?)?;
        assert_refused(&refused);
        // Envoy does not look at what follows, says so, and closes.
        assert_eq!(refused.header("connection"), Some(&b"close"[..]));
        assert!(soon(reader.is_at_end()).await?);
        gateway.assert_counted(&[("deny default", 1)]).await?;
    }
    assert_eq!(gateway.upstream.connections(), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connect_is_decided_by_host_and_port_of_its_target() -> anyhow::Result<()> {
    let mut gateway = Gateway::start("connect", POLICY).await?;
    // The rule of the database has one port.
    for target in ["evil.test:443", "db.example.com:22", "db.example.com:54321"] {
        refused_http1(&gateway, &connect(target)).await?;
        refused_http2(&gateway, &Request::connect(target.as_bytes())).await?;
    }
    assert_eq!(gateway.upstream.connections(), 0);
    assert_eq!(gateway.tunnel_end.connections(), 0);
    gateway.assert_counted(&[("deny default", 6)]).await?;

    // Where Envoy forwards CONNECT, the upstream opens the tunnel.
    let target = "shop.example.com:443";
    through_http1(&gateway, &connect(target), 200).await?;
    through_http2(&gateway, &Request::connect(target.as_bytes())).await?;
    assert_eq!(gateway.upstream.take().len(), 2);
    gateway.assert_counted(&[("allow storefront", 2)]).await?;

    // Where Envoy terminates it, the other end sees the bytes in the tunnel alone.
    let target = "db.example.com:5432";
    through_http1(&gateway, &connect(target), 200).await?;
    through_http2(&gateway, &Request::connect(target.as_bytes())).await?;
    assert_eq!(gateway.tunnel_end.connections(), 2);
    gateway.assert_counted(&[("allow database", 2)]).await?;
    assert_eq!(gateway.upstream.take(), []);
    assert_logged(
        gateway,
        &[
            "HTTP/1.1 CONNECT evil.test:443 403 meridian_deny{default}",
            "HTTP/2 CONNECT evil.test:443 403 meridian_deny{default}",
            "HTTP/1.1 CONNECT db.example.com:22 403 meridian_deny{default}",
            "HTTP/2 CONNECT db.example.com:22 403 meridian_deny{default}",
            "HTTP/1.1 CONNECT db.example.com:54321 403 meridian_deny{default}",
            "HTTP/2 CONNECT db.example.com:54321 403 meridian_deny{default}",
            "HTTP/1.1 CONNECT shop.example.com:443 200 ",
            "HTTP/2 CONNECT shop.example.com:443 200 ",
            "HTTP/1.1 CONNECT db.example.com:5432 200 ",
            "HTTP/2 CONNECT db.example.com:5432 200 ",
        ],
    )
    .await
}
