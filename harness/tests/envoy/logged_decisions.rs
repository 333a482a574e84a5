//! What real Envoys log of decisions, and what `learn` makes of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use meridian::lab::config::wasm::Filters;
use meridian::lab::topology::roles::{OUTSIDE_CLIENT, SHOP};
use meridian::lab::topology::{Call, Topology, TopologyOptions};
use meridian::policy::PolicyFile;
use meridian::policy::series;
use meridian_metrics::{CALLERS, DRY_RUN, REQUESTS, RESPONSES};
use meridian_policy::{Subject, Vantage};
use serde_json::{Value, json};

/// The sample policy, with a rule in dry run at ingress.
fn policy(filter_state: bool) -> Value {
    let mut policy = PolicyFile::load(None).unwrap().json;
    let trial =
        json!({"name": "trial", "hosts": ["shop.example.com"], "action": "deny", "dryRun": true});
    let rules = policy["hosts"]["ingress"]["rules"].as_array_mut().unwrap();
    rules.push(trial);
    policy["tags"]["filterState"] = json!(filter_state);
    policy
}

async fn start(run: &str, policy: Value) -> Topology {
    let parts = tokio::task::spawn_blocking(|| {
        meridian::lab::modules::build().unwrap();
        let modules = meridian::lab::paths::modules_dir().unwrap();
        (meridian::lab::envoy::obtain(None).unwrap(), modules)
    });
    let (envoy, modules) = parts.await.unwrap();
    let policy = PolicyFile::parse(policy.to_string().as_bytes()).unwrap();
    let options = TopologyOptions {
        live: false,
        run: run.to_owned(),
        envoy,
        filters: Some(Filters::new(modules, &policy)),
    };
    Topology::start(&options).await.unwrap()
}

/// Sends each request and gives the folder of the run, once the Envoys have ended.
async fn send(topology: Topology, calls: &[(u16, Call)]) -> PathBuf {
    for (status, call) in calls {
        assert_eq!(call.send().await.unwrap().status, *status, "{call:?}");
    }
    let run = topology.run_folder().to_owned();
    topology.stop().await.unwrap();
    run
}

/// The lines of a proxy's log, each reduced to these fields.
fn lines(run: &Path, proxy: &str, fields: &[&str]) -> Vec<Value> {
    let path = run.join(format!("{proxy}.access.log"));
    let text = std::fs::read_to_string(path).unwrap();
    let reduced = text.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        fields.iter().map(|field| line[*field].clone()).collect()
    });
    reduced.collect()
}

async fn meridian(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meridian"));
    command.args(arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

#[tokio::test]
async fn the_log_tells_the_whole_decision_and_learn_turns_it_into_rules() {
    let document = policy(true);
    let topology = start("test-access-logs", document.clone()).await;
    let ingress = topology.ingress.http.v4;
    let outbound = topology.sidecar(&SHOP).outbound.v4;
    let outside = |host: &str| Call::new(ingress, host).from(OUTSIDE_CLIENT);
    let shop = |host: &str| Call::new(outbound, host).from(SHOP.address);
    let calls = [
        (200, outside("Shop.Example.com.:8080")),
        (403, outside("intranet.example.com")),
        (400, outside("a..example.com")),
        (200, shop("api.partner.example")),
        (403, shop("tracker.example")),
        (403, shop("mirror.partner.example")),
        (403, shop("mirror.partner.example")),
    ];
    let run = send(topology, &calls).await;

    let decision = [
        "reporter",
        "proxy",
        "namespace",
        "direction",
        "evidence",
        "component_type",
        "decision",
        "rule",
        "dry_run",
        "host",
        "port",
    ];
    let gateway = |rest: Value| {
        let mut line = json!(["ingress", "istio-ingress", "istio-ingress", "north-south"]);
        let line = line.as_array_mut().unwrap();
        line.extend(rest.as_array().unwrap().iter().cloned());
        Value::from(line.clone())
    };
    assert_eq!(
        lines(&run, "ingress", &decision),
        [
            gateway(json!([
                "outside-source",
                "application",
                "allow",
                "storefront",
                "deny{trial}",
                "shop.example.com",
                "8080"
            ])),
            gateway(json!([
                "outside-source",
                "application",
                "deny",
                "default",
                null,
                "intranet.example.com",
                null
            ])),
            gateway(json!([
                "outside-source",
                "application",
                "deny",
                "invalid-host",
                null,
                null,
                null
            ])),
        ]
    );
    assert_eq!(
        lines(
            &run,
            "egress",
            &["decision", "rule", "host", "status", "details", "peer"]
        )[..2],
        [
            json!([
                "allow",
                "partners",
                "api.partner.example",
                200,
                "via_upstream",
                "spiffe://cluster.local/ns/shop/sa/shop"
            ]),
            json!([
                "deny",
                "no-trackers",
                "tracker.example",
                403,
                "meridian_deny{no-trackers}",
                "spiffe://cluster.local/ns/shop/sa/shop"
            ]),
        ]
    );

    // From refused to allowed in three commands.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("my-policy.yaml");
    let sample = meridian::lab::paths::workspace_root()
        .unwrap()
        .join("examples/policy.yaml");
    std::fs::copy(sample, &file).unwrap();
    let file = file.to_str().unwrap();
    let log = run.join("egress.access.log");
    let learnt = meridian(&[
        "learn",
        "--policy",
        file,
        "--format",
        "diff",
        log.to_str().unwrap(),
    ])
    .await;
    assert_eq!(learnt.status.code(), Some(1), "{learnt:?}");
    let diff = folder.path().join("allow.diff");
    std::fs::write(&diff, &learnt.stdout).unwrap();
    let patched = Command::new("patch")
        .arg(file)
        .arg("-i")
        .arg(&diff)
        .output()
        .unwrap();
    assert!(patched.status.success(), "{patched:?}");
    let checked = meridian(&["check", "--strict", "--policy", file]).await;
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    let policy = PolicyFile::load(Some(Path::new(file))).unwrap();
    for (host, expected) in [
        ("mirror.partner.example", "allow"),
        ("tracker.example", "deny"),
    ] {
        let mut request = meridian_policy::Request::new(host.as_bytes());
        let verdict = policy
            .policy
            .decide(Vantage::Egress, Subject::Request, &mut request);
        assert_eq!(verdict.decision.as_str(), expected, "{host}");
    }
}

#[tokio::test]
async fn without_filter_state_the_log_has_the_tags_and_the_dry_run() {
    let topology = start("test-access-logs-plain", policy(false)).await;
    let ingress = topology.ingress.http.v4;
    let outside = |host: &str| Call::new(ingress, host).from(OUTSIDE_CLIENT);
    let calls = [
        (200, outside("shop.example.com")),
        (403, outside("intranet.example.com")),
    ];
    let run = send(topology, &calls).await;
    let fields = [
        "reporter",
        "direction",
        "evidence",
        "component_type",
        "decision",
        "dry_run",
        "details",
    ];
    assert_eq!(
        lines(&run, "ingress", &fields),
        [
            json!([
                "ingress",
                "north-south",
                "outside-source",
                "application",
                null,
                "deny{trial}",
                "via_upstream"
            ]),
            json!([
                "ingress",
                null,
                null,
                null,
                null,
                null,
                "meridian_deny{default}"
            ]),
        ]
    );
}

/// Envoy shows a counter that was never incremented in `/stats`, not in Prometheus's format: so many
/// has a proxy from the start, and never more.
#[tokio::test]
async fn the_series_of_a_policy_are_as_many_as_check_says() {
    let document = policy(true);
    let policy = meridian_policy::Policy::from_json(document.to_string()).unwrap();
    let topology = start("test-series", document).await;
    for (envoy, vantages) in [
        (&topology.ingress.envoy, &[Vantage::Ingress][..]),
        (&topology.egress.envoy, &[Vantage::Egress]),
        (
            &topology.sidecar(&SHOP).envoy,
            &[Vantage::Inbound, Vantage::Outbound],
        ),
    ] {
        let stats = envoy.get("/stats?filter=meridian_").await.unwrap();
        for vantage in vantages {
            for metric in [REQUESTS, DRY_RUN, CALLERS, RESPONSES] {
                let reporter = format!("reporter=.={vantage};.;");
                let of_metric = format!(";.;{}: ", metric.name);
                let defined = stats
                    .lines()
                    .filter(|line| line.contains(&reporter) && line.contains(&of_metric))
                    .count();
                assert_eq!(
                    defined,
                    series::of(&policy, *vantage, &metric),
                    "{vantage}: {}",
                    metric.name
                );
            }
        }
    }
    topology.stop().await.unwrap();
}
