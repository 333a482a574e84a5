//! What is allowed in a policy and yet is probably not what was meant: the warnings of
//! `meridian check`.
//!
//! `sections` judges the rules of one section against each other, `conditions` a rule by itself,
//! `look_alikes` the names of the whole policy.

use meridian_policy::{ConfigError, HostPattern, Vantage};

use crate::policy::PolicyFile;

mod condition_sets;
mod conditions;
mod expiry;
mod look_alikes;
mod sections;
mod warning;
mod width;

use warning::warning;

/// Every warning of a policy: of the mesh, of the rules in the order of the vantage points, of days,
/// of names. The time it takes grows with the number of hosts, not with their product.
pub fn of(file: &PolicyFile) -> Vec<ConfigError> {
    let mut warnings = of_mesh(file);
    for vantage in Vantage::ALL {
        warnings.extend(sections::of(file, *vantage));
    }
    warnings.extend(expiry::of(file, crate::policy::query::today()));
    warnings.extend(look_alikes::of(file));
    warnings
}

fn of_mesh(file: &PolicyFile) -> Vec<ConfigError> {
    let mesh = &file.policy.mesh;
    let mut warnings = Vec::new();
    if mesh.cidrs.is_empty() {
        warnings.push(warning(
            "mesh.cidrs",
            "is empty, so without an identity every caller counts as outside",
            "list the networks of pods and services, such as 10.0.0.0/8",
        ));
    }
    for (index, network) in mesh.cidrs.iter().enumerate() {
        if network.prefix_len() == 0 {
            warnings.push(warning(
                format!("mesh.cidrs[{index}]"),
                format!("\"{network}\" holds every address, so no client is outside"),
                "list the networks of pods and services alone",
            ));
        }
    }
    for host in file.written().mesh_hosts().parsed() {
        let holds_all = match host.pattern.host {
            HostPattern::Any => true,
            HostPattern::Network(network) => network.prefix_len() == 0,
            HostPattern::Exact(_) | HostPattern::Suffix(_) => false,
        };
        if holds_all {
            warnings.push(warning(
                format!("mesh.hosts[{}]", host.index),
                format!("{:?} holds every host, so none is outside", host.text),
                "list the names that live inside, such as *.mesh.internal",
            ));
        }
    }
    let gateways = &mesh.ingress_gateways;
    if gateways.is_empty() {
        warnings.push(warning(
            "mesh.gateways.ingress",
            "is empty, so sidecars take what enters through a gateway for east-west",
            "list the identity of each ingress gateway, and `filtered: true` for those that run the ingress filter",
        ));
    } else if !gateways.iter().any(|gateway| gateway.filtered) {
        warnings.push(warning(
            "mesh.gateways.ingress",
            "has no gateway that is filtered, so sidecars believe no tag",
            "write `filtered: true` for the gateways that run the ingress filter",
        ));
    }
    warnings
}
