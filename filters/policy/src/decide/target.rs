//! Where a request or connection says that it goes.

use crate::decide::facts::Facts;
use crate::istio::server_name;
use crate::{Authority, Evidence, Host, InvalidHost, Subject};

/// The host and port that the rules are asked about: the authority of a request; of a connection the
/// server name (SNI), else the address that it dialled, else no host at all.
///
/// # Errors
/// [`InvalidHost`]: refused whatever the rules say.
pub(crate) fn target<E: Evidence>(facts: &mut Facts<'_, E>) -> Result<Authority, InvalidHost> {
    if facts.subject == Subject::Request {
        return Authority::from_bytes(facts.evidence.authority());
    }
    of_connection(facts)
}

// Apart, so that requests do not carry it.
#[inline(never)]
fn of_connection<E: Evidence>(facts: &mut Facts<'_, E>) -> Result<Authority, InvalidHost> {
    if let Some(sni) = facts.sni() {
        return server_name(&sni);
    }
    let dialled = facts.destination();
    Ok(Authority {
        host: dialled.map_or(Host::none(), |(address, _)| Host::Address(address)),
        port: None,
    })
}
