//! What updates of a running Envoy's filters leave in its memory.

use std::path::Path;
use std::time::{Duration, Instant};

use meridian::lab::config::wasm::Filters;
use meridian::lab::envoy::{Envoy, EnvoyOptions, RunFolder, obtain};
use meridian::lab::live::Live;
use meridian::lab::prometheus::Samples;
use meridian::lab::topology::{Topology, TopologyOptions};
use meridian::lab::{modules, paths};
use meridian::policy::PolicyFile;
use serde_json::json;

const UPDATES: usize = 200;
/// What a hundred updates of a gateway with 50 rules may leave beyond what they leave of the control, in
/// KiB: twice what was measured, 5.6 MiB. The control's leave 0.1 MiB.
const HUNDRED_KIB: i64 = 11 * 1024;
/// How long one update may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// The resident memory of an Envoy in KiB, which counts the filters' VMs as well.
fn resident(envoy: &Envoy) -> i64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", envoy.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.unwrap().trim().parse().unwrap()
}

/// What it was before, after half of the updates and after all.
async fn memory(envoy: &Envoy, mut update: impl AsyncFnMut(usize)) -> [i64; 3] {
    let mut seen = [resident(envoy); 3];
    for turn in 0..UPDATES {
        update(turn).await;
        if turn + 1 == UPDATES / 2 {
            seen[1] = resident(envoy);
        }
    }
    seen[2] = resident(envoy);
    seen
}

/// An Envoy with a filter of its own that runs programs, too, and is discovered from a file.
async fn start_control(binary: &Path, run: &RunFolder) -> Envoy {
    let folder = run.path().join("filters");
    let hcm = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.\
               HttpConnectionManager";
    let node = json!({"id": "control", "cluster": "control"});
    let bootstrap = json!({"node": node, "static_resources": {"listeners": [{
        "name": "http",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{
            "name": "http",
            "typed_config": {
                "@type": hcm,
                "stat_prefix": "http",
                "route_config": {"virtual_hosts": []},
                "http_filters": [
                    {"name": "control", "config_discovery": {
                        "config_source": {
                            "path_config_source": {
                                "path": folder.join("control.json"),
                                "watched_directory": {"path": folder},
                            },
                            "resource_api_version": "V3",
                        },
                        "type_urls": [LUA],
                    }},
                    {"name": "envoy.filters.http.router", "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                    }},
                ],
            },
        }]}],
    }]}});
    let options = EnvoyOptions::default();
    Envoy::start(binary, run, "control", &bootstrap, &options)
        .await
        .unwrap()
}

const LUA: &str = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua";

/// The control's filter, with a text of `bytes` that differs each `turn`.
fn write_control(run: &RunFolder, turn: usize, bytes: usize) {
    let text = format!("{turn:0>bytes$}");
    let response = json!({"resources": [{
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": "control",
        "typed_config": {"@type": LUA, "default_source_code": {"inline_string": format!(
            "local text = \"{text}\"\nfunction envoy_on_request(handle) handle:logInfo(text) end\n"
        )}},
    }]});
    let file = run.path().join("filters/control.json");
    paths::write_atomically(&file, response.to_string().as_bytes()).unwrap();
}

/// A policy whose revision differs each turn.
fn policy(turn: usize) -> PolicyFile {
    let sections = ["ingress", "egress", "inbound", "outbound"].map(|section| {
        let rules = (0..50).map(|rule| {
            format!(
                "    - {{name: rule-{rule}, hosts: [\"h{rule}.t{turn}.example.com\"], action: allow}}\n"
            )
        });
        let rules: String = rules.collect();
        format!("  {section}:\n    rules:\n{rules}")
    });
    let text = format!(
        "mesh: {{cidrs: [127.1.0.0/16]}}\nhosts:\n{}",
        sections.concat()
    );
    PolicyFile::parse(text.as_bytes()).unwrap()
}

/// Waits until the statistics at an Envoy's `path` are as wanted.
async fn await_stats(envoy: &Envoy, path: &str, wanted: impl Fn(&str) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let stats = envoy.get(path).await.unwrap();
        if wanted(&stats) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "an update does not arrive: {stats}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn report(stats: &str, revision: u64) -> bool {
    let samples = Samples::parse(stats).unwrap();
    let mut revisions = samples.find("meridian_policy_revision", &[]).peekable();
    revisions.peek().is_some() && revisions.all(|seen| seen.value == revision as f64)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_updates_leave_a_bounded_amount_in_memory() {
    let prepared = tokio::task::spawn_blocking(|| {
        modules::build()?;
        anyhow::Ok((paths::modules_dir()?, obtain(None)?))
    });
    let (modules, envoy) = prepared.await.unwrap().unwrap();

    let first = policy(UPDATES);
    let topology = Topology::start(&TopologyOptions {
        run: "test-memory".to_owned(),
        envoy: envoy.clone(),
        filters: Some(Filters::new(modules.clone(), &first)),
        live: true,
    })
    .await
    .unwrap();
    let mut live = Live::of(&first, modules, topology.filters());
    let ingress = &topology.ingress.envoy;
    let ours = memory(ingress, async |turn| {
        let policy = policy(turn);
        live.renew(&policy).unwrap();
        let path = "/stats/prometheus?filter=meridian_policy_revision";
        await_stats(ingress, path, |stats| report(stats, policy.revision())).await;
    })
    .await;
    let file = topology.filters().join("ingress.json");
    let bytes = std::fs::metadata(file).unwrap().len();
    topology.stop().await.unwrap();

    let run = RunFolder::create("test-memory-control").unwrap();
    let bytes = usize::try_from(bytes).unwrap();
    write_control(&run, UPDATES, bytes);
    let control = start_control(&envoy, &run).await;
    let controls = memory(&control, async |turn| {
        write_control(&run, turn, bytes);
        // The first came with the start.
        let wanted = format!("control.config_reload: {}\n", turn + 2);
        await_stats(&control, "/stats?filter=config_reload", |stats| {
            stats.ends_with(&wanted)
        })
        .await;
    })
    .await;
    control.stop().await.unwrap();

    let hundred = |seen: [i64; 3]| seen[2] - seen[1];
    let told =
        format!("KiB before, after 100 and after 200 updates: {ours:?}, control {controls:?}");
    assert!(hundred(ours) - hundred(controls) < HUNDRED_KIB, "{told}");
    eprintln!("{told}");
}
