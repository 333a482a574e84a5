//! What the traffic of a form leaves behind: counters, access logs, and what is made of them.

use std::path::PathBuf;

use meridian::lab::mesh::roles::{EGRESS, INGRESS, INTERNAL_INGRESS, Role, SHOP};
use meridian::lab::prometheus::Samples;
use serde_json::Value;

use crate::attached::{Attached, file, findings, meridian, scrape, until};
use crate::table::FILTERED;

/// The labels that a sample must have.
type Labels = &'static [(&'static str, &'static str)];

/// What the table must have counted.
#[rustfmt::skip]
const COUNTED: &[(Role, &str, Labels)] = &[
    (INGRESS, "meridian_requests_total", &[("reporter", "ingress"), ("direction", "north-south"), ("component_type", "application"), ("decision", "allow"), ("rule", "storefront")]),
    (INGRESS, "meridian_requests_total", &[("reporter", "ingress"), ("direction", "north-south"), ("decision", "deny"), ("rule", "default")]),
    (INGRESS, "meridian_requests_total", &[("reporter", "ingress"), ("decision", "deny"), ("rule", "invalid-host")]),
    (INGRESS, "meridian_requests_total", &[("reporter", "ingress"), ("direction", "east-west"), ("decision", "allow"), ("rule", "storefront")]),
    (INGRESS, "meridian_connections_total", &[("reporter", "ingress"), ("direction", "north-south"), ("decision", "allow"), ("rule", "storefront")]),
    (INGRESS, "meridian_connections_total", &[("reporter", "ingress"), ("decision", "deny"), ("rule", "default")]),
    (INTERNAL_INGRESS, "meridian_requests_total", &[("reporter", "ingress"), ("decision", "allow"), ("rule", "apps")]),
    (EGRESS, "meridian_requests_total", &[("reporter", "egress"), ("direction", "north-south"), ("decision", "allow"), ("rule", "partners")]),
    (EGRESS, "meridian_requests_total", &[("reporter", "egress"), ("decision", "deny"), ("rule", "no-trackers")]),
    (EGRESS, "meridian_connections_total", &[("reporter", "egress"), ("direction", "north-south"), ("decision", "allow"), ("rule", "partners")]),
    (EGRESS, "meridian_connections_total", &[("reporter", "egress"), ("decision", "deny"), ("rule", "no-trackers")]),
    (SHOP, "meridian_requests_total", &[("reporter", "inbound"), ("direction", "north-south"), ("decision", "allow")]),
    (SHOP, "meridian_requests_total", &[("reporter", "outbound"), ("direction", "east-west"), ("decision", "allow")]),
    (SHOP, "meridian_requests_total", &[("reporter", "outbound"), ("direction", "north-south"), ("decision", "allow")]),
    (SHOP, "meridian_requests_total", &[("reporter", "outbound"), ("decision", "deny"), ("rule", "no-mining")]),
    (SHOP, "meridian_responses_total", &[("reporter", "inbound"), ("direction", "north-south"), ("response_code_class", "2xx")]),
    (SHOP, "meridian_request_duration_milliseconds_bucket", &[("reporter", "inbound"), ("direction", "north-south"), ("le", "60000")]),
];

/// What one refused request and one refused connection must have left in the logs.
#[rustfmt::skip]
const LOGGED: [(Role, Labels); 2] = [
    (INGRESS, &[("authority", "intranet.example.com"), ("decision", "deny"), ("direction", "north-south"), ("rule", "default"), ("component_type", "application"), ("destination", "10.244.1.2:80")]),
    (EGRESS, &[("sni", "tracker.example"), ("decision", "deny"), ("direction", "north-south"), ("rule", "no-trackers"), ("destination", "10.244.1.4:443")]),
];

/// The counters and logs of every pod before the traffic: another form has left its own in the same
/// processes.
pub struct Before(Vec<(Role, Samples, usize)>);

impl Before {
    /// What is there now.
    pub async fn now(attached: &Attached) -> Self {
        let mut all = Vec::new();
        for role in FILTERED {
            let pod = attached.mesh.pod(&role);
            let log = std::fs::read(pod.log()).unwrap();
            all.push((role, scrape(pod).await, log.len()));
        }
        Self(all)
    }

    fn of(&self, role: &Role) -> &(Role, Samples, usize) {
        self.0.iter().find(|(known, ..)| known == role).unwrap()
    }

    /// Waits until everything is counted.
    pub async fn until_counted(&self, attached: &Attached) {
        for (role, metric, labels) in COUNTED {
            let (_, before, _) = self.of(role);
            // A histogram is seen at Envoy's next flush.
            until(&format!("{}: {metric} {labels:?}", role.name), async || {
                let scraped = scrape(attached.mesh.pod(role)).await.since(before);
                scraped.value(metric, labels) >= 1.0
            })
            .await;
        }
    }

    /// Waits until everything is logged, and has `learn` and `report` read it.
    pub async fn until_logged(&self, attached: &Attached) {
        for (role, fields) in &LOGGED {
            // Envoy writes its log every second.
            until(&format!("{} logs {fields:?}", role.name), async || {
                let has = |line: &Value| fields.iter().all(|(field, value)| line[*field] == *value);
                self.lines(attached, role).iter().any(has)
            })
            .await;
        }
        let logs: Vec<PathBuf> = FILTERED
            .iter()
            .map(|role| self.write_log(attached, role))
            .collect();
        let logs: Vec<&str> = logs.iter().map(|path| path.to_str().unwrap()).collect();

        let policy = file("policy.yaml");
        let gateway = ["--policy", policy.to_str().unwrap(), "--gateway", "public"];
        let proposed = findings(&[&["learn"][..], &gateway, &logs[..1]].concat());
        assert!(proposed.contains("intranet.example.com"), "{proposed}");

        let page = attached.folder("report.html");
        meridian(&[&["report", "--out", page.to_str().unwrap()], &logs[..]].concat());
        let page = std::fs::read_to_string(page).unwrap();
        for name in ["istio-ingress", "shop", "orders", "tracker.example"] {
            assert!(
                page.contains(name),
                "{name} is not on the page of the report"
            );
        }
    }

    /// What a pod has logged since, access logs among the agent's own lines.
    fn log(&self, attached: &Attached, role: &Role) -> String {
        let text = std::fs::read(attached.mesh.pod(role).log()).unwrap();
        let (_, _, length) = self.of(role);
        String::from_utf8_lossy(&text[*length..]).into_owned()
    }

    fn lines(&self, attached: &Attached, role: &Role) -> Vec<Value> {
        let text = self.log(attached, role);
        let lines = text.lines().filter(|line| line.starts_with('{'));
        lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    fn write_log(&self, attached: &Attached, role: &Role) -> PathBuf {
        let path = attached.folder(&format!("{}.log", role.name));
        std::fs::write(&path, self.log(attached, role)).unwrap();
        path
    }
}
