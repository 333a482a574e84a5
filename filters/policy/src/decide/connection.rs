//! The decision over one connection whose bytes pass unread: TLS passthrough and plain TCP.
//!
//! Its host is the server name (SNI) of the ClientHello; without one, the address that it dialled.

use crate::decide::decision::{Facts, Reason};
use crate::decide::direction::{Conclusion, conclude, ingress};
use crate::host::parse_port;
use crate::{
    Action, Authority, Direction, DirectionEvidence, DryRun, Evidence, Host, InvalidHost, Policy,
    Vantage,
};

/// What a policy says of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionVerdict {
    /// What is done.
    pub decision: Action,
    /// Why. An invalid server name is [`Reason::InvalidHost`].
    pub reason: Reason,
    /// The direction.
    pub direction: Direction,
    /// What the direction was concluded from.
    pub evidence: DirectionEvidence,
    /// The host that it goes to, with the port only where the server name had one; `None` when
    /// that is invalid or not known.
    pub authority: Option<Authority>,
    /// What a dry run would have done.
    pub dry_run: Option<DryRun>,
}

/// Where a connection goes that does not say it.
pub(crate) const NO_HOST: Authority = Authority {
    host: Host::none(),
    port: None,
};

/// What a connection says of where it goes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The server name of TLS.
    ServerName(Authority),
    /// The address that was dialled.
    Dialled(Authority),
    /// Neither is known.
    Nothing,
}

impl Policy {
    /// Decides over one connection, by the same rules as over requests. Of the evidence it asks for
    /// server name, source, peer and destination alone.
    ///
    /// An invalid server name is refused whatever the rules say. Where neither a server name nor the
    /// dialled address tells the host, no rule that allows matches and of those that deny `*` alone,
    /// so that the default decides over the rest.
    pub fn decide_connection<E: Evidence>(
        &self,
        vantage: Vantage,
        evidence: &mut E,
    ) -> ConnectionVerdict {
        let mut facts = Facts::new(&self.mesh, vantage, evidence);
        let connection = Connection::of(&mut facts);
        let (decision, reason, dry_run) = match &connection.target {
            Err(invalid) => (Action::Deny, Reason::InvalidHost(*invalid), None),
            Ok(_) => self.by_rules(
                vantage,
                connection.authority().unwrap_or(&NO_HOST),
                connection.direction,
                &mut facts,
                None,
            ),
        };
        ConnectionVerdict {
            decision,
            reason,
            direction: connection.direction,
            evidence: connection.evidence,
            authority: connection.target.ok().and_then(Target::into_authority),
            dry_run,
        }
    }
}

/// What is known of a connection before a rule is asked.
pub(crate) struct Connection {
    pub(crate) target: Result<Target, InvalidHost>,
    pub(crate) direction: Direction,
    evidence: DirectionEvidence,
}

impl Connection {
    pub(crate) fn of<E: Evidence>(facts: &mut Facts<'_, E>) -> Self {
        facts.is_connection = true;
        let target = target(facts);
        let (direction, evidence) = match facts.vantage {
            Vantage::Ingress | Vantage::Inbound => ingress(facts),
            Vantage::Egress | Vantage::Outbound => by_target(&target, facts),
        };
        Self {
            target,
            direction,
            evidence,
        }
    }

    /// The host and port that rules are asked about; [`NO_HOST`] where they are not known.
    pub(crate) fn authority(&self) -> Option<&Authority> {
        match &self.target {
            Ok(Target::ServerName(authority) | Target::Dialled(authority)) => Some(authority),
            Ok(Target::Nothing) | Err(_) => None,
        }
    }
}

impl Target {
    fn into_authority(self) -> Option<Authority> {
        match self {
            Self::ServerName(authority) | Self::Dialled(authority) => Some(authority),
            Self::Nothing => None,
        }
    }
}

fn target<E: Evidence>(facts: &mut Facts<'_, E>) -> Result<Target, InvalidHost> {
    if let Some(sni) = facts.sni() {
        return server_name(&sni).map(Target::ServerName);
    }
    Ok(match facts.destination() {
        Some(address) => Target::Dialled(Authority {
            host: Host::Address(address),
            port: None,
        }),
        None => Target::Nothing,
    })
}

fn by_target<E: Evidence>(
    target: &Result<Target, InvalidHost>,
    facts: &mut Facts<'_, E>,
) -> Conclusion {
    match target {
        Ok(Target::ServerName(authority)) => conclude(
            facts
                .mesh
                .has_host(&authority.host, &mut || facts.port(authority)),
            DirectionEvidence::MeshSni,
            DirectionEvidence::OutsideSni,
        ),
        Ok(Target::Dialled(authority)) => conclude(
            facts
                .mesh
                .has_host(&authority.host, &mut || facts.port(authority)),
            DirectionEvidence::MeshDestination,
            DirectionEvidence::OutsideDestination,
        ),
        Ok(Target::Nothing) => (Direction::Unknown, DirectionEvidence::NoDestination),
        Err(_) => (Direction::Unknown, DirectionEvidence::InvalidHost),
    }
}

/// The host of a server name, and its port where it has Istio's form
/// `outbound_.PORT_.SUBSET_.HOST`, in which proxies of a mesh name a service to each other.
///
/// # Errors
/// [`InvalidHost`]; such a connection is refused whatever the rules say.
pub fn server_name(sni: &[u8]) -> Result<Authority, InvalidHost> {
    if sni.contains(&b':') {
        return Err(InvalidHost::Byte(b':'));
    }
    let authority = Authority::parse(sni)?;
    let Host::Name(name) = &authority.host else {
        return Err(InvalidHost::Address);
    };
    let Some(istio) = name.as_str().strip_prefix("outbound_.") else {
        return Ok(authority);
    };
    // What only looks like it is no name that anybody has: `_` ends no label of a host.
    let mut labels = istio.splitn(3, '.');
    let mut part = || labels.next()?.strip_suffix('_');
    let (Some(port), Some(_subset), Some(host)) = (part(), part(), labels.next()) else {
        return Err(InvalidHost::Port);
    };
    Ok(Authority {
        port: Some(parse_port(port)?.ok_or(InvalidHost::Port)?),
        ..Authority::parse(host.as_bytes())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Request;

    fn policy(egress: &str) -> Policy {
        let json = format!(
            r#"{{"mesh": {{"cidrs": ["10.0.0.0/8"]}}, "hosts": {{"egress": {egress}, "ingress": {egress}}}}}"#
        );
        Policy::from_json(json.as_bytes()).unwrap()
    }

    /// `allow by RULE, EVIDENCE` at the egress gateway.
    fn egress(policy: &Policy, sni: Option<&str>, destination: Option<&str>) -> String {
        let mut request = Request {
            sni: sni.map(str::as_bytes),
            destination: destination.map(|address| address.parse().unwrap()),
            destination_port: Some(8443),
            ..Request::default()
        };
        let verdict = policy.decide_connection(Vantage::Egress, &mut request);
        format!(
            "{} by {}, {}",
            verdict.decision,
            verdict.reason.label(policy.section(Vantage::Egress)),
            verdict.evidence
        )
    }

    #[test]
    fn server_names_are_names() {
        let canonical = |sni: &str| server_name(sni.as_bytes()).map(|name| name.to_string());
        for (sni, expected) in [
            ("Shop.Example.COM", "shop.example.com"),
            ("shop.example.com.", "shop.example.com"),
            ("outbound_.443_._.api.example.com", "api.example.com:443"),
            (
                "OUTBOUND_.8443_.v1_.a.b.svc.cluster.local.",
                "a.b.svc.cluster.local:8443",
            ),
        ] {
            assert_eq!(canonical(sni).as_deref(), Ok(expected), "{sni}");
        }
        for (sni, reason) in [
            ("1.2.3.4", InvalidHost::Address),
            ("0x7f.1", InvalidHost::Address),
            ("[::1]", InvalidHost::Byte(b':')),
            ("::1", InvalidHost::Byte(b':')),
            ("shop.example.com:443", InvalidHost::Byte(b':')),
            ("shop.example.com:", InvalidHost::Byte(b':')),
            ("*.example.com", InvalidHost::Byte(b'*')),
            ("shop\0.example.com", InvalidHost::Byte(0)),
            ("sh\u{f6}p.example", InvalidHost::Byte(0xc3)),
            ("", InvalidHost::Empty),
            (".", InvalidHost::Empty),
            ("a..b", InvalidHost::EmptyLabel),
            ("outbound_.x", InvalidHost::Port),
            ("outbound_.443_.api.example.com", InvalidHost::Port),
            ("outbound_.0_._.api.example.com", InvalidHost::Port),
            ("outbound_.65536_._.api.example.com", InvalidHost::Port),
            ("outbound_._._.api.example.com", InvalidHost::Port),
            ("outbound_.443_._.1.2.3.4", InvalidHost::Ipv4),
        ] {
            assert_eq!(canonical(sni), Err(reason), "{sni}");
        }
    }

    #[test]
    fn the_server_name_decides_and_then_the_address() {
        let policy = policy(
            r#"{"default": "deny", "rules": [
                {"name": "api", "hosts": ["api.example.com"], "action": "allow"},
                {"name": "https", "hosts": ["web.example.com"], "action": "allow", "ports": [443]},
                {"name": "net", "hosts": ["203.0.113.0/24"], "action": "allow"},
                {"name": "pods", "hosts": ["10.1.0.0/16"], "action": "allow", "ports": [8443]}]}"#,
        );
        for (sni, destination, expected) in [
            (Some("API.example.com"), None, "allow by api, outside-sni"),
            (
                Some("other.example.com"),
                None,
                "deny by default, outside-sni",
            ),
            (
                Some("a.b.svc.cluster.local"),
                None,
                "deny by default, mesh-sni",
            ),
            // The connection's own port, 8443, unless the name has one.
            (
                Some("web.example.com"),
                None,
                "deny by default, outside-sni",
            ),
            (
                Some("outbound_.443_._.web.example.com"),
                None,
                "allow by https, outside-sni",
            ),
            // The address does not save a name that is refused.
            (
                Some("other.example.com"),
                Some("203.0.113.7"),
                "deny by default, outside-sni",
            ),
            (
                Some("203.0.113.7"),
                Some("203.0.113.7"),
                "deny by invalid-host, invalid-host",
            ),
            (
                None,
                Some("203.0.113.7"),
                "allow by net, outside-destination",
            ),
            (
                None,
                Some("::ffff:203.0.113.7"),
                "allow by net, outside-destination",
            ),
            (None, Some("10.1.2.3"), "allow by pods, mesh-destination"),
            (
                None,
                Some("198.51.100.1"),
                "deny by default, outside-destination",
            ),
            (None, None, "deny by default, no-destination"),
        ] {
            assert_eq!(
                egress(&policy, sni, destination),
                expected,
                "{sni:?}, {destination:?}"
            );
        }
    }

    #[test]
    fn without_a_host_nothing_is_allowed_that_a_rule_denies_to_all() {
        let open = policy(
            r#"{"default": "deny", "rules": [{"name": "all", "hosts": ["*"], "action": "allow"}]}"#,
        );
        assert_eq!(
            egress(&open, None, Some("192.0.2.1")),
            "allow by all, outside-destination"
        );
        assert_eq!(egress(&open, None, None), "deny by default, no-destination");
        let closed = policy(
            r#"{"default": "allow", "rules": [
                {"name": "none", "hosts": ["*"], "action": "deny", "from": {"notCidrs": ["10.0.0.0/8"]}},
                {"name": "x", "hosts": ["x.example"], "action": "deny"}]}"#,
        );
        assert_eq!(egress(&closed, None, None), "deny by none, no-destination");
        let some = policy(
            r#"{"default": "allow", "rules": [{"name": "x", "hosts": ["x.example"], "action": "deny"}]}"#,
        );
        assert_eq!(
            egress(&some, None, None),
            "allow by default, no-destination"
        );
    }

    #[test]
    fn dry_run_and_direction_are_those_of_requests() {
        let policy = policy(r#"{"mode": "dryRun", "rules": []}"#);
        let mut request = Request {
            sni: Some(b"x.example"),
            source: "203.0.113.9".parse().ok(),
            ..Request::default()
        };
        let verdict = policy.decide_connection(Vantage::Ingress, &mut request);
        assert_eq!(verdict.decision, Action::Allow);
        assert_eq!(verdict.evidence, DirectionEvidence::OutsideSource);
        let would = verdict.dry_run.unwrap();
        assert_eq!(
            (would.decision, would.reason),
            (Action::Deny, Reason::Default)
        );
        request.sni = Some(b"1.2.3.4");
        let verdict = policy.decide_connection(Vantage::Ingress, &mut request);
        assert_eq!(verdict.decision, Action::Deny);
        assert_eq!(verdict.reason, Reason::InvalidHost(InvalidHost::Address));
    }
}
