//! The gateways of a policy that get filters, and how their pods are found.

use std::collections::BTreeMap;

use anyhow::bail;
use meridian_policy::{Gateway, Policy, Principal, Vantage};

/// A gateway that gets filters.
#[derive(Debug)]
pub(super) struct Attached<'p> {
    /// What its folder and its objects are called.
    pub(super) name: String,
    /// Its name in the policy, for its rules.
    pub(super) policy_name: Option<&'p str>,
    pub(super) vantage: Vantage,
    pub(super) principal: &'p Principal,
    /// Of its pods.
    pub(super) namespace: &'p str,
    /// Of its pods.
    pub(super) labels: BTreeMap<String, String>,
    /// What the policy does not say of it.
    pub(super) assumed: Vec<&'static str>,
}

/// The gateways that run a filter, in the order of the policy: ingress gateways that are `filtered`,
/// and all egress gateways.
pub(super) fn attached(policy: &Policy) -> Vec<Attached<'_>> {
    let mesh = &policy.mesh;
    let ingress = mesh
        .ingress_gateways
        .iter()
        .filter(|gateway| gateway.filtered);
    let ingress = ingress.map(|gateway| (Vantage::Ingress, gateway));
    let egress = mesh.egress_gateways.iter();
    let egress = egress.map(|gateway| (Vantage::Egress, gateway));
    let mut attached: Vec<Attached<'_>> = Vec::new();
    for (vantage, gateway) in ingress.chain(egress) {
        let mut found = find(vantage, gateway);
        let is_taken = |name: &str| attached.iter().any(|other| other.name == name);
        if is_taken(&found.name) {
            found.name = format!("{}-{}", found.namespace, found.name);
        }
        let (plain, mut number) = (found.name.clone(), 2);
        while is_taken(&found.name) {
            found.name = format!("{plain}-{number}");
            number += 1;
        }
        attached.push(found);
    }
    attached
}

/// Refuses selectors that would give a gateway another one's slice of the policy.
///
/// # Errors
/// If the pods of one gateway are among those of another, or `--select-label` changes which pods are
/// a gateway's; says what to write instead.
pub(super) fn check_selectors(
    gateways: &[Attached<'_>],
    select_label: Option<&(String, String)>,
) -> anyhow::Result<()> {
    if let Some((key, _)) = select_label
        && let Some((gateway, value)) = gateways
            .iter()
            .find_map(|gateway| Some((gateway, gateway.labels.get(key)?)))
    {
        bail!(
            "--select-label {key}: the gateway {}'s pods are found by {key}={value}; choose a label \
             that no gateway is found by",
            gateway.name
        );
    }
    for (index, one) in gateways.iter().enumerate() {
        for other in gateways.iter().skip(index + 1) {
            let is_part = |a: &Attached<'_>, b: &Attached<'_>| {
                a.labels
                    .iter()
                    .all(|(key, value)| b.labels.get(key) == Some(value))
            };
            if one.namespace == other.namespace && (is_part(one, other) || is_part(other, one)) {
                bail!(
                    "the gateways {} and {} select the same pods of the namespace {}, and one would get \
                     the other's rules; write `labels` in mesh.gateways that tell their pods apart",
                    one.name,
                    other.name,
                    one.namespace
                );
            }
        }
    }
    Ok(())
}

fn find(vantage: Vantage, gateway: &Gateway) -> Attached<'_> {
    let principal = &gateway.principal;
    let account = principal.service_account();
    let mut labels: BTreeMap<String, String> = gateway
        .labels
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect();
    let mut assumed = Vec::new();
    if labels.is_empty() {
        let (key, value) = label_of(account);
        labels.insert(key.to_owned(), value.to_owned());
        assumed.push("labels");
    }
    if gateway.namespace.is_none() {
        assumed.push("namespace");
    }
    Attached {
        name: match &gateway.name {
            Some(name) => name.to_string(),
            None => service_of(account).replace(['.', '_'], "-"),
        },
        policy_name: gateway.name.as_deref(),
        vantage,
        principal,
        namespace: gateway
            .namespace
            .as_deref()
            .unwrap_or(principal.namespace()),
        labels,
        assumed,
    }
}

/// The label of the pods that run as an account: that of Istio's chart `gateway`, whose release, pods
/// and account have one name; and of a gateway of the Gateway API, whose account is named after it and
/// its class.
fn label_of(account: &str) -> (&'static str, &str) {
    if let Some(name) = account.strip_suffix("-istio") {
        return ("gateway.networking.k8s.io/gateway-name", name);
    }
    let service = service_of(account);
    ("istio", service.strip_prefix("istio-").unwrap_or(service))
}

/// What an account is named after; older installations add a suffix.
fn service_of(account: &str) -> &str {
    account.strip_suffix("-service-account").unwrap_or(account)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::PolicyFile;

    #[test]
    fn what_the_policy_does_not_say_is_assumed_from_the_account() {
        for (account, label) in [
            ("istio-ingress", ("istio", "ingress")),
            ("istio-ingressgateway", ("istio", "ingressgateway")),
            (
                "istio-ingressgateway-service-account",
                ("istio", "ingressgateway"),
            ),
            ("edge", ("istio", "edge")),
            (
                "public-istio",
                ("gateway.networking.k8s.io/gateway-name", "public"),
            ),
        ] {
            assert_eq!(label_of(account), label, "{account}");
        }
    }

    #[test]
    fn each_gateway_that_runs_a_filter_has_a_name_of_its_own() {
        let policy = "
mesh: {gateways: {
  ingress: [
    {principal: cluster.local/ns/a/sa/istio-ingress, filtered: true},
    {principal: cluster.local/ns/b/sa/istio-ingress, filtered: true},
    {principal: cluster.local/ns/b/sa/istio-ingress-service-account, filtered: true},
    {principal: cluster.local/ns/nginx/sa/nginx, filtered: false},
    {principal: cluster.local/ns/c/sa/in, filtered: true, name: public, namespace: edge, labels: {app: in}}],
  egress: [{principal: cluster.local/ns/out/sa/out_1.x}]}}";
        let file = PolicyFile::parse(policy.as_bytes()).unwrap();
        let attached = attached(&file.policy);
        let told: Vec<(&str, &str, usize)> = attached
            .iter()
            .map(|gateway| {
                (
                    gateway.name.as_str(),
                    gateway.namespace,
                    gateway.assumed.len(),
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("istio-ingress", "a", 2),
                ("b-istio-ingress", "b", 2),
                ("b-istio-ingress-2", "b", 2),
                ("public", "edge", 0),
                ("out-1-x", "out", 2),
            ]
        );
        assert_eq!(attached[3].labels["app"], "in");
        assert_eq!(attached[4].vantage, Vantage::Egress);
    }
}
