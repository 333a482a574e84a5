//! gRPC and gRPC-Web: a refusal in the form that their clients read.

use meridian_tests::raw::http1::Reader;
use meridian_tests::raw::http2::Request;
use meridian_tests::raw::{Progress, Session};

use super::{assert_refused, response, response_of};
use crate::gateway::{Gateway, NAMES, POLICY, soon};

/// An empty message.
const MESSAGE: &[u8] = &[0, 0, 0, 0, 0];

async fn call(session: &mut Session, authority: &str, kind: &str) -> anyhow::Result<Progress> {
    let mut request = Request::get(authority.as_bytes());
    request.fields[0].1 = b"POST".to_vec();
    request.fields[2].1 = b"/shop.Catalogue/List".to_vec();
    request.push("content-type", kind);
    request.push("te", "trailers");
    request.end_stream = false;
    let stream = session.request(&request);
    session.data(stream, MESSAGE, true);
    soon(session.end(stream)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_call_gets_a_grpc_status_in_headers_alone() -> anyhow::Result<()> {
    let mut gateway = Gateway::start("grpc", POLICY).await?;
    let mut session = Session::open(gateway.connect("strict").await?);
    for kind in ["application/grpc", "application/grpc+proto"] {
        for (authority, status, message) in [
            ("evil.test", "7", "host not allowed%0A"),
            ("paste.example.com", "7", "host not allowed%0A"),
            ("shop.example.com,evil.test", "3", "invalid host%0A"),
        ] {
            let refused = call(&mut session, authority, kind).await?;
            assert!(refused.is_headers_alone && refused.trailers.is_empty());
            let refused = response_of(refused)?;
            assert_eq!((refused.status, refused.body.len()), (200, 0));
            let field = |name| refused.header(name).map(String::from_utf8_lossy);
            assert_eq!(field("content-type").as_deref(), Some("application/grpc"));
            assert_eq!(field("grpc-status").as_deref(), Some(status));
            assert_eq!(field("grpc-message").as_deref(), Some(message));
        }
    }
    assert_eq!(gateway.upstream.connections(), 0);

    let allowed = call(&mut session, "shop.example.com", "application/grpc").await?;
    assert!(
        allowed
            .trailers
            .contains(&("grpc-status".to_owned(), b"0".to_vec()))
    );
    let allowed = response_of(allowed)?;
    assert_eq!(allowed.status, 200);
    assert!(
        allowed
            .body
            .ends_with(b"POST shop.example.com /shop.Catalogue/List \0\0\0\0\0\n")
    );
    gateway
        .assert_counted(&[
            ("allow storefront", 1),
            ("deny default", 2),
            ("deny invalid-host", 2),
            ("deny no-paste", 2),
        ])
        .await?;
    let logged = gateway.stop().await?;
    let lines: Vec<_> = logged
        .iter()
        .map(|logged| (logged.line.as_str(), logged.grpc.as_str()))
        .collect();
    let refused = [
        ("HTTP/2 POST evil.test 200 meridian_deny{default}", "7"),
        (
            "HTTP/2 POST paste.example.com 200 meridian_deny{no-paste}",
            "7",
        ),
        (
            "HTTP/2 POST shop.example.com,evil.test 200 meridian_invalid_host",
            "3",
        ),
    ];
    let allowed = [("HTTP/2 POST shop.example.com 200 via_upstream", "0")];
    assert_eq!(lines, [&refused[..], &refused, &allowed].concat());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_on_a_connection_for_another_name_gets_permission_denied() -> anyhow::Result<()> {
    let mut gateway = Gateway::start("grpc-sni", POLICY).await?;
    let mut session = Session::open(gateway.connect_tls(NAMES[0], &["h2"]).await?);
    let refused = call(&mut session, NAMES[1], "application/grpc").await?;
    assert!(refused.is_headers_alone);
    let refused = response_of(refused)?;
    let field = |name| refused.header(name).map(String::from_utf8_lossy);
    assert_eq!(refused.status, 200);
    assert_eq!(field("grpc-status").as_deref(), Some("7"));
    assert_eq!(
        field("grpc-message").as_deref(),
        Some("misdirected request%0A")
    );
    gateway.assert_counted(&[("deny sni-mismatch", 1)]).await?;
    gateway
        .assert_logged(&["HTTP/2 POST api.example.com 200 meridian_sni_mismatch"])
        .await
}

/// Envoy takes gRPC-Web for plain HTTP. Where its bridge stands before the policy, the refusal keeps
/// its HTTP status, and its body becomes `grpc-status` and `grpc-message`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_web_is_plain_http_without_its_bridge() -> anyhow::Result<()> {
    let mut gateway = Gateway::start("grpc-web", POLICY).await?;
    for kind in ["application/grpc-web+proto", "application/grpc-web-text"] {
        let mut session = Session::open(gateway.connect("strict").await?);
        assert_refused(&response_of(call(&mut session, "evil.test", kind).await?)?);

        let mut session = Session::open(gateway.connect("grpc-web").await?);
        let bridged = call(&mut session, "evil.test", kind).await?;
        let bridged = response_of(bridged)?;
        assert_eq!((bridged.status, bridged.body.len()), (403, 0));
        let field = |name| bridged.header(name).map(String::from_utf8_lossy);
        assert_eq!(field("grpc-status").as_deref(), Some("7"));
        assert_eq!(
            field("grpc-message").as_deref(),
            Some("host not allowed%0A")
        );
    }
    // Over HTTP/1.1, as browsers without HTTP/2 have it.
    let mut stream = gateway.connect("strict").await?;
    let mut reader = Reader::new(&mut *stream);
    reader
        .send(b"POST / HTTP/1.1\r\nHost: evil.test\r\nContent-Type: application/grpc-web\r\n\r\n")
        .await?;
    assert_refused(&response(soon(reader.response(b"POST")).await?)?);
    assert_eq!(gateway.upstream.connections(), 0);
    gateway.assert_counted(&[("deny default", 5)]).await?;
    let http2 = "HTTP/2 POST evil.test 403 meridian_deny{default}";
    let http1 = "HTTP/1.1 POST evil.test 403 meridian_deny{default}";
    gateway
        .assert_logged(&[http2, http2, http2, http2, http1])
        .await
}
