//! Tier 3 of the vectors: every case through the modules in real Envoys.
//!
//! One Envoy for each namespace of a workload, in it one listener for each policy, vantage point
//! and kind of connection that a case needs, and behind all of them one upstream. The cases of an
//! Envoy run one after another, so that what its counters grow by is the case's own.

mod bootstrap;
mod check;
mod client;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::path::PathBuf;

use anyhow::Context;
use meridian::lab::config::wasm::Filters;
use meridian::lab::envoy::{Envoy, EnvoyOptions, RunFolder, Version};
use meridian::policy::PolicyFile;
use meridian::{lab::modules, lab::paths};
use meridian_policy::Vantage;
use meridian_tests::announce;
use meridian_tests::raw::Peer;
use serde_json::Value;

use crate::certificates::Certificates;
use crate::echo::Echo;
use bootstrap::{Listener, Transport};
use check::Observer;
use meridian_vectors::{Case, Vectors, at_gateway};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vector_through_real_envoy() -> anyhow::Result<()> {
    let all = Vectors::all();
    let binary = tokio::task::spawn_blocking(|| {
        modules::build()?;
        meridian::lab::envoy::obtain(None)
    })
    .await??;
    let run = RunFolder::create("vectors")?;
    let sockets = tempfile::tempdir()?;
    let cases = || all.iter().flat_map(|vectors| &vectors.cases);
    let world = World {
        version: Version::of(&binary)?,
        binary,
        modules: paths::modules_dir()?,
        certificates: Certificates::create(
            run.path(),
            server_names(cases()),
            cases()
                .filter_map(|case| case.principal.clone())
                .collect::<BTreeSet<_>>(),
        )?,
        sockets: sockets.path().to_owned(),
        run,
        has_ipv6: TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok(),
    };
    let namespaces: BTreeSet<&str> = cases().map(|case| case.namespace.as_str()).collect();
    let mut ran = 0;
    let mut failures = Vec::new();
    for namespace in namespaces {
        let outcome = world
            .run(&all, namespace)
            .await
            .with_context(|| format!("the Envoy of namespace {namespace}"))?;
        ran += outcome.ran;
        failures.extend(outcome.failures);
    }
    announce(&format!("{ran} vectors through real Envoy"));
    assert!(
        failures.is_empty(),
        "{} of {ran} vectors fail (logs in {}):\n{}",
        failures.len(),
        world.run.path().display(),
        failures.join("\n")
    );
    if world.has_ipv6 {
        assert_eq!(ran, cases().count(), "some vectors did not run");
    }
    Ok(())
}

/// What the Envoys of all namespaces share.
struct World {
    binary: PathBuf,
    version: Version,
    modules: PathBuf,
    certificates: Certificates,
    run: RunFolder,
    /// A folder with a path that is short enough for Unix sockets.
    sockets: PathBuf,
    has_ipv6: bool,
}

struct Outcome {
    ran: usize,
    failures: Vec<String>,
}

impl World {
    /// Runs the cases of one namespace in one Envoy.
    async fn run(&self, all: &[Vectors], namespace: &str) -> anyhow::Result<Outcome> {
        let cases: Vec<(&Vectors, &Case)> = all
            .iter()
            .flat_map(|vectors| vectors.cases.iter().map(move |case| (vectors, case)))
            .filter(|(_, case)| case.namespace == namespace)
            .filter(|(_, case)| self.has_ipv6 || Transport::of(case) != Transport::V6)
            .collect();
        let echo = Echo::start().await?;
        let listeners = self.listeners(&cases)?;
        let clusters = bootstrap::clusters(cases.iter().map(|(_, case)| *case));
        let access_log = self.run.path().join(format!("{namespace}.access.log"));
        let bootstrap = bootstrap::bootstrap(
            namespace,
            listeners.values(),
            &clusters,
            echo.address(),
            &self.certificates,
            &access_log,
        );
        let envoy = Envoy::start(
            &self.binary,
            &self.run,
            namespace,
            &bootstrap,
            &EnvoyOptions::default(),
        )
        .await?;
        let ports = bound_addresses(&envoy).await?;
        let mut observer = Observer::new(&envoy, self.version, &echo).await?;
        for (index, (vectors, case)) in cases.iter().enumerate() {
            let listener = &listeners[&key(vectors, case)];
            let peer = match Transport::of(case) {
                Transport::Pipe => Peer::Unix(listener.socket.clone()),
                Transport::V4 | Transport::V6 => client::tcp_peer(&ports, listener, case)?,
            };
            let exchange = client::send(index, vectors, case, &peer, &clusters, &self.certificates)
                .await
                .with_context(|| format!("{}: `{}`", vectors.file, case.name))?;
            observer.check(vectors, case, exchange).await?;
        }
        let finished = observer.finish();
        // Envoy writes its log out every 10 s, and when it ends.
        envoy.stop().await?;
        Ok(Outcome {
            ran: cases.len(),
            failures: finished.failures(&access_log)?,
        })
    }

    fn listeners(&self, cases: &[(&Vectors, &Case)]) -> anyhow::Result<BTreeMap<Key, Listener>> {
        let mut listeners = BTreeMap::new();
        for (vectors, case) in cases {
            let number = listeners.len();
            let key = key(vectors, case);
            if listeners.contains_key(&key) {
                continue;
            }
            let gateway = key.gateway.as_deref();
            let document = at_gateway(&vectors.document, case.at, gateway);
            let document = serde_json::to_vec(&document)?;
            let filters = Filters::new(self.modules.clone(), &PolicyFile::parse(&document)?);
            listeners.insert(
                key,
                Listener {
                    name: format!("{}/{}/{number}", vectors.policy_name, case.at),
                    at: case.at,
                    transport: Transport::of(case),
                    is_tls: case.is_tls(),
                    socket: self.sockets.join(format!("{}-{number}", case.namespace)),
                    filter: filters.http_filter(case.at),
                },
            );
        }
        Ok(listeners)
    }
}

/// What makes cases share a listener.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    policy: String,
    at: Vantage,
    gateway: Option<String>,
    transport: Transport,
    is_tls: bool,
}

fn key(vectors: &Vectors, case: &Case) -> Key {
    // Of no case is it an error: they are read with their policies.
    let gateway = case.gateway(&vectors.policy).ok().flatten();
    Key {
        policy: vectors.policy_name.clone(),
        at: case.at,
        gateway: gateway.map(str::to_owned),
        transport: Transport::of(case),
        is_tls: case.is_tls(),
    }
}

fn server_names<'c>(cases: impl Iterator<Item = &'c Case>) -> Vec<String> {
    cases
        .filter_map(|case| Some(case.sni.as_ref()?.to_ascii_lowercase()))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

/// The addresses of all listeners by name.
async fn bound_addresses(envoy: &Envoy) -> anyhow::Result<BTreeMap<String, SocketAddr>> {
    let listeners: Value = serde_json::from_str(&envoy.get("/listeners?format=json").await?)?;
    let listeners = listeners["listener_statuses"]
        .as_array()
        .context("Envoy lists no listeners")?;
    let mut addresses = BTreeMap::new();
    for listener in listeners {
        let socket = &listener["local_address"]["socket_address"];
        let (Some(name), Some(address), Some(port)) = (
            listener["name"].as_str(),
            socket["address"].as_str(),
            socket["port_value"].as_u64(),
        ) else {
            continue;
        };
        addresses.insert(
            name.to_owned(),
            SocketAddr::new(address.parse()?, u16::try_from(port)?),
        );
    }
    Ok(addresses)
}
