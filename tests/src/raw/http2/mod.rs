//! HTTP/2: requests of hand-written header fields, and what comes of them.

mod frames;
mod request;
mod session;

use std::time::Duration;

use anyhow::bail;

use super::{Answer, Stream};

pub use request::Request;
pub use session::{ENABLE_CONNECT_PROTOCOL, Progress, Session};

/// Opens HTTP/2 on a fresh connection, sends `request` and reads its response; after a 2xx to
/// CONNECT only the header fields.
///
/// # Errors
/// If nothing complete arrives within `deadline`, or what arrives is not HTTP/2.
pub async fn exchange(
    stream: Box<dyn Stream>,
    request: &Request,
    deadline: Duration,
) -> anyhow::Result<Answer> {
    let conversation = async {
        let mut session = Session::open(stream);
        let id = session.request(request);
        let is_connect = request
            .fields
            .iter()
            .any(|(name, value)| name == b":method" && value == b"CONNECT");
        if is_connect {
            let head = session.head(id).await?;
            if let (None, Some(response)) = (head.reset, head.response)
                && (200..300).contains(&response.status)
            {
                return Ok(Answer::Response(response));
            }
        }
        session.answer(id).await
    };
    match tokio::time::timeout(deadline, conversation).await {
        Ok(answer) => answer,
        Err(_) => bail!("no complete response within {deadline:?}"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::frames::{flag, frame, kind};
    use super::request::literal;
    use super::*;

    /// The first stream that a client opens.
    const STREAM: u32 = 1;

    async fn answer_to(frames: &[u8], request: &Request) -> Answer {
        let (client, mut server) = tokio::io::duplex(4096);
        server.write_all(frames).await.unwrap();
        server.shutdown().await.unwrap();
        exchange(Box::new(client), request, Duration::from_secs(5))
            .await
            .unwrap()
    }

    fn response_head(status: &[u8], flags: u8) -> Vec<u8> {
        let mut block = vec![0];
        literal(&mut block, b":status");
        literal(&mut block, status);
        let mut bytes = Vec::new();
        frame(&mut bytes, kind::SETTINGS, 0, 0, &[]);
        frame(
            &mut bytes,
            kind::HEADERS,
            flags | flag::END_HEADERS,
            STREAM,
            &block,
        );
        bytes
    }

    #[tokio::test]
    async fn a_response_is_read_to_its_end() {
        let mut bytes = response_head(b"200", 0);
        frame(&mut bytes, kind::DATA, flag::PADDED, STREAM, b"\x02ab\0\0");
        frame(&mut bytes, kind::DATA, flag::END_STREAM, STREAM, b"c");
        let Answer::Response(response) = answer_to(&bytes, &Request::get(b"a")).await else {
            panic!("reset");
        };
        assert_eq!(
            (response.status, response.body.as_slice()),
            (200, &b"abc"[..])
        );
    }

    #[tokio::test]
    async fn a_tunnel_ends_at_its_header_fields_and_a_reset_is_named() {
        let bytes = response_head(b"200", 0);
        let answer = answer_to(&bytes, &Request::connect(b"a:1")).await;
        assert!(matches!(answer, Answer::Response(response) if response.status == 200));
        let mut bytes = Vec::new();
        frame(&mut bytes, kind::RST_STREAM, 0, STREAM, &[0, 0, 0, 1]);
        let answer = answer_to(&bytes, &Request::get(b"a")).await;
        assert_eq!(
            answer,
            Answer::Reset("RST_STREAM PROTOCOL_ERROR".to_owned())
        );
    }
}
