//! Direction, with the evidence that it was concluded from.
//!
//! Missing evidence is [`Direction::Unknown`], never east-west.

use crate::decide::decision::Facts;
use crate::{Authority, Direction, DirectionEvidence, Evidence, Host, Vantage};

pub(crate) type Conclusion = (Direction, DirectionEvidence);

pub(crate) const fn conclude(
    inside: bool,
    yes: DirectionEvidence,
    no: DirectionEvidence,
) -> Conclusion {
    if inside {
        (Direction::EastWest, yes)
    } else {
        (Direction::NorthSouth, no)
    }
}

pub(crate) fn direction<E: Evidence>(
    authority: Option<&Authority>,
    facts: &mut Facts<'_, E>,
) -> Conclusion {
    match facts.vantage {
        Vantage::Ingress => ingress(facts),
        Vantage::Inbound => inbound(facts),
        Vantage::Outbound => outbound(authority, facts),
        Vantage::Egress => by_authority(authority, facts),
    }
}

pub(crate) fn ingress<E: Evidence>(facts: &mut Facts<'_, E>) -> Conclusion {
    if facts.has_mesh_peer() {
        return (Direction::EastWest, DirectionEvidence::MeshIdentity);
    }
    by_source(facts)
}

fn by_source<E: Evidence>(facts: &mut Facts<'_, E>) -> Conclusion {
    match facts.source() {
        Some(source) => conclude(
            facts.mesh.has_address(source),
            DirectionEvidence::MeshSource,
            DirectionEvidence::OutsideSource,
        ),
        None if facts.vantage == Vantage::Inbound && facts.is_forwarded() => {
            (Direction::Unknown, DirectionEvidence::ForwardedSource)
        }
        None => (Direction::Unknown, DirectionEvidence::NoSource),
    }
}

fn inbound<E: Evidence>(facts: &mut Facts<'_, E>) -> Conclusion {
    if let Some(gateway) = facts.ingress_gateway() {
        let tag = if gateway.filtered { facts.tag() } else { None };
        return match tag {
            Some(direction) => (direction, DirectionEvidence::GatewayTag),
            None => (Direction::NorthSouth, DirectionEvidence::IngressGateway),
        };
    }
    if facts.has_mesh_peer() {
        return (Direction::EastWest, DirectionEvidence::MeshIdentity);
    }
    by_source(facts)
}

fn outbound<E: Evidence>(authority: Option<&Authority>, facts: &mut Facts<'_, E>) -> Conclusion {
    let Some(cluster) = facts.cluster() else {
        return by_authority(authority, facts);
    };
    if cluster == "PassthroughCluster" {
        return match facts.destination() {
            Some(destination) => conclude(
                facts.mesh.has_address(destination),
                DirectionEvidence::MeshDestination,
                DirectionEvidence::OutsideDestination,
            ),
            None => (Direction::Unknown, DirectionEvidence::NoDestination),
        };
    }
    match cluster_host(cluster) {
        Some((host, port)) if !facts.mesh.is_egress_gateway(&host) => conclude(
            facts.mesh.has_host(&host, &mut || port),
            DirectionEvidence::MeshCluster,
            DirectionEvidence::OutsideCluster,
        ),
        _ => by_authority(authority, facts),
    }
}

/// The host and port of Istio's `outbound|PORT|SUBSET|HOST`. The cluster of a wildcard
/// ServiceEntry, `*.example.com`, stands for a host below its name.
pub(crate) fn cluster_host(cluster: String) -> Option<(Host, u16)> {
    let mut parts = cluster.strip_prefix("outbound|")?.split('|');
    let (port, _subset, host) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let port = port.parse().ok()?;
    let before = cluster.len() - host.len();
    let mut host = cluster.into_bytes();
    host.drain(..before);
    if let [any @ b'*', b'.', ..] = host.as_mut_slice() {
        // Any label will do, best one that hardly a host has.
        *any = b'_';
    }
    Some((Authority::from_bytes(host).ok()?.host, port))
}

fn by_authority<E: Evidence>(
    authority: Option<&Authority>,
    facts: &mut Facts<'_, E>,
) -> Conclusion {
    match authority {
        Some(authority) => conclude(
            facts
                .mesh
                .has_host(&authority.host, &mut || facts.port(authority)),
            DirectionEvidence::MeshHost,
            DirectionEvidence::OutsideHost,
        ),
        None => (Direction::Unknown, DirectionEvidence::InvalidHost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_istio_clusters_name_a_host() {
        assert!(cluster_host("outbound|443||api.example.com".to_owned()).is_some());
        assert!(cluster_host("outbound|80|v1|a.b.svc.cluster.local".to_owned()).is_some());
        for cluster in [
            "",
            "BlackHoleCluster",
            "inbound|80||",
            "outbound|80||",
            "outbound|x||a.b",
            "outbound|80||a|b",
        ] {
            assert_eq!(cluster_host(cluster.to_owned()), None, "{cluster}");
        }
    }
}
