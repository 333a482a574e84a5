//! The decision on one request or connection.

use std::ops::ControlFlow;

use crate::decide::conditions::{is_of_others, unmet};
use crate::decide::direction::direction;
use crate::decide::facts::Facts;
use crate::decide::target::target;
use crate::{
    Action, Authority, Caller, ComponentType, Direction, DryRun, Evidence, InvalidHost, Mode,
    Policy, Principal, Reason, Rule, Section, Sni, SniMode, Subject, TagWrite, Unmet, Vantage,
    Verdict,
};

impl Policy {
    /// Decides on one request, or on one connection whose bytes pass unread, by the same rules.
    ///
    /// An invalid host is refused whatever the rules say, unless [`Policy::invalid`] is in dry run. A
    /// connection's host is the server name (SNI) of its ClientHello; without one, the address that it
    /// dialled. Where neither is known, no rule that allows matches and of those that deny `*` alone, so
    /// that the default decides on the rest.
    ///
    /// Of a connection's evidence only server name, source, peer, destination, day and namespace
    /// are asked for.
    pub fn decide<E: Evidence>(
        &self,
        vantage: Vantage,
        subject: Subject,
        evidence: &mut E,
    ) -> Verdict {
        let mut facts = Facts::new(&self.mesh, vantage, subject, evidence);
        let target = target(&mut facts);
        let (direction, evidence) = direction(target.as_ref().ok(), &mut facts);
        let component = match subject {
            Subject::Request => Some(self.component(target.as_ref().ok(), &mut facts)),
            Subject::Connection => None,
        };
        let (decision, reason, dry_run) = match &target {
            Err(invalid) => self.judge_invalid(vantage, *invalid),
            Ok(authority) => self.judge(authority, direction, &mut facts),
        };
        let is_request = subject == Subject::Request;
        let tells_caller = is_request && vantage == Vantage::Egress && !self.callers.is_empty();
        Verdict {
            decision,
            reason,
            direction,
            evidence,
            component,
            authority: match target {
                Ok(authority) if !authority.host.is_none() => Some(authority),
                Ok(_) | Err(_) => None,
            },
            dry_run,
            tags: is_request.then(|| TagWrite::of(vantage, direction)),
            caller: tells_caller.then(|| self.caller(&mut facts)),
        }
    }

    #[inline(never)]
    fn caller<E: Evidence>(&self, facts: &mut Facts<'_, E>) -> Caller {
        let Some(peer) = facts.mesh_peer() else {
            return Caller::Unknown;
        };
        let named = self
            .callers
            .binary_search_by(|name| name.as_str().cmp(peer.namespace()));
        named.map_or(Caller::Other, Caller::Named)
    }

    #[inline(never)]
    fn component<E: Evidence>(
        &self,
        target: Option<&Authority>,
        facts: &mut Facts<'_, E>,
    ) -> ComponentType {
        match facts.vantage {
            Vantage::Ingress => target.map_or(ComponentType::Application, |authority| {
                self.components
                    .of_host(&authority.host, &mut || facts.port(authority))
            }),
            Vantage::Inbound | Vantage::Outbound => {
                self.components.of_namespace(facts.evidence.namespace())
            }
            Vantage::Egress => {
                let peer = facts.mesh_peer();
                self.components.of_namespace(peer.map(Principal::namespace))
            }
        }
    }

    /// What becomes of a host that is invalid.
    #[cold]
    #[inline(never)]
    fn judge_invalid(
        &self,
        vantage: Vantage,
        invalid: InvalidHost,
    ) -> (Action, Reason, Option<DryRun>) {
        let (decision, reason) = (Action::Deny, Reason::InvalidHost(invalid));
        if self.invalid == Mode::Enforce {
            return (decision, reason, None);
        }
        // No rule can be about it.
        let section = self.section(vantage);
        let done = match section.mode {
            Mode::Enforce => section.default,
            Mode::DryRun => Action::Allow,
        };
        (done, Reason::Default, Some(DryRun { decision, reason }))
    }

    /// What becomes of a host that is valid.
    fn judge<E: Evidence>(
        &self,
        authority: &Authority,
        direction: Direction,
        facts: &mut Facts<'_, E>,
    ) -> (Action, Reason, Option<DryRun>) {
        let mut dry_run = None;
        match self.sni_mismatch(authority, facts) {
            SniMode::Deny => return (Action::Deny, Reason::SniMismatch, None),
            SniMode::DryRun => {
                dry_run = Some(DryRun {
                    decision: Action::Deny,
                    reason: Reason::SniMismatch,
                });
            }
            SniMode::Ignore => {}
        }
        let section = self.section(facts.vantage);
        let mut decided = None;
        for_each_rule(section, authority, direction, facts, |matched| {
            if matched.unmet.is_some() {
                return ControlFlow::Continue(());
            }
            let (decision, reason) = (matched.rule.action, Reason::Rule(matched.index));
            if matched.rule.dry_run {
                dry_run.get_or_insert(DryRun { decision, reason });
                return ControlFlow::Continue(());
            }
            decided = Some((decision, reason));
            ControlFlow::Break(())
        });
        let (decision, reason) = decided.unwrap_or((section.default, Reason::Default));
        match section.mode {
            Mode::Enforce => (decision, reason, dry_run),
            // A section in dry run is itself the dry run; what is done is to let pass.
            Mode::DryRun => {
                let would = dry_run.filter(|would| would.reason == Reason::SniMismatch);
                (
                    Action::Allow,
                    Reason::Default,
                    would.or(Some(DryRun { decision, reason })),
                )
            }
        }
    }

    /// What becomes of a request whose TLS connection the client opened for another host, or for
    /// none; [`SniMode::Ignore`] when it was opened for this one.
    ///
    /// Only at ingress: inside the mesh Istio's SNI names the service that is dialled, not the
    /// request's authority, and the peer's identity says more.
    pub(crate) fn sni_mismatch<E: Evidence>(
        &self,
        authority: &Authority,
        facts: &mut Facts<'_, E>,
    ) -> SniMode {
        let sni = &self.sni;
        if facts.subject == Subject::Connection
            || facts.vantage != Vantage::Ingress
            || (sni.mismatch == SniMode::Ignore && sni.missing == SniMode::Ignore)
            || facts.has_mesh_peer()
        {
            return SniMode::Ignore;
        }
        self.compare_sni(authority, facts)
    }

    #[inline(never)]
    fn compare_sni<E: Evidence>(&self, authority: &Authority, facts: &mut Facts<'_, E>) -> SniMode {
        let Sni {
            mismatch, missing, ..
        } = self.sni;
        match facts.sni() {
            Some(_) if mismatch == SniMode::Ignore => SniMode::Ignore,
            Some(sni) => match Authority::from_bytes(sni) {
                Ok(sni) if sni.host == authority.host => SniMode::Ignore,
                _ => mismatch,
            },
            None if missing != SniMode::Ignore && facts.is_tls() => missing,
            None => SniMode::Ignore,
        }
    }
}

/// A rule with a host pattern that matches.
pub(crate) struct Matched<'s> {
    /// Its index in [`Section::rules`].
    pub(crate) index: usize,
    pub(crate) rule: &'s Rule,
    /// The port of the pattern; `None` is any.
    pub(crate) only_port: Option<u16>,
    /// What keeps it from taking part; `None` if all its conditions hold.
    pub(crate) unmet: Option<Unmet>,
}

/// Calls `each` with the rules that name the host, in the order of their [`crate::Precedence`]: with
/// a rule once for each of its patterns that matches. The first whose conditions hold decides.
pub(crate) fn for_each_rule<'s, E: Evidence>(
    section: &'s Section,
    authority: &Authority,
    direction: Direction,
    facts: &mut Facts<'_, E>,
    mut each: impl FnMut(Matched<'s>) -> ControlFlow<()>,
) {
    section.hosts.visit(&authority.host, |rank, only_port| {
        let Some((index, rule)) = section.rule(rank) else {
            return ControlFlow::Continue(());
        };
        let is_other_port = |facts: &mut Facts<'_, E>| {
            only_port
                .is_some_and(|only| !facts.port_holds(rule.action, authority, &|port| port == only))
        };
        let unmet = if is_of_others(rule, facts) {
            Some(Unmet::Gateways)
        } else if is_other_port(facts) {
            Some(Unmet::HostPort)
        } else {
            unmet(rule, authority, direction, facts)
        };
        each(Matched {
            index,
            rule,
            only_port,
            unmet,
        })
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DirectionEvidence, Request};

    /// A trusted proxy's `x-forwarded-for` can hold that spelling; no client can connect from it.
    #[test]
    fn a_mapped_source_is_the_ipv4_address_that_it_is() {
        let policy = Policy::from_json(
            br#"{"hosts": {"ingress": {"default": "allow", "rules": [{"name": "a", "hosts": ["*"],
                "action": "deny", "from": {"cidrs": ["10.0.0.0/8"]}}]}}}"#,
        )
        .unwrap();
        let mut request = Request::new(b"shop.example.com");
        request.source = "::ffff:10.1.2.3".parse().ok();
        let verdict = policy.decide(Vantage::Ingress, Subject::Request, &mut request);
        assert_eq!(verdict.decision, Action::Deny);
    }

    /// TLS libraries refuse to send such names, so no vector has one.
    #[test]
    fn a_server_name_that_is_no_host_is_a_mismatch() {
        let policy = Policy::from_json(br#"{"hosts": {"ingress": {"default": "allow"}}}"#).unwrap();
        for sni in [&b"shop..example.com"[..], b"shop.example.0x7f", b"\xff"] {
            let mut request = Request::new(b"shop.example.com");
            request.sni = Some(sni);
            let verdict = policy.decide(Vantage::Ingress, Subject::Request, &mut request);
            assert_eq!(verdict.reason, Reason::SniMismatch, "{sni:?}");
        }
    }

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
        let verdict = policy.decide(Vantage::Egress, Subject::Connection, &mut request);
        format!(
            "{} by {}, {}",
            verdict.decision,
            verdict.reason.label(policy.section(Vantage::Egress)),
            verdict.evidence
        )
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
        let verdict = policy.decide(Vantage::Ingress, Subject::Connection, &mut request);
        assert_eq!(verdict.decision, Action::Allow);
        assert_eq!(verdict.evidence, DirectionEvidence::OutsideSource);
        let would = verdict.dry_run.unwrap();
        assert_eq!(
            (would.decision, would.reason),
            (Action::Deny, Reason::Default)
        );
        request.sni = Some(b"1.2.3.4");
        let verdict = policy.decide(Vantage::Ingress, Subject::Connection, &mut request);
        assert_eq!(verdict.decision, Action::Deny);
        assert_eq!(verdict.reason, Reason::InvalidHost(InvalidHost::Address));
    }
}
