//! Registries that send for a token, as the great ones do: a server that speaks as much of it as is
//! needed, because `docker-registry` takes tokens of a key's owner alone.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::json;

use super::{assert_fails, modules, pack};

/// A request that arrived: its first line without the version, and its `Authorization`.
type Asked = (String, Option<String>);

/// Serves until the process ends: a registry that has every blob, and gives the token `t` to whom sends
/// `known`, in a header or in a form.
fn serve(known: &str) -> (String, Arc<Mutex<Vec<Asked>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let realm = format!("http://{address}/token");
    let known = known.to_owned();
    let log = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that goes early is seen by what it says itself.
            let _ = answer(stream.unwrap(), &realm, &known, &log);
        }
    });
    (address, asked)
}

fn answer(
    stream: TcpStream,
    realm: &str,
    known: &str,
    log: &Mutex<Vec<Asked>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let request = line.trim().trim_end_matches(" HTTP/1.1").to_owned();
    let (mut authorization, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => authorization = Some(value.to_owned()),
            "content-length" => length = value.parse().unwrap(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let is_token = request.contains("/token");
    let (status, headers, text) = if is_token {
        let form = String::from_utf8_lossy(&body).into_owned();
        let is_known = authorization.as_deref() == Some(known) || form.contains(known);
        match is_known {
            true => ("200 OK", String::new(), r#"{"access_token":"t"}"#),
            false => ("401 Unauthorized", String::new(), ""),
        }
    } else if authorization.as_deref() != Some("Bearer t") {
        let challenge = format!("WWW-Authenticate: Bearer realm=\"{realm}\",service=\"s\"\r\n");
        ("401 Unauthorized", challenge, "")
    } else if request.starts_with("PUT") {
        ("201 Created", "OCI-Subject: kept\r\n".to_owned(), "")
    } else {
        ("200 OK", String::new(), "")
    };
    log.lock().unwrap().push((request, authorization));
    let length = text.len();
    let mut stream = reader.into_inner();
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{text}"
    )
}

#[test]
fn a_token_is_fetched_once_a_repository_with_the_credentials_of_docker_login() {
    let basic = format!("Basic {}", BASE64_STANDARD.encode("me:secret"));
    let (address, asked) = serve(&basic);
    let docker = tempfile::tempdir().unwrap();
    let to = format!("{address}/m");
    let push = || pack(docker.path(), &["--push", &to, "--plain-http", "--json"]);
    assert_fails(&push(), &format!("run `docker login {address}`"));
    asked.lock().unwrap().clear();

    let auth = BASE64_STANDARD.encode("me:secret");
    let configuration = json!({"auths": {&address: {"auth": auth}}});
    fs::write(docker.path().join("config.json"), configuration.to_string()).unwrap();
    modules(&push());
    let asked = asked.lock().unwrap();
    let (tokens, others): (Vec<&Asked>, Vec<&Asked>) = asked
        .iter()
        .partition(|(request, _)| request.contains("/token"));
    let wanted: Vec<&str> = tokens.iter().map(|(request, _)| request.as_str()).collect();
    let token =
        |name: &str| format!("GET /token?scope=repository%3Am%2F{name}%3Apull%2Cpush&service=s");
    assert_eq!(wanted, ["ingress", "egress", "sidecar"].map(token));
    assert!(tokens.iter().all(|(_, sent)| sent.as_ref() == Some(&basic)));
    // The password goes to nobody else.
    for (request, sent) in others {
        assert!(
            sent.as_deref().is_none_or(|sent| sent == "Bearer t"),
            "{request}"
        );
    }
}

#[test]
fn a_token_of_docker_login_is_exchanged() {
    let (address, _) = serve("refresh_token=identity");
    let docker = tempfile::tempdir().unwrap();
    let configuration = json!({"auths": {&address: {"identitytoken": "identity"}}});
    fs::write(docker.path().join("config.json"), configuration.to_string()).unwrap();
    let to = format!("{address}/m");
    modules(&pack(
        docker.path(),
        &["--push", &to, "--plain-http", "--json"],
    ));
}
