//! HTTP/3, at a listener with Envoy's QUIC.

use std::net::{IpAddr, Ipv4Addr};

use hyper::Request;
use meridian_tests::raw::http3::Connection;

use super::{REFUSED, assert_refused, assert_served};
use crate::gateway::{GREETING, Gateway, NAMES, POLICY, soon};

const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 9, 0, 1));

async fn connect(gateway: &Gateway, server_name: &str) -> anyhow::Result<Connection> {
    let server = gateway.address("quic").await?;
    let ca = gateway.certificates.ca();
    soon(Connection::open(server, SOURCE, server_name, ca)).await
}

fn get(authority: &str) -> anyhow::Result<Request<()>> {
    Ok(Request::get(format!("https://{authority}/3")).body(())?)
}

/// The access log, sorted: a refused stream is logged once its client has acknowledged the end.
async fn logged(gateway: Gateway) -> anyhow::Result<Vec<String>> {
    let logged = gateway.stop().await?.into_iter();
    let mut lines: Vec<String> = logged.map(|logged| logged.line).collect();
    lines.sort();
    Ok(lines)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_is_decided_by_its_authority_and_the_server_name() -> anyhow::Result<()> {
    let mut gateway = Gateway::start("http3", POLICY).await?;
    let mut shop = connect(&gateway, NAMES[0]).await?;
    for authority in ["shop.example.com", "SHOP.example.com.:8443"] {
        let answer = soon(shop.exchange(get(authority)?, b"")).await?;
        assert_served(&answer.response, &format!("GET {authority} /3"));
    }
    // The connection is for another name: QUIC tells the filter its server name too.
    let misdirected = soon(shop.exchange(get("api.example.com")?, b""))
        .await?
        .response;
    assert_eq!(
        (misdirected.status, &*misdirected.body),
        (421, &b"misdirected request\n"[..])
    );
    let mut evil = connect(&gateway, "evil.test").await?;
    assert_refused(&soon(evil.exchange(get("evil.test")?, b"")).await?.response);
    let mut api = connect(&gateway, NAMES[1]).await?;
    let answer = soon(api.exchange(get("api.example.com")?, b"")).await?;
    assert_served(&answer.response, "GET api.example.com /3");
    assert_eq!(gateway.upstream.take().len(), 3);
    gateway
        .assert_counted(&[
            ("allow storefront", 3),
            ("deny default", 1),
            ("deny sni-mismatch", 1),
        ])
        .await?;
    assert_eq!(
        logged(gateway).await?,
        [
            "HTTP/3 GET SHOP.example.com.:8443 200 via_upstream",
            "HTTP/3 GET api.example.com 200 via_upstream",
            "HTTP/3 GET api.example.com 421 meridian_sni_mismatch",
            "HTTP/3 GET evil.test 403 meridian_deny{default}",
            "HTTP/3 GET shop.example.com 200 via_upstream",
        ]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_bodies_and_tunnels_over_http3() -> anyhow::Result<()> {
    let mut gateway = Gateway::start("http3-more", POLICY).await?;
    let mut shop = connect(&gateway, NAMES[0]).await?;
    let mut evil = connect(&gateway, NAMES[2]).await?;
    let call = |authority: &str| {
        Request::post(format!("https://{authority}/shop.Catalogue/List"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
    };
    let allowed = soon(shop.exchange(call("shop.example.com")?, b"\0\0\0\0\0")).await?;
    let status = allowed
        .trailers
        .as_ref()
        .and_then(|trailers| trailers.get("grpc-status"));
    assert_eq!(status.map(|status| status.as_bytes()), Some(&b"0"[..]));
    let refused = soon(evil.exchange(call("evil.test")?, b"\0\0\0\0\0")).await?;
    assert_eq!((refused.response.status, refused.trailers), (200, None));
    assert_eq!(refused.response.header("grpc-status"), Some(&b"7"[..]));

    let post = |authority: &str| Request::post(format!("https://{authority}/3")).body(());
    let served = soon(shop.exchange(post("shop.example.com")?, b"body")).await?;
    assert_served(&served.response, "POST shop.example.com /3 body");
    let refused = soon(evil.exchange(post("evil.test")?, b"body")).await?;
    assert_refused(&refused.response);

    let echoed = [GREETING, b"data"].concat();
    for (authority, expected) in [
        ("shop.example.com:443", (200, echoed.clone())),
        ("evil.test:443", (403, REFUSED.to_vec())),
    ] {
        let connection = if expected.0 == 200 { &shop } else { &evil };
        let connect = [(":method", "CONNECT"), (":authority", authority)];
        let answer = soon(connection.tunnel(&connect, b"data", echoed.len())).await?;
        assert_eq!(answer, expected);
        // WebSocket over HTTP/3 (RFC 9220).
        let websocket = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https"),
            (":authority", authority),
            (":path", "/chat"),
            ("sec-websocket-version", "13"),
        ];
        let answer = soon(connection.tunnel(&websocket, b"data", echoed.len())).await?;
        assert_eq!(answer, expected);
    }
    gateway
        .assert_counted(&[("allow storefront", 4), ("deny default", 4)])
        .await?;
    let logged = logged(gateway).await?;
    let expected = [
        "HTTP/3 CONNECT evil.test:443 403 meridian_deny{default}",
        // How a tunnel ends depends on who ends it.
        "HTTP/3 CONNECT shop.example.com:443 200 ",
        "HTTP/3 GET evil.test:443 403 meridian_deny{default}",
        "HTTP/3 GET shop.example.com:443 101 ",
        "HTTP/3 POST evil.test 200 meridian_deny{default}",
        "HTTP/3 POST evil.test 403 meridian_deny{default}",
        "HTTP/3 POST shop.example.com 200 via_upstream",
        "HTTP/3 POST shop.example.com 200 via_upstream",
    ];
    assert_eq!(logged.len(), expected.len());
    for (logged, expected) in logged.iter().zip(expected) {
        assert!(logged.starts_with(expected), "{logged:?}, {expected:?}");
    }
    Ok(())
}
