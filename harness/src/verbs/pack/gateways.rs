//! The gateways that get a module with a policy each.

use std::collections::BTreeSet;

use meridian_policy::{Gateway, Policy, Vantage};

/// The gateways whose slices of the policy are apart, by their names: those that run a filter. `None`
/// stands for those without a name, and for a kind of which there is none.
pub(super) fn of(policy: &Policy, vantages: &[Vantage]) -> BTreeSet<Option<String>> {
    let mesh = &policy.mesh;
    let name = |gateway: &Gateway| gateway.name.as_deref().map(str::to_owned);
    let names: BTreeSet<Option<String>> = match vantages {
        [Vantage::Ingress] => mesh
            .ingress_gateways
            .iter()
            .filter(|gateway| gateway.filtered)
            .map(name)
            .collect(),
        [Vantage::Egress] => mesh.egress_gateways.iter().map(name).collect(),
        _ => BTreeSet::new(),
    };
    match names.is_empty() {
        true => [None].into(),
        false => names,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::PolicyFile;

    #[test]
    fn each_gateway_that_runs_a_filter_has_a_module() {
        let gateway = |account: &str, more: &str| {
            format!("{{principal: cluster.local/ns/in/sa/{account}{more}}}")
        };
        let text = format!(
            "mesh: {{gateways: {{ingress: [{}, {}, {}, {}]}}}}",
            gateway("a", ", name: public, filtered: true"),
            gateway("b", ", name: nginx"),
            gateway("c", ", filtered: true"),
            gateway("d", ", filtered: true"),
        );
        let policy = PolicyFile::parse(text.as_bytes()).unwrap().policy;
        let public = Some("public".to_owned());
        assert_eq!(of(&policy, &[Vantage::Ingress]), [None, public].into());
        let sidecar = [Vantage::Inbound, Vantage::Outbound];
        for vantages in [&[Vantage::Egress][..], &sidecar] {
            assert_eq!(of(&policy, vantages), [None].into());
        }
    }
}
