//! The filter guesses from the request before whether TLS ends here: an answer must never depend on it.

use meridian_tests::raw::Response;
use meridian_tests::raw::http1::Reader;
use meridian_tests::raw::http3::Connection;

use super::{assert_served, response};
use crate::gateway::{Gateway, NAMES, POLICY, soon};

/// So many that every worker has had one.
const CONNECTIONS: usize = 8;

async fn get_guess(mut stream: Box<dyn meridian_tests::raw::Stream>) -> anyhow::Result<Response> {
    let mut reader = Reader::new(&mut *stream);
    let request = b"GET /guess HTTP/1.1\r\nHost: shop.example.com\r\n\r\n";
    reader.send(request).await?;
    response(soon(reader.response(b"GET")).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_requests_without_tls_a_wrong_server_name_is_still_refused() -> anyhow::Result<()> {
    let mut gateway = Gateway::start("guess", POLICY).await?;
    let [shop, api, _] = NAMES;
    let source = "127.9.0.1".parse()?;
    for _ in 0..3 {
        // Twice, because the second comes after one without TLS.
        for _ in 0..2 * CONNECTIONS {
            let served = get_guess(gateway.connect("http").await?).await?;
            assert_served(&served, "GET shop.example.com /guess");
        }
        let server = gateway.address("quic").await?;
        let ca = gateway.certificates.ca();
        let mut quic = soon(Connection::open(server, source, api, ca)).await?;
        let request = hyper::Request::get("https://shop.example.com/guess").body(())?;
        let misdirected = soon(quic.exchange(request, b"")).await?.response;
        assert_eq!(misdirected.status, 421);
        for _ in 0..CONNECTIONS {
            let served = get_guess(gateway.connect("http").await?).await?;
            assert_served(&served, "GET shop.example.com /guess");
        }
        for _ in 0..CONNECTIONS {
            let misdirected = get_guess(gateway.connect_tls(api, &[]).await?).await?;
            assert_eq!(misdirected.status, 421);
            let served = get_guess(gateway.connect_tls(shop, &[]).await?).await?;
            assert_served(&served, "GET shop.example.com /guess");
        }
    }
    let (plain, quic, tls) = (9 * CONNECTIONS, 3, 3 * CONNECTIONS);
    gateway
        .assert_counted(&[
            ("allow storefront", (plain + tls) as u64),
            ("deny sni-mismatch", (quic + tls) as u64),
        ])
        .await
}
