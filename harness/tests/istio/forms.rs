//! Every form of attachment, with all the traffic.

use meridian::lab::mesh::roles::{EGRESS, INGRESS, INTERNAL_INGRESS, Role, SHOP};

use crate::attached::{
    Attached, chains, chains_between_clusters, file, findings, meridian, scrape, until,
};
use crate::table::FILTERED;
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
        let wrong = send_all(&attached).await;
        assert!(wrong.is_empty(), "{form} on {name}:\n{}", wrong.join("\n"));
        let between_clusters = chains_between_clusters(attached.mesh.pod(&INGRESS)).await;
        assert!(!between_clusters.is_empty());
        assert!(
            between_clusters.iter().all(|chain| !chain.is_filtered),
            "{form}"
        );
        counted(&attached).await;
        logged(&attached).await;
        attached.delete(&folder).await;
        detached(&attached).await;
    }
}

/// The counters that the table must have left behind, with their labels.
async fn counted(attached: &Attached) {
    type Labels = &'static [(&'static str, &'static str)];
    let expected: &[(Role, &str, Labels)] = &[
        (
            INGRESS,
            "meridian_requests_total",
            &[
                ("reporter", "ingress"),
                ("direction", "north-south"),
                ("component_type", "application"),
                ("decision", "allow"),
                ("rule", "storefront"),
            ],
        ),
        (
            INGRESS,
            "meridian_requests_total",
            &[
                ("reporter", "ingress"),
                ("direction", "north-south"),
                ("decision", "deny"),
                ("rule", "default"),
            ],
        ),
        (
            INGRESS,
            "meridian_requests_total",
            &[
                ("reporter", "ingress"),
                ("decision", "deny"),
                ("rule", "invalid-host"),
            ],
        ),
        (
            INGRESS,
            "meridian_requests_total",
            &[
                ("reporter", "ingress"),
                ("direction", "east-west"),
                ("decision", "allow"),
                ("rule", "storefront"),
            ],
        ),
        (
            INGRESS,
            "meridian_connections_total",
            &[
                ("reporter", "ingress"),
                ("direction", "north-south"),
                ("decision", "allow"),
                ("rule", "storefront"),
            ],
        ),
        (
            INGRESS,
            "meridian_connections_total",
            &[
                ("reporter", "ingress"),
                ("decision", "deny"),
                ("rule", "default"),
            ],
        ),
        (
            INTERNAL_INGRESS,
            "meridian_requests_total",
            &[
                ("reporter", "ingress"),
                ("decision", "allow"),
                ("rule", "apps"),
            ],
        ),
        (
            EGRESS,
            "meridian_requests_total",
            &[
                ("reporter", "egress"),
                ("direction", "north-south"),
                ("decision", "allow"),
                ("rule", "partners"),
            ],
        ),
        (
            EGRESS,
            "meridian_requests_total",
            &[
                ("reporter", "egress"),
                ("decision", "deny"),
                ("rule", "no-trackers"),
            ],
        ),
        (
            EGRESS,
            "meridian_connections_total",
            &[
                ("reporter", "egress"),
                ("direction", "north-south"),
                ("decision", "allow"),
                ("rule", "partners"),
            ],
        ),
        (
            EGRESS,
            "meridian_connections_total",
            &[
                ("reporter", "egress"),
                ("decision", "deny"),
                ("rule", "no-trackers"),
            ],
        ),
        (
            SHOP,
            "meridian_requests_total",
            &[
                ("reporter", "inbound"),
                ("direction", "north-south"),
                ("decision", "allow"),
            ],
        ),
        (
            SHOP,
            "meridian_requests_total",
            &[
                ("reporter", "outbound"),
                ("direction", "east-west"),
                ("decision", "allow"),
            ],
        ),
        (
            SHOP,
            "meridian_requests_total",
            &[
                ("reporter", "outbound"),
                ("direction", "north-south"),
                ("decision", "allow"),
            ],
        ),
        (
            SHOP,
            "meridian_requests_total",
            &[
                ("reporter", "outbound"),
                ("decision", "deny"),
                ("rule", "no-mining"),
            ],
        ),
        (
            SHOP,
            "meridian_responses_total",
            &[
                ("reporter", "inbound"),
                ("direction", "north-south"),
                ("response_code_class", "2xx"),
            ],
        ),
        (
            SHOP,
            "meridian_request_duration_milliseconds_bucket",
            &[
                ("reporter", "inbound"),
                ("direction", "north-south"),
                ("le", "5"),
            ],
        ),
    ];
    for (role, metric, labels) in expected {
        // A histogram is seen at Envoy's next flush.
        until(&format!("{}: {metric} {labels:?}", role.name), async || {
            let scraped = scrape(attached.mesh.pod(role)).await;
            scraped.find(metric, labels).next().is_some()
        })
        .await;
    }
}

/// The lines of the logs, and what is made of them.
async fn logged(attached: &Attached) {
    let of_ingress: &[(&str, &str)] = &[
        ("authority", "intranet.example.com"),
        ("decision", "deny"),
        ("direction", "north-south"),
        ("rule", "default"),
        ("component_type", "application"),
        ("destination", "10.244.1.2:80"),
    ];
    let of_egress: &[(&str, &str)] = &[
        ("sni", "tracker.example"),
        ("decision", "deny"),
        ("direction", "north-south"),
        ("rule", "no-trackers"),
        ("destination", "10.244.1.4:443"),
    ];
    for (role, fields) in [(INGRESS, of_ingress), (EGRESS, of_egress)] {
        // Envoy writes its log every second.
        until(&format!("{} logs {fields:?}", role.name), async || {
            let lines = attached.access_log(&role);
            lines
                .iter()
                .any(|line| fields.iter().all(|(field, value)| line[*field] == *value))
        })
        .await;
    }
    let logs: Vec<String> = FILTERED
        .iter()
        .map(|role| attached.mesh.pod(role).log().to_str().unwrap().to_owned())
        .collect();
    let policy = file("policy.yaml");
    let log = attached.mesh.pod(&INGRESS).log().to_str().unwrap();
    let gateway = ["--policy", policy.to_str().unwrap(), "--gateway", "public"];
    let proposed = findings(&[&["learn"][..], &gateway, &[log]].concat());
    assert!(proposed.contains("intranet.example.com"), "{proposed}");
    let page = attached.folder("report.html");
    let mut arguments = vec!["report", "--out", page.to_str().unwrap()];
    arguments.extend(logs.iter().map(String::as_str));
    meridian(&arguments);
    let page = std::fs::read_to_string(page).unwrap();
    for name in ["istio-ingress", "shop", "orders", "tracker.example"] {
        assert!(
            page.contains(name),
            "{name} is not on the page of the report"
        );
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
