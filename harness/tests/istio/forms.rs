//! Every form of attachment, with all the traffic.

use meridian::lab::mesh::roles::INGRESS;

use crate::attached::{Attached, chains, chains_between_clusters, file, until};
use crate::table::FILTERED;
use crate::traces::Before;
use crate::traffic::send_all;

/// The label that new pods carry.
const LABEL: [&str; 2] = ["--select-label", "app.kubernetes.io/part-of=mesh"];

async fn every_form(name: &str, envoy: &str, istio_version: &str) {
    let envoy = meridian::lab::envoy::obtain_version(envoy).unwrap();
    let attached = Attached::start(name, envoy, istio_version).await;
    for form in ["envoyfilter", "trafficextension", "wasmplugin", "files"] {
        let policy = file("policy.yaml");
        let folder = match form {
            "wasmplugin" => {
                let options = [&["--as", form][..], &LABEL].concat();
                attached.render(&policy, form, &options)
            }
            "files" => attached.render_files(&policy, form),
            _ => attached.render(&policy, form, &["--as", form]),
        };
        attached.apply(&folder).await;
        attached.until_in_force(&policy, &FILTERED).await;
        let before = Before::now(&attached).await;
        let wrong = send_all(&attached).await;
        assert!(wrong.is_empty(), "{form} on {name}:\n{}", wrong.join("\n"));
        let between_clusters = chains_between_clusters(attached.mesh.pod(&INGRESS)).await;
        assert!(!between_clusters.is_empty());
        assert!(
            between_clusters.iter().all(|chain| !chain.is_filtered),
            "{form}"
        );
        before.until_counted(&attached).await;
        before.until_logged(&attached).await;
        attached.delete(&folder).await;
        detached(&attached).await;
    }
}

/// Waits until no listener that takes connections has a filter any more.
async fn detached(attached: &Attached) {
    for role in &FILTERED {
        let pod = attached.mesh.pod(role);
        until(&format!("{} has no filter", role.name), async || {
            let chains = chains(pod).await;
            !chains.is_empty() && chains.iter().all(|chain| !chain.is_filtered)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_attachment_on_envoy_1_40() {
    let Some(_turn) = crate::turn().await else {
        return;
    };
    every_form("mesh-1.40.0", "1.40.0", "1.32.0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_attachment_on_envoy_1_39() {
    let Some(_turn) = crate::turn().await else {
        return;
    };
    every_form("mesh-1.39.3", "1.39.3", "1.31.0").await;
}
