//! HTTP/2 connection coalescing: a client uses one connection for two names of one certificate, and
//! the SNI is that of the first.
//!
//! Node's http2 does it by a script; Chromium, where it is installed, by itself.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use meridian::lab::child::ChildProcess;
use meridian_tests::announce;
use sha2::{Digest, Sha256};

use crate::gateway::{Gateway, Logged, NAMES, PAGE, POLICY, SCRIPT, SCRIPT_RAN};

/// A browser on a busy machine takes its time.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a policy says of an SNI that is not the authority's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mismatch {
    Deny,
    DryRun,
    Ignore,
}

impl Mismatch {
    const ALL: [Self; 3] = [Self::Deny, Self::DryRun, Self::Ignore];

    fn policy(self) -> String {
        match self {
            // The default.
            Self::Deny => POLICY.to_owned(),
            Self::DryRun => format!("{POLICY}sni: {{mismatch: dryRun}}\n"),
            Self::Ignore => format!("{POLICY}sni: {{mismatch: ignore}}\n"),
        }
    }

    /// What must be counted of a request to each of the names, the retry included.
    fn counted(self) -> &'static [(&'static str, u64)] {
        match self {
            Self::Deny => &[("allow storefront", 2), ("deny sni-mismatch", 1)],
            Self::DryRun => &[("allow storefront", 2), ("dry-run deny sni-mismatch", 1)],
            Self::Ignore => &[("allow storefront", 2)],
        }
    }

    /// Checks the access log: both names on one connection, and after a 421 the second name on one
    /// of its own.
    fn check(self, logged: &[Logged], port: u16) {
        let [shop, api, _] = NAMES;
        let mut connections: Vec<u64> = Vec::new();
        let mut lines = Vec::new();
        for logged in logged {
            if !connections.contains(&logged.connection) {
                connections.push(logged.connection);
            }
            let number = connections
                .iter()
                .position(|connection| *connection == logged.connection);
            lines.push((logged.line.as_str(), logged.sni.as_str(), number));
        }
        let line = |name: &str, end: &str| format!("HTTP/2 GET {name}:{port} {end}");
        let first = line(shop, "200 via_upstream");
        let refused = line(api, "421 meridian_sni_mismatch");
        let second = line(api, "200 via_upstream");
        match self {
            Self::Deny => assert_eq!(
                lines,
                [
                    (&*first, shop, Some(0)),
                    (&*refused, shop, Some(0)),
                    (&*second, api, Some(1))
                ]
            ),
            Self::DryRun | Self::Ignore => {
                assert_eq!(lines, [(&*first, shop, Some(0)), (&*second, shop, Some(0))]);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_uses_one_connection_for_two_names() -> anyhow::Result<()> {
    for mismatch in Mismatch::ALL {
        let mut gateway = Gateway::start("coalescing-node", &mismatch.policy()).await?;
        let port = gateway.address("tls").await?.port();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/coalescing/client.mjs");
        let mut node = Command::new("node");
        node.arg(script)
            .arg(port.to_string())
            .arg(&gateway.certificates.ca_file)
            .args(&NAMES[..2]);
        let output = run(node, &gateway.folder().join("node.log")).await?;
        let answers: Vec<(usize, String, u16)> =
            serde_json::from_str(&output).with_context(|| format!("Node printed {output:?}"))?;
        let answer = |connection, name: &str, status| (connection, name.to_owned(), status);
        let [shop, api, _] = NAMES;
        let expected = match mismatch {
            Mismatch::Deny => vec![
                answer(0, shop, 200),
                answer(0, api, 421),
                answer(1, api, 200),
            ],
            Mismatch::DryRun | Mismatch::Ignore => vec![answer(0, shop, 200), answer(0, api, 200)],
        };
        assert_eq!(answers, expected, "{mismatch:?}");
        gateway.assert_counted(mismatch.counted()).await?;
        mismatch.check(&gateway.stop().await?, port);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chromium_uses_one_connection_for_two_names() -> anyhow::Result<()> {
    let is_installed = Command::new("chromium").arg("--version").output().is_ok();
    if !is_installed {
        anyhow::ensure!(
            std::env::var_os("CI").is_none(),
            "no `chromium` on the PATH: install it, as .ci/run does"
        );
        announce("NOT RUN: connection coalescing in Chromium; there is no `chromium` on the PATH");
        return Ok(());
    }
    for mismatch in Mismatch::ALL {
        let mut gateway = Gateway::start("coalescing-chromium", &mismatch.policy()).await?;
        let port = gateway.address("tls").await?.port();
        let profile = tempfile::tempdir()?;
        let mut chromium = Command::new("chromium");
        chromium
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
            ])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
            ])
            // The test's names alone, and nothing outside this machine.
            .arg(format!(
                "--host-resolver-rules=MAP {} 127.0.0.1,MAP {} 127.0.0.1,MAP * ~NOTFOUND",
                NAMES[0], NAMES[1]
            ))
            .arg(format!(
                "--ignore-certificate-errors-spki-list={}",
                BASE64_STANDARD.encode(Sha256::digest(gateway.certificates.server_key()))
            ))
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("--dump-dom")
            .arg(format!("https://{}:{port}{PAGE}", NAMES[0]));
        let output = run(chromium, &gateway.folder().join("chromium.log")).await?;
        assert!(output.contains(SCRIPT_RAN), "{mismatch:?}: {output}");
        gateway.assert_counted(mismatch.counted()).await?;
        let logged = gateway.stop().await?;
        let paths: Vec<_> = logged.iter().map(|logged| logged.path.as_str()).collect();
        assert_eq!((paths[0], paths[1]), (PAGE, SCRIPT));
        mismatch.check(&logged, port);
    }
    Ok(())
}

/// What a program prints that ends by itself and well, on stdout and stderr.
async fn run(command: Command, log: &Path) -> anyhow::Result<String> {
    let mut process = ChildProcess::spawn(command, log)?;
    let status = process.wait_until(Instant::now() + DEADLINE).await?;
    let output = std::fs::read(log)?;
    let output = String::from_utf8_lossy(&output).into_owned();
    match status {
        Some(status) if status.success() => Ok(output),
        Some(status) => anyhow::bail!("{status}: {output}"),
        None => anyhow::bail!("no end within {DEADLINE:?}: {output}"),
    }
}
