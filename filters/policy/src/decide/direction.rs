//! Direction, with the evidence that it was concluded from.
//!
//! Missing evidence is [`Direction::Unknown`], never east-west.

use crate::decide::facts::{Facts, Route};
use crate::{Authority, Direction, DirectionEvidence, Evidence, Host, Subject, Vantage};

type Conclusion = (Direction, DirectionEvidence);

const fn conclude(inside: bool, yes: DirectionEvidence, no: DirectionEvidence) -> Conclusion {
    if inside {
        (Direction::EastWest, yes)
    } else {
        (Direction::NorthSouth, no)
    }
}

/// The direction of what goes to `target`; `None` where that is no valid host.
pub(crate) fn direction<E: Evidence>(
    target: Option<&Authority>,
    facts: &mut Facts<'_, E>,
) -> Conclusion {
    match (facts.vantage, facts.subject) {
        (Vantage::Ingress, _) | (Vantage::Inbound, Subject::Connection) => by_peer(facts),
        (Vantage::Inbound, Subject::Request) => inbound(facts),
        (Vantage::Outbound, Subject::Request) => outbound(target, facts),
        (Vantage::Egress, _) | (Vantage::Outbound, Subject::Connection) => by_target(target, facts),
    }
}

/// By the identity of who calls, else by the address that the call comes from.
fn by_peer<E: Evidence>(facts: &mut Facts<'_, E>) -> Conclusion {
    if facts.has_mesh_peer() {
        return (Direction::EastWest, DirectionEvidence::MeshIdentity);
    }
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

#[inline(never)]
fn inbound<E: Evidence>(facts: &mut Facts<'_, E>) -> Conclusion {
    let Some(gateway) = facts.ingress_gateway() else {
        return by_peer(facts);
    };
    let tag = if gateway.filtered { facts.tag() } else { None };
    match tag {
        Some(direction) => (direction, DirectionEvidence::GatewayTag),
        None => (Direction::NorthSouth, DirectionEvidence::IngressGateway),
    }
}

#[inline(never)]
fn outbound<E: Evidence>(target: Option<&Authority>, facts: &mut Facts<'_, E>) -> Conclusion {
    let mesh = facts.mesh;
    match facts.route() {
        Route::Service { host, port } => conclude(
            mesh.has_host(host, &mut || *port),
            DirectionEvidence::MeshCluster,
            DirectionEvidence::OutsideCluster,
        ),
        Route::Passthrough => match facts.destination() {
            Some((destination, _)) => conclude(
                mesh.has_address(destination),
                DirectionEvidence::MeshDestination,
                DirectionEvidence::OutsideDestination,
            ),
            None => (Direction::Unknown, DirectionEvidence::NoDestination),
        },
        Route::Untold => by_target(target, facts),
    }
}

/// By the host that is asked for.
#[inline(never)]
fn by_target<E: Evidence>(target: Option<&Authority>, facts: &mut Facts<'_, E>) -> Conclusion {
    let Some(authority) = target else {
        return (Direction::Unknown, DirectionEvidence::InvalidHost);
    };
    let host = &authority.host;
    let (inside, outside) = match (facts.subject, host) {
        (Subject::Request, _) => (DirectionEvidence::MeshHost, DirectionEvidence::OutsideHost),
        (Subject::Connection, Host::Address(_)) => (
            DirectionEvidence::MeshDestination,
            DirectionEvidence::OutsideDestination,
        ),
        (Subject::Connection, host) if host.is_none() => {
            return (Direction::Unknown, DirectionEvidence::NoDestination);
        }
        (Subject::Connection, Host::Name(_)) => {
            (DirectionEvidence::MeshSni, DirectionEvidence::OutsideSni)
        }
    };
    let mesh = facts.mesh;
    let is_inside = mesh.has_host(host, &mut || facts.port(authority));
    conclude(is_inside, inside, outside)
}
