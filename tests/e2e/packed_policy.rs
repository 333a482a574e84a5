//! A policy in the module: a million hosts, which no object of Kubernetes could hold, in a real Envoy.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use meridian::lab::config::wasm::{Filters, module};
use meridian::lab::envoy::EnvoyOptions;
use meridian::lab::modules;
use meridian::lab::prometheus::Samples;
use meridian::policy::PolicyFile;
use meridian_policy::Vantage;
use meridian_tests::announce;
use meridian_tests::raw::{Answer, Peer, connect, http1};

use crate::discovered::{Gateway, text};

const HOSTS: usize = 1_000_000;
const RULES: usize = 1_000;
const DEADLINE: Duration = Duration::from_secs(60);
/// A VM holds the text and the table of the hosts, 47 MB, and V8 the module once more; with one worker
/// Envoy has three VMs, and two further copies of the module.
const MOST_MEMORY: u64 = 450 << 20;

/// Rules that share the hosts, by turns allowed and denied.
fn policy() -> String {
    let mut rules = String::new();
    for rule in 0..RULES {
        let hosts: Vec<String> = (rule..HOSTS)
            .step_by(RULES)
            .map(|host| format!("\"server-{host:07}.apps.shop.example.com\""))
            .collect();
        let (comma, hosts) = (if rule == 0 { "" } else { "," }, hosts.join(","));
        let action = if rule % 2 == 0 { "allow" } else { "deny" };
        write!(
            rules,
            r#"{comma}{{"name":"rule-{rule}","action":"{action}","hosts":[{hosts}]}}"#
        )
        .unwrap();
    }
    format!(
        r#"{{"mesh":{{"cidrs":["127.1.0.0/16"]}},"hosts":{{"ingress":{{"default":"deny","rules":[{rules}]}}}}}}"#
    )
}

/// A file in a folder that goes with this value: the lean module of the ingress gateway with the policy.
fn packed(policy: &PolicyFile) -> anyhow::Result<tempfile::TempDir> {
    let [ingress, ..] = &modules::build()?.lean;
    let wasm = modules::with_policy(ingress, &policy.image(&[Vantage::Ingress], None)?)?;
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join(module(Vantage::Ingress, true)), wasm)?;
    Ok(folder)
}

/// The resident memory of a process, in bytes.
fn resident(process: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kilobytes.context("no VmRSS")?.trim().parse::<u64>()? << 10)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_hosts_in_the_module_are_served_and_told() -> anyhow::Result<()> {
    let (policy, folder) = tokio::task::spawn_blocking(|| {
        let policy = PolicyFile::parse(policy().as_bytes())?;
        let folder = packed(&policy)?;
        anyhow::Ok((policy, folder))
    })
    .await??;
    let filters = Filters::unchecked(folder.path().to_owned(), String::new());
    let options = EnvoyOptions {
        concurrency: 1,
        ..EnvoyOptions::default()
    };
    let started = Instant::now();
    let mut gateway = Gateway::start_filters("packed-policy", filters, &options).await?;
    let took = started.elapsed();

    for number in [
        0,
        1,
        2,
        77_777,
        500_000,
        777_778,
        HOSTS - 2,
        HOSTS - 1,
        HOSTS,
    ] {
        let host = format!("server-{number:07}.apps.shop.example.com");
        let is_allowed = number < HOSTS && number % 2 == 0;
        let status = ask(&gateway, &host).await?;
        assert_eq!(status, if is_allowed { 200 } else { 403 }, "{host}");
    }
    let samples = Samples::parse(&gateway.envoy.scrape().await?)?;
    let revision = samples.value("meridian_policy_revision", &[("reporter", "ingress")]);
    assert_eq!(revision, policy.revision() as f64);

    let memory = resident(gateway.envoy.id())?;
    announce(&format!(
        "a million hosts in the module: Envoy started in {} ms, {} MB resident",
        took.as_millis(),
        memory >> 20
    ));
    ensure!(
        memory <= MOST_MEMORY,
        "{memory} bytes, {MOST_MEMORY} at most"
    );

    // A second policy beside it is refused, and the first one serves on.
    gateway.publish(text("{}"))?;
    gateway.reaches((1, 1)).await?;
    assert_eq!(
        ask(&gateway, "server-0000002.apps.shop.example.com").await?,
        200
    );
    Ok(())
}

async fn ask(gateway: &Gateway, host: &str) -> anyhow::Result<u16> {
    let peer = Peer::Tcp {
        server: gateway.address,
        source: [127, 9, 0, 1].into(),
    };
    let mut connection = connect(&peer).await?;
    let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n");
    match http1::exchange(&mut *connection.stream, request.as_bytes(), DEADLINE).await? {
        Answer::Response(response) => Ok(response.status),
        Answer::Reset(why) => anyhow::bail!("{host}: {why}"),
    }
}
