//! HTTP/2: with prior knowledge and by ALPN, many streams with different authorities.

use meridian_tests::raw::http1::Reader;
use meridian_tests::raw::http2::Request;
use meridian_tests::raw::{Answer, Session};

use super::{assert_refused, assert_served, response};
use crate::gateway::{Gateway, POLICY, soon};

/// Authorities in turn, with the label that counts each.
const AUTHORITIES: [(&str, &str); 6] = [
    ("shop.example.com", "allow storefront"),
    ("evil.test", "deny default"),
    ("API.example.com.", "allow storefront"),
    ("paste.example.com", "deny no-paste"),
    ("shop.example.com:8443", "allow storefront"),
    ("shop.example.com,evil.test", "deny invalid-host"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_stream_of_a_connection_is_decided_by_its_own_authority() -> anyhow::Result<()> {
    let mut gateway = Gateway::start("streams", POLICY).await?;
    let mut session = Session::open(gateway.connect("strict").await?);
    // All are sent before any answer is read.
    let streams: Vec<_> = AUTHORITIES
        .iter()
        .cycle()
        .take(60)
        .map(|case| (case, session.request(&Request::get(case.0.as_bytes()))))
        .collect();
    for ((authority, label), stream) in &streams {
        let answer = response(soon(session.answer(*stream)).await?)?;
        match label.split_once(' ') {
            Some(("allow", _)) => assert_served(&answer, &format!("GET {authority} /")),
            Some((_, "invalid-host")) => {
                assert_eq!(
                    (answer.status, &*answer.body),
                    (400, &b"invalid host\n"[..])
                );
            }
            _ => assert_refused(&answer),
        }
    }
    assert_eq!(gateway.upstream.take().len(), 30);
    gateway
        .assert_counted(&[
            ("allow storefront", 30),
            ("deny default", 10),
            ("deny invalid-host", 10),
            ("deny no-paste", 10),
        ])
        .await?;
    let logged = gateway.stop().await?;
    let first = logged[0].connection;
    assert!(logged.iter().all(|logged| logged.connection == first));
    for (line, count) in [
        ("HTTP/2 GET shop.example.com 200 via_upstream", 10),
        ("HTTP/2 GET evil.test 403 meridian_deny{default}", 10),
        (
            "HTTP/2 GET paste.example.com 403 meridian_deny{no-paste}",
            10,
        ),
        (
            "HTTP/2 GET shop.example.com,evil.test 400 meridian_invalid_host",
            10,
        ),
    ] {
        let found = logged.iter().filter(|logged| logged.line == line).count();
        assert_eq!(found, count, "{line}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_stream_with_a_body_leaves_its_connection_in_order() -> anyhow::Result<()> {
    let mut gateway = Gateway::start("bodies", POLICY).await?;
    let mut session = Session::open(gateway.connect("strict").await?);
    let post = |authority: &str| {
        let mut request = Request::get(authority.as_bytes());
        request.fields[0].1 = b"POST".to_vec();
        request.end_stream = false;
        request
    };
    let refused = session.request(&post("evil.test"));
    assert_refused(&response(soon(session.answer(refused)).await?)?);
    // What a client that had not yet read the answer goes on to send.
    session.data(refused, b"late", true);
    let allowed = session.request(&post("shop.example.com"));
    session.data(allowed, b"body", true);
    let served = response(soon(session.answer(allowed)).await?)?;
    assert_served(&served, "POST shop.example.com / body");
    assert_eq!(gateway.upstream.take().len(), 1);
    gateway
        .assert_counted(&[("allow storefront", 1), ("deny default", 1)])
        .await?;
    gateway
        .assert_logged(&[
            "HTTP/2 POST evil.test 403 meridian_deny{default}",
            "HTTP/2 POST shop.example.com 200 via_upstream",
        ])
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alpn_chooses_the_protocol_and_the_policy_stays_the_same() -> anyhow::Result<()> {
    let mut gateway = Gateway::start("alpn", POLICY).await?;
    for (name, is_allowed) in [("shop.example.com", true), ("evil.test", false)] {
        let check = |answer: Answer| {
            let answer = response(answer)?;
            if is_allowed {
                assert_served(&answer, &format!("GET {name} /"));
            } else {
                assert_refused(&answer);
            }
            anyhow::Ok(())
        };
        let mut session = Session::open(gateway.connect_tls(name, &["h2"]).await?);
        let stream = session.request(&Request::get(name.as_bytes()));
        check(soon(session.answer(stream)).await?)?;

        // Without ALPN too Envoy recognises what is spoken.
        for alpn in [&["http/1.1"][..], &[]] {
            let mut stream = gateway.connect_tls(name, alpn).await?;
            let mut reader = Reader::new(&mut *stream);
            let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n");
            reader.send(request.as_bytes()).await?;
            check(soon(reader.response(b"GET")).await?)?;
        }
    }
    gateway
        .assert_counted(&[("allow storefront", 3), ("deny default", 3)])
        .await?;
    gateway
        .assert_logged(&[
            "HTTP/2 GET shop.example.com 200 via_upstream",
            "HTTP/1.1 GET shop.example.com 200 via_upstream",
            "HTTP/1.1 GET shop.example.com 200 via_upstream",
            "HTTP/2 GET evil.test 403 meridian_deny{default}",
            "HTTP/1.1 GET evil.test 403 meridian_deny{default}",
            "HTTP/1.1 GET evil.test 403 meridian_deny{default}",
        ])
        .await
}

/// Some servers add the trailers of a request to its headers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_does_not_survive_in_trailers() -> anyhow::Result<()> {
    let gateway = Gateway::start("trailers", POLICY).await?;
    let mut session = Session::open(gateway.connect("strict").await?);
    let mut request = Request::get(b"shop.example.com");
    request.end_stream = false;
    let stream = session.request(&request);
    session.data(stream, b"body", false);
    let trailers = [
        ("x-traffic-direction", "east-west"),
        ("x-traffic_direction", "east-west"),
        ("x_checksum", "1"),
    ];
    session.request_trailers(stream, &trailers);
    let answer = response(soon(session.answer(stream)).await?)?;
    assert_eq!(answer.status, 200);
    let arrived = gateway.upstream.take();
    let names: Vec<&str> = arrived[0]
        .trailers
        .keys()
        .map(|name| name.as_str())
        .collect();
    assert_eq!(names, ["x_checksum"]);
    assert_eq!(arrived[0].headers["x-traffic-direction"], "north-south");
    gateway.stop().await?;
    Ok(())
}
