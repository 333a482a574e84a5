//! NGINX in one process and one folder: it dies with its parent, and writes nowhere else.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use anyhow::Context;

use crate::lab::config::identity::MeshIdentity;

/// Writes the configuration of a server into `folder`, which is created, and returns the arguments that
/// NGINX is to be started with.
///
/// `listen` is an address and port; `location` are the directives that say where requests go. All
/// headers pass, and `X-Forwarded-For` is appended to, as with ingress-nginx'
/// `compute-full-forwarded-for`: what a client forges gets as far as it can.
///
/// # Errors
/// If the folder cannot be written.
pub fn prepare(folder: &Path, listen: &str, location: &str) -> anyhow::Result<[String; 6]> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let path = |name: &str| folder.join(name).display().to_string();
    let text = configuration(folder, &path("access.log"), listen, location);
    let file = path("nginx.conf");
    fs::write(&file, text).with_context(|| format!("cannot write {file}"))?;
    let option = str::to_owned;
    Ok([
        option("-e"),
        path("error.log"),
        option("-p"),
        path(""),
        option("-c"),
        file,
    ])
}

/// The directives of a location that passes everything on by mutual TLS, as `identity`, to the
/// `upstream` at an address and port, whose certificate has to name `host`. `bind` is the address that
/// it connects from, where it has several.
pub fn mutual_tls(
    upstream: &str,
    host: &str,
    identity: &MeshIdentity,
    bind: Option<IpAddr>,
) -> String {
    let certificate = identity.credentials.certificate.display();
    let key = identity.credentials.key.display();
    let ca = identity.ca.display();
    let bind = bind.map_or_else(String::new, |address| {
        format!("proxy_bind {address};\n            ")
    });
    format!(
        r#"proxy_pass https://{upstream};
            {bind}proxy_set_header Host $http_host;
            proxy_ssl_certificate "{certificate}";
            proxy_ssl_certificate_key "{key}";
            proxy_ssl_trusted_certificate "{ca}";
            proxy_ssl_verify on;
            proxy_ssl_server_name on;
            proxy_ssl_name {host};"#
    )
}

/// The configuration of a server that writes into `folder` alone but for its access log; see [`prepare`].
pub fn configuration(folder: &Path, access_log: &str, listen: &str, location: &str) -> String {
    let path = |name: &str| folder.join(name).display().to_string();
    let [pid, body, proxy, fastcgi, uwsgi, scgi] =
        ["nginx.pid", "body", "proxy", "fastcgi", "uwsgi", "scgi"].map(path);
    format!(
        r#"daemon off;
master_process off;
worker_processes 1;
pid "{pid}";
events {{ worker_connections 512; }}
http {{
    access_log "{access_log}";
    client_body_temp_path "{body}";
    proxy_temp_path "{proxy}";
    fastcgi_temp_path "{fastcgi}";
    uwsgi_temp_path "{uwsgi}";
    scgi_temp_path "{scgi}";
    server {{
        listen {listen} reuseport;
        server_name _;
        underscores_in_headers on;
        location / {{
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Forwarded-Proto $scheme;
            {location}
        }}
    }}
}}
"#
    )
}
