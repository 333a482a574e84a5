//! What a mesh goes through: updates under load, faults, restarts, and others' filters.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use meridian::lab::mesh::roles::{INGRESS, INTERNAL_INGRESS, ORDERS, Role, SHOP};
use meridian::lab::mesh::{Api, Mesh};
use meridian::lab::topology::Reply;

use crate::attached::{Attached, call, directions, file, scrape, text_of, until};
use crate::table::FILTERED;

#[tokio::test(flavor = "multi_thread")]
async fn updates_faults_restarts_and_others_filters() {
    let Some(_turn) = crate::turn().await else {
        return;
    };
    let envoy = meridian::lab::envoy::obtain_version("1.40.0").unwrap();
    let mut attached = Attached::start("mesh-life", envoy, "1.32.0").await;
    let policy = file("policy.yaml");
    observing_refuses_nothing(&attached).await;
    let folder = attached.render(&policy, "attached", &[]);
    attached.apply(&folder).await;
    attached.until_in_force(&policy, &FILTERED).await;
    assert_eq!(status(&attached.mesh, "intranet.example.com").await, 403);

    istio_has_nothing_to_say(&attached, &folder).await;
    an_update_loses_no_request(&attached).await;
    let good = attached.render(&policy, "attached", &[]);
    attached.apply(&good).await;
    attached.until_in_force(&policy, &FILTERED).await;
    a_bad_policy_is_told_and_survived(&attached, &good).await;
    a_missing_module_is_told_and_survived(&attached, &good).await;
    a_later_filter_does_not_come_first(&attached).await;
    a_plugin_in_the_root_namespace_abstains_at_gateways(&attached).await;
    istiod_restarts(&mut attached).await;
    the_registry_is_gone(&mut attached).await;
}

/// A request of the client outside to the public gateway.
async fn ask(mesh: &Mesh, host: &str) -> anyhow::Result<Reply> {
    ask_at(mesh, &INGRESS, host).await
}

async fn ask_at(mesh: &Mesh, gateway: &Role, host: &str) -> anyhow::Result<Reply> {
    call(mesh, gateway, host).send().await
}

async fn status(mesh: &Mesh, host: &str) -> u16 {
    ask(mesh, host).await.unwrap().status
}

/// The policy of the tests with another host in the rule `storefront`.
fn variant(attached: &Attached, host: &str) -> PathBuf {
    let text = std::fs::read_to_string(file("policy.yaml")).unwrap();
    let changed = text.replace("[shop.example.com]", &format!("[shop.example.com, {host}]"));
    assert_ne!(text, changed);
    let path = attached.folder(&format!("{host}.yaml"));
    std::fs::write(&path, changed).unwrap();
    path
}

/// With `--observe` nothing is refused, and all that would have been is counted.
async fn observing_refuses_nothing(attached: &Attached) {
    let folder = attached.render(&file("policy.yaml"), "observing", &["--observe"]);
    attached.apply(&folder).await;
    let mesh = &attached.mesh;
    for (host, rule) in [
        ("intranet.example.com", "default"),
        ("intranet.example.com%2e", "invalid-host"),
    ] {
        // Before it is attached nothing is refused, either.
        until(&format!("{rule} is counted"), async || {
            mesh.arrivals().take();
            assert_eq!(status(mesh, host).await, 200, "{host}");
            let labels = [
                ("reporter", "ingress"),
                ("decision", "deny"),
                ("rule", rule),
            ];
            let scraped = scrape(mesh.pod(&INGRESS)).await;
            scraped.value("meridian_dry_run_total", &labels) >= 1.0
        })
        .await;
        assert_eq!(directions(mesh), [["north-south"]]);
    }
}

/// `istioctl validate` and `analyze` find nothing but Istio's own note on EnvoyFilters.
async fn istio_has_nothing_to_say(attached: &Attached, folder: &Path) {
    let api: &Api = attached.mesh.api();
    let all = attached.folder("all.yaml");
    let built = api.kubectl(["kustomize"]).arg(folder).output().unwrap();
    std::fs::write(&all, built.stdout).unwrap();
    let validated = api.istioctl(["validate", "-f"]).arg(&all).output().unwrap();
    let said = text_of(&validated.stdout) + &text_of(&validated.stderr);
    assert!(validated.status.success(), "{said}");
    let analyzed = api
        .istioctl(["analyze", "-A", "--output", "json"])
        .output()
        .unwrap();
    let messages: Vec<serde_json::Value> = serde_json::from_slice(&analyzed.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", text_of(&analyzed.stderr)));
    let ours: Vec<_> = messages
        .iter()
        .filter(|message| message.to_string().contains("meridian"))
        // EnvoyFilters are an interface for experts.
        .filter(|message| message["code"] != "IST0133")
        .collect();
    assert!(ours.is_empty(), "{ours:?}");
    assert!(!messages.is_empty(), "nothing was analysed");
}

/// Policies are exchanged through the API server while requests run.
async fn an_update_loses_no_request(attached: &Attached) {
    let ended = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let ended = Arc::clone(&ended);
            let allowed = call(&attached.mesh, &INGRESS, "shop.example.com");
            tokio::spawn(async move {
                let mut answers = Vec::new();
                while !ended.load(Ordering::Relaxed) {
                    answers.push(allowed.send().await.map(|reply| reply.status));
                }
                answers
            })
        })
        .collect();
    for host in ["one.example.com", "two.example.com", "three.example.com"] {
        let policy = variant(attached, host);
        let folder = attached.render(&policy, "attached", &[]);
        attached.apply(&folder).await;
        attached.until_in_force(&policy, &FILTERED).await;
        assert_eq!(status(&attached.mesh, host).await, 200);
    }
    // The host of the second policy is not in the third.
    assert_eq!(status(&attached.mesh, "two.example.com").await, 403);
    ended.store(true, Ordering::Relaxed);
    let mut count = 0;
    for client in clients {
        for answer in client.await.unwrap() {
            assert_eq!(answer.unwrap(), 200);
            count += 1;
        }
    }
    eprintln!("{count} requests during three updates, none failed");
    assert!(count > 100, "only {count} requests");
}

/// The object of the public gateway's HTTP filter with `from` replaced.
fn changed(attached: &Attached, good: &Path, from: &str, to: &str) -> PathBuf {
    let text = std::fs::read_to_string(good.join("gateways/public/http.yaml")).unwrap();
    let changed = text.replacen(from, to, 1);
    assert_ne!(text, changed, "no {from} in {text}");
    let path = attached.folder("changed.yaml");
    std::fs::write(&path, changed).unwrap();
    path
}

/// Waits until the public gateway's log says `text`.
async fn until_logged(attached: &Attached, text: &str) {
    let log = attached.mesh.pod(&INGRESS).log().to_path_buf();
    until(&format!("the gateway's log says {text}"), async || {
        std::fs::read_to_string(&log).unwrap().contains(text)
    })
    .await;
}

async fn a_bad_policy_is_told_and_survived(attached: &Attached, good: &Path) {
    let bad = changed(
        attached,
        good,
        r#""default":"deny""#,
        r#""default":"perhaps""#,
    );
    attached.apply(&bad).await;
    until_logged(attached, "hosts.ingress.default").await;
    assert_eq!(status(&attached.mesh, "shop.example.com").await, 200);
    assert_eq!(status(&attached.mesh, "intranet.example.com").await, 403);
    let counted = scrape(attached.mesh.pod(&INGRESS)).await;
    let rejected: f64 = counted
        .iter()
        .filter(|sample| sample.name.contains("extension_config_discovery"))
        .filter(|sample| sample.name.contains("config_fail") || sample.name.contains("reject"))
        .map(|sample| sample.value)
        .sum();
    assert!(rejected > 0.0, "no counter says that a policy was refused");
}

async fn a_missing_module_is_told_and_survived(attached: &Attached, good: &Path) {
    let text = std::fs::read_to_string(good.join("gateways/public/http.yaml")).unwrap();
    let start = text.find("sha256:").unwrap();
    let digest = &text[start..start + "sha256:".len() + 64];
    let none = format!("sha256:{}", "0".repeat(64));
    let missing = changed(attached, good, digest, &none);
    attached.apply(&missing).await;
    until_logged(attached, &none[..20]).await;
    // Envoy refuses what the agent puts in the module's place, and keeps the filter that it has.
    until_logged(attached, "extensions.filters.http.rbac.v3.RBAC but expect").await;
    assert_eq!(status(&attached.mesh, "shop.example.com").await, 200);
    assert_eq!(status(&attached.mesh, "intranet.example.com").await, 403);
    attached.apply(good).await;
}

/// An EnvoyFilter of somebody else's, created later, that rewrites the authority.
async fn a_later_filter_does_not_come_first(attached: &Attached) {
    let path = attached.folder("rewrite.yaml");
    std::fs::write(
        &path,
        r#"apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: rewrite, namespace: istio-ingress}
spec:
  workloadSelector: {labels: {istio: ingress}}
  configPatches:
  - applyTo: HTTP_FILTER
    match:
      context: GATEWAY
      listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}
    patch:
      operation: INSERT_FIRST
      value:
        name: rewrite
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
          default_source_code:
            inline_string: |
              function envoy_on_request(handle)
                handle:headers():replace(":authority", "shop.example.com")
                handle:headers():add("x-rewritten", "yes")
              end
"#,
    )
    .unwrap();
    attached.apply(&path).await;
    let mesh = &attached.mesh;
    until("the other filter runs", async || {
        mesh.arrivals().take();
        let reply = ask(mesh, "shop.example.com").await.unwrap();
        let arrived = mesh.arrivals().take();
        let rewritten = arrived.iter().map(|arrival| arrival.header("x-rewritten"));
        reply.status == 200 && rewritten.eq([["yes"]])
    })
    .await;
    assert_eq!(status(mesh, "intranet.example.com").await, 403);
    attached.delete(&path).await;
}

/// The outbound plugin of a sidecar, put into the root namespace without a selector.
async fn a_plugin_in_the_root_namespace_abstains_at_gateways(attached: &Attached) {
    let options = ["--as", "trafficextension", "--namespace", "shop"];
    let folder = attached.render(&file("policy.yaml"), "plugins", &options);
    let text = std::fs::read_to_string(folder.join("sidecars/shop/outbound.yaml")).unwrap();
    let moved = text.replace("namespace: shop", "namespace: istio-system");
    assert_ne!(text, moved);
    let path = attached.folder("root.yaml");
    std::fs::write(&path, moved).unwrap();
    attached.apply(&path).await;
    let mesh = &attached.mesh;
    for gateway in [&INGRESS, &INTERNAL_INGRESS] {
        until(
            &format!("the plugin abstains at {}", gateway.name),
            async || {
                let scraped = scrape(mesh.pod(gateway)).await;
                scraped.value("meridian_plugin_abstains", &[("reporter", "outbound")]) == 1.0
            },
        )
        .await;
    }
    mesh.arrivals().take();
    assert_eq!(status(mesh, "shop.example.com").await, 200);
    assert_eq!(directions(mesh), [["north-south"]]);
    attached.delete(&path).await;
}

async fn istiod_restarts(attached: &mut Attached) {
    attached.mesh.restart_istiod().await.unwrap();
    assert_eq!(status(&attached.mesh, "shop.example.com").await, 200);
    let policy = variant(attached, "after-restart.example.com");
    let folder = attached.render(&policy, "attached", &[]);
    attached.apply(&folder).await;
    attached.until_in_force(&policy, &FILTERED).await;
    assert_eq!(
        status(&attached.mesh, "after-restart.example.com").await,
        200
    );
}

/// A policy needs no registry where the module is; a new pod without one refuses everything.
async fn the_registry_is_gone(attached: &mut Attached) {
    attached.mesh.stop_registry().await.unwrap();
    let policy = variant(attached, "without-registry.example.com");
    let folder = attached.render(&policy, "attached", &[]);
    attached.apply(&folder).await;
    attached.until_in_force(&policy, &FILTERED).await;
    attached.mesh.roll(&INTERNAL_INGRESS, &[]).await.unwrap();
    let host = "web.apps.example.com";
    for host in [host, "shop.example.com"] {
        let reply = ask_at(&attached.mesh, &INTERNAL_INGRESS, host).await;
        assert_eq!(reply.unwrap().status, 500, "{host}");
    }
    attached.mesh.start_registry().unwrap();
    let policy = variant(attached, "with-registry.example.com");
    let folder = attached.render(&policy, "attached", &[]);
    attached.apply(&folder).await;
    attached.until_in_force(&policy, &FILTERED).await;
    let reply = ask_at(&attached.mesh, &INTERNAL_INGRESS, host)
        .await
        .unwrap();
    assert_eq!(reply.status, 200);
}

/// A label that only new pods carry: no running proxy is changed, so that also those live that die of
/// a first filter.
async fn pods_take_the_filter_as_they_are_rolled(name: &str, envoy: &str, istio_version: &str) {
    let envoy = meridian::lab::envoy::obtain_version(envoy).unwrap();
    let mut attached = Attached::start(name, envoy, istio_version).await;
    let policy = file("policy.yaml");
    let label = ("meridian", "enabled");
    let options = [
        "--select-label",
        "meridian=enabled",
        "--proxy-version",
        r"^1\.",
    ];
    let folder = attached.render(&policy, "attached", &options);
    attached.apply(&folder).await;
    for role in [INGRESS, SHOP] {
        attached.mesh.roll(&role, &[label]).await.unwrap();
    }
    attached.until_in_force(&policy, &[INGRESS, SHOP]).await;
    let mesh = &attached.mesh;
    assert_eq!(status(mesh, "intranet.example.com").await, 403);
    mesh.arrivals().take();
    assert_eq!(status(mesh, "shop.example.com").await, 200);
    assert_eq!(directions(mesh), [["north-south"]]);
    // The others run on as they were.
    let reply = ask_at(mesh, &INTERNAL_INGRESS, "intranet.example.com")
        .await
        .unwrap();
    assert_eq!(reply.status, 200);
    let scraped = scrape(mesh.pod(&ORDERS)).await;
    assert_eq!(scraped.find("meridian_policy_revision", &[]).count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_envoy_1_37_take_the_filter_as_they_are_rolled() {
    let Some(_turn) = crate::turn().await else {
        return;
    };
    pods_take_the_filter_as_they_are_rolled("mesh-rolled-1.37.0", "1.37.0", "1.29.0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_envoy_1_40_take_the_filter_as_they_are_rolled() {
    let Some(_turn) = crate::turn().await else {
        return;
    };
    pods_take_the_filter_as_they_are_rolled("mesh-rolled-1.40.0", "1.40.0", "1.32.0").await;
}
