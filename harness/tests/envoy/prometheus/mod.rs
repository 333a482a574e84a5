//! The rendered rules in a real Prometheus, which scrapes real Envoys: every alert is silent without
//! its fault and fires on it.

mod dashboard;
mod gateway;
mod server;
mod starved;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use meridian::lab::config::wasm::Filters;
use meridian::lab::envoy::RunFolder;
use meridian::lab::topology::roles::{ORDERS, OUTSIDE_CLIENT, SHOP};
use meridian::lab::topology::{Call, Tls, Topology, TopologyOptions};
use meridian::policy::PolicyFile;
use meridian::verbs::render::prometheus::{Windows, alerts, duration, render};
use meridian::{lab::modules, lab::paths};
use serde_json::{Value, json};

use gateway::{Gateway, Odd, write_crashing_module};
use server::{Prometheus, list_targets};
use starved::Starved;

/// As short as the scrapes allow.
const WINDOWS: Windows = Windows {
    scrape: Duration::from_millis(500),
    recent: Duration::from_secs(4),
    baseline: Duration::from_secs(8),
    history: Duration::from_secs(8),
    hold: Duration::from_secs(1),
};

/// How long an alert may take.
const DEADLINE: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// False, with a word about it, where Prometheus is not installed; an error in CI.
fn is_installed(what: &str) -> bool {
    let is_there = |program: &str| Command::new(program).arg("--version").output().is_ok();
    if is_there("prometheus") && is_there("promtool") {
        return true;
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "no `prometheus` and `promtool` on the PATH: install Debian's package, as .ci/run does"
    );
    // `eprintln!` would be captured.
    let line = format!("NOT RUN: {what}; there is no `prometheus` on the PATH\n");
    std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
    false
}

fn write(folder: &Path, policy: &PolicyFile, windows: &Windows) {
    for (name, text) in render(&policy.policy, windows).unwrap() {
        fs::write(folder.join(name), text).unwrap();
    }
}

fn promtool(folder: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("promtool");
    let output = command
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    if output.status.success() {
        Ok(text)
    } else {
        Err(text)
    }
}

#[test]
fn promtool_takes_the_files_and_the_rules_pass_their_tests() {
    if !is_installed("promtool over the rendered rules") {
        return;
    }
    let policy = PolicyFile::load(None).unwrap();
    for windows in [Windows::default(), WINDOWS] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write(folder, &policy, &windows);
        // Debian's Prometheus has no discovery in Kubernetes.
        let pods = folder.join("prometheus-kubernetes.yml");
        let mut config: Value = yaml_serde::from_str(&fs::read_to_string(&pods).unwrap()).unwrap();
        let job = config["scrape_configs"][0].as_object_mut().unwrap();
        assert_eq!(
            job.remove("kubernetes_sd_configs"),
            Some(json!([{"role": "pod"}]))
        );
        fs::write(&pods, config.to_string()).unwrap();
        for arguments in [
            &["check", "config", "prometheus.yml"][..],
            &["check", "config", "prometheus-kubernetes.yml"],
            &["check", "rules", "rules.yaml"],
            &["test", "rules", "rules.test.yaml"],
        ] {
            promtool(folder, arguments).unwrap();
        }
        // Once is enough, where the tests are shorter.
        if windows != WINDOWS {
            continue;
        }
        // Every alert has a test, and the test can fail.
        let rules = folder.join("rules.yaml");
        let mut broken: Value = yaml_serde::from_str(&fs::read_to_string(&rules).unwrap()).unwrap();
        for rule in broken["groups"][1]["rules"].as_array_mut().unwrap() {
            rule["expr"] = json!(format!("({}) * 0 > 1", rule["expr"].as_str().unwrap()));
        }
        fs::write(&rules, broken.to_string()).unwrap();
        let failure = promtool(folder, &["test", "rules", "rules.test.yaml"]).unwrap_err();
        for alert in alerts(&policy.policy, &windows) {
            let failed = format!("alertname: {},", alert.name);
            assert!(failure.contains(&failed), "{failed} {failure}");
        }
    }
}

#[test]
fn there_is_no_rule_over_metrics_that_the_policy_does_not_ask_for() {
    let policy = PolicyFile::parse(b"hosts: {ingress: {default: allow}}").unwrap();
    let names = |policy: &PolicyFile| -> BTreeSet<&str> {
        let alerts = alerts(&policy.policy, &WINDOWS);
        alerts.iter().map(|alert| alert.name).collect()
    };
    let sample = names(&PolicyFile::load(None).unwrap());
    let fewer = names(&policy);
    let left_out: Vec<_> = sample.difference(&fewer).collect();
    assert_eq!(left_out, [&"MeridianServerErrors"]);
}

/// What the alerts are watched with.
struct Watch {
    prometheus: Prometheus,
    /// The alerts whose faults have been there.
    provoked: BTreeSet<&'static str>,
}

impl Watch {
    /// Sends `calls` until the alert with these labels fires; fails if another does that was not provoked.
    async fn fires(
        &mut self,
        alert: &'static str,
        labels: &[(&str, &str)],
        calls: &[Call],
    ) -> anyhow::Result<()> {
        self.is_silent_but_for_the_provoked().await?;
        self.provoked.insert(alert);
        let deadline = Instant::now() + DEADLINE;
        loop {
            for call in calls {
                call.send().await?;
            }
            let firing = self.is_silent_but_for_the_provoked().await?;
            if firing.iter().any(|(name, has)| {
                name == alert && labels.iter().all(|(label, value)| has[*label] == *value)
            }) {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{alert} does not fire; there are {firing:?}"
            );
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    async fn is_silent_but_for_the_provoked(&self) -> anyhow::Result<Vec<(String, Value)>> {
        let (firing, active) = self.prometheus.alerts().await?;
        let unasked: Vec<_> = active
            .iter()
            .filter(|name| !self.provoked.contains(name.as_str()))
            .collect();
        ensure!(unasked.is_empty(), "{unasked:?} without their faults");
        Ok(firing)
    }

    /// Waits until the query has a sample.
    async fn sees(&self, expr: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + DEADLINE;
        while self.prometheus.query(expr).await?.is_empty() {
            self.is_silent_but_for_the_provoked().await?;
            ensure!(Instant::now() < deadline, "nothing for {expr}");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }
}

/// The sample policy with a rule in dry run, and one that tells callers apart.
fn policy() -> PolicyFile {
    let mut policy = PolicyFile::load(None).unwrap().json;
    let rules = |policy: &mut Value, section: &str, rule: Value| {
        policy["hosts"][section]["rules"]
            .as_array_mut()
            .unwrap()
            .push(rule);
    };
    rules(
        &mut policy,
        "ingress",
        json!({"name": "no-cart", "hosts": ["cart.apps.example.com"], "action": "deny", "dryRun": true}),
    );
    rules(
        &mut policy,
        "egress",
        json!({"name": "mirror", "hosts": ["mirror.partner.example"], "action": "allow",
            "from": {"namespaces": [SHOP.namespace, ORDERS.namespace]}}),
    );
    PolicyFile::parse(policy.to_string().as_bytes()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_alert_fires_on_its_fault_and_not_before() -> anyhow::Result<()> {
    if !is_installed("the alerts in a real Prometheus") {
        return Ok(());
    }
    let envoy = tokio::task::spawn_blocking(|| {
        modules::build()?;
        meridian::lab::envoy::obtain(None)
    })
    .await??;
    let policy = policy();
    let modules = paths::modules_dir()?;
    let topology = Topology::start(&TopologyOptions {
        live: false,
        run: "test-prometheus".to_owned(),
        envoy: envoy.clone(),
        filters: Some(Filters::new(modules.clone(), &policy)),
    })
    .await?;
    let run = RunFolder::create("test-prometheus-gateway")?;
    let mut gateway = Gateway::start(&envoy, &run, &Filters::new(modules.clone(), &policy)).await?;

    let door = topology.ingress.http.v4;
    let ingress = |host: &str| Call::new(door, host).from(OUTSIDE_CLIENT);
    let outbound = |workload, host: &str| Call::new(topology.sidecar(workload).outbound.v4, host);
    let tls = Tls::new(&topology.certificates, Some("api.partner.example"), None)?;
    let passed_on = Call::new(topology.egress.tls_passthrough.v4, "api.partner.example")
        .from(SHOP.address)
        .tls(tls);
    let usual = [
        ingress("shop.example.com"),
        outbound(&SHOP, "api.partner.example"),
        Call::new(gateway.http, "shop.example.com"),
    ];
    let usual_traffic = async {
        loop {
            for call in &usual {
                call.send().await?;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        // For the type alone: it never ends well.
        #[expect(unreachable_code)]
        anyhow::Ok(())
    };

    let faults = async {
        write(run.path(), &policy, &WINDOWS);
        let mut targets: Vec<_> = topology.envoys().map(|envoy| envoy.admin()).collect();
        targets.push(gateway.envoy.admin());
        let instance = gateway.envoy.admin().to_string();
        let instance = [("instance", instance.as_str())];
        let mut watch = Watch {
            prometheus: Prometheus::start(run.path(), &targets).await?,
            provoked: BTreeSet::new(),
        };
        // Until there is a past to compare with, and then the rules have been evaluated many times.
        let [recent, history] = [WINDOWS.recent, WINDOWS.history].map(duration);
        let orders = ORDERS.namespace;
        let callers = format!("meridian_caller_requests_total{{source_namespace=\"{orders}\"}}");
        watch
            .sees(&format!(
                "count_over_time({callers}[{recent}] offset {history}) > 3"
            ))
            .await?;
        assert_eq!(watch.prometheus.broken_rules().await?, Vec::<String>::new());

        let at_ingress = [("reporter", "ingress")];
        watch
            .fires(
                "MeridianDryRunWouldDeny",
                &[("reporter", "ingress"), ("rule", "no-cart")],
                &[ingress("cart.apps.example.com")],
            )
            .await?;
        watch
            .fires(
                "MeridianNamespaceGoesOutside",
                &[("source_namespace", orders)],
                &[outbound(&ORDERS, "mirror.partner.example")],
            )
            .await?;
        watch
            .fires(
                "MeridianRefusalsRising",
                &at_ingress,
                &[ingress("intranet.example.com")],
            )
            .await?;
        let broken = Call::new(gateway.http, "shop.example.com").path("/broken");
        watch
            .fires("MeridianServerErrors", &at_ingress, &[broken])
            .await?;

        let mut other = policy.json.clone();
        other["deny"]["body"] = json!("no\n");
        let other = PolicyFile::parse(other.to_string().as_bytes())?;
        gateway.publish(&Filters::new(modules.clone(), &other))?;
        watch
            .fires("MeridianPolicyRevisionsDiffer", &at_ingress, &[])
            .await?;
        let no_policy = r#"{"hosts": {"ingress": {"default": "perhaps"}}}"#;
        gateway.publish(&Filters::unchecked(modules.clone(), no_policy.to_owned()))?;
        watch.fires("MeridianPolicyRefused", &instance, &[]).await?;

        // What the gateway refuses passes the same filter where its worker has no VM.
        let starved =
            Starved::start(&envoy, run.path(), &Filters::new(modules.clone(), &policy)).await?;
        for (door, status) in [(gateway.http, 403), (starved.http, 200)] {
            let refused = Call::new(door, "intranet.example.com").from(OUTSIDE_CLIENT);
            assert_eq!(refused.send().await?.status, status);
        }
        targets.push(starved.admin);
        list_targets(run.path(), &targets)?;
        let starved_instance = starved.admin.to_string();
        watch
            .fires(
                "MeridianWorkerWithoutFilter",
                &[("instance", &starved_instance)],
                &[],
            )
            .await?;

        let filters = Filters::new(modules.clone(), &policy);
        let node = "sidecar~127.0.0.1~cart.shop~shop.svc.cluster.local";
        let misplaced = Gateway::start_as("misplaced", node, &envoy, &run, &filters).await?;
        let refused = Call::new(misplaced.http, "intranet.example.com").from(OUTSIDE_CLIENT);
        assert_eq!(refused.send().await?.status, 200);
        targets.push(misplaced.envoy.admin());
        list_targets(run.path(), &targets)?;
        let misplaced_instance = misplaced.envoy.admin().to_string();
        watch
            .fires(
                "MeridianPluginAbstains",
                &[("reporter", "ingress"), ("instance", &misplaced_instance)],
                &[],
            )
            .await?;

        // At 127.77.77.77 nobody listens, and only loopback addresses of the test are ever asked.
        targets.push(([127, 77, 77, 77], targets[0].port()).into());
        list_targets(run.path(), &targets)?;
        watch.fires("MeridianProxyDown", &[], &[]).await?;
        let odd = Odd::start(&envoy, &run, &filters).await?;
        for (alert, proxy) in [
            ("MeridianProxyWithoutFilter", &odd.bare),
            ("MeridianLabelsMissing", &odd.unlabelled),
        ] {
            targets.push(proxy.admin());
            list_targets(run.path(), &targets)?;
            let instance = proxy.admin().to_string();
            watch.fires(alert, &[("instance", &instance)], &[]).await?;
        }

        let crashing = tempfile::tempdir()?;
        write_crashing_module(crashing.path())?;
        gateway.publish(&Filters::new(crashing.path().to_path_buf(), &other))?;
        watch
            .fires(
                "MeridianFilterReloading",
                &instance,
                &[Call::new(gateway.http, "shop.example.com")],
            )
            .await?;

        // Not at the gateway, whose VMs a new policy, a new module and a crash have replaced.
        let (firing, _) = watch.prometheus.alerts().await?;
        let starved: Vec<_> = firing
            .iter()
            .filter(|(name, _)| name == "MeridianWorkerWithoutFilter")
            .map(|(_, labels)| &labels["instance"])
            .collect();
        assert_eq!(starved, [&json!(starved_instance)]);

        let all: BTreeSet<_> = alerts(&policy.policy, &WINDOWS)
            .iter()
            .map(|alert| alert.name)
            .collect();
        assert_eq!(watch.provoked, all, "every alert has been seen to fire");
        dashboard::check(&watch.prometheus, &passed_on).await?;
        anyhow::Ok(())
    };
    tokio::select! {
        ended = usual_traffic => ended.context("the usual traffic"),
        ended = faults => ended,
    }
    .with_context(|| format!("its files are in {}", run.path().display()))?;
    topology.stop().await
}
