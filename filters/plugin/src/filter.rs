//! A policy at one vantage point, ready for requests or connections.

use std::cell::Cell;
use std::rc::Rc;

use meridian_metrics::{Metric, POLICY_REVISION, POLICY_RULES};
use meridian_policy::{
    Action, Date, Direction, DryRun, Metrics, Policy, Reason, Subject, TagWrite, Vantage, Verdict,
};

use crate::answer::{FilterStatus, close, grpc_status, reply};
use crate::counters::Counters;
use crate::filter_state::{self, Entry};
use crate::host::{GrpcStatus, PluginHost, Refused, StreamHost};
use crate::host_evidence::{HostEvidence, Surroundings};
use crate::response_metrics::ResponseMetrics;

/// A policy at one vantage point.
pub struct Filter {
    policy: Rc<Policy>,
    vantage: Vantage,
    surroundings: Surroundings,
    counters: Counters,
    response_metrics: ResponseMetrics,
}

impl Filter {
    /// Defines the metrics that the policy needs here.
    ///
    /// # Errors
    /// If the host refuses one.
    pub(crate) fn new<H: PluginHost>(
        host: H,
        policy: Rc<Policy>,
        vantage: Vantage,
        subject: Subject,
        namespace: Option<String>,
        today: Rc<Cell<Option<Date>>>,
    ) -> Result<Self, Refused> {
        let counters = Counters::define(host, &policy, vantage, subject)?;
        let metrics = match subject {
            Subject::Request => policy.metrics,
            Subject::Connection => Metrics::default(),
        };
        let response_metrics = ResponseMetrics::define(host, metrics, vantage)?;
        let tag_property = format!("request\0headers\0{}", policy.tags.direction_header);
        Ok(Self {
            policy,
            vantage,
            surroundings: Surroundings {
                subject,
                namespace,
                tag_property,
                today,
                after_plaintext: Cell::new(false),
            },
            counters,
            response_metrics,
        })
    }

    /// The vantage point of the filter.
    pub fn vantage(&self) -> Vantage {
        self.vantage
    }

    /// Whether the filter decides on requests or on connections.
    pub fn subject(&self) -> Subject {
        self.surroundings.subject
    }

    /// True if anything is measured when a request has ended.
    pub fn measures_ends(&self) -> bool {
        self.policy.metrics.any()
    }

    /// Says which policy is in force here.
    pub(crate) fn tell_policy<H: PluginHost>(&self, host: H, revision: u64) -> Result<(), Refused> {
        let rules = self.policy.section(self.vantage).rules.len();
        let set = |gauge: &Metric, value| {
            let name = gauge.stat_name(&[self.vantage.as_str()]);
            host.set(host.define(gauge.kind, &name)?, value)
        };
        set(&POLICY_REVISION, revision)?;
        set(&POLICY_RULES, rules.try_into().unwrap_or(u64::MAX))
    }

    /// Decides on the request or connection, carries the decision out, and says which direction it
    /// has. A request is decided on when its headers are there, a connection before anything behind
    /// the filter knows of it.
    pub fn on_stream<H: StreamHost>(&self, host: H) -> (FilterStatus, Direction) {
        let mut evidence = HostEvidence::new(host, &self.surroundings);
        let verdict = self
            .policy
            .decide(self.vantage, self.subject(), &mut evidence);
        evidence.remember();
        if let Err(Refused(status)) = self.counters.count(host, &verdict) {
            not_counted(status);
        }
        // A connection has no headers that could tell an access log.
        if self.policy.tags.filter_state || verdict.dry_run.is_some() {
            self.tell(host, &verdict);
        }
        let status = match verdict.decision {
            Action::Allow => self.pass(host, &verdict),
            Action::Deny => match self.subject() {
                Subject::Request => self.refuse_request(host, verdict.reason),
                Subject::Connection => self.refuse_connection(host, verdict.reason),
            },
        };
        (status, verdict.direction)
    }

    /// Lets it go on, a request with its tags.
    fn pass<H: StreamHost>(&self, host: H, verdict: &Verdict) -> FilterStatus {
        let Some(tags) = verdict.tags else {
            return FilterStatus::Continue;
        };
        match self.write_tags(host, tags, verdict) {
            Ok(()) => FilterStatus::Continue,
            // A client's own tag must not pass for ours.
            Err(Refused(status)) => tag_not_written(host, status),
        }
    }

    // What is not a request's way through stays out of its code.
    #[cold]
    #[inline(never)]
    fn refuse_request<H: StreamHost>(&self, host: H, reason: Reason) -> FilterStatus {
        let refusal = self.policy.refusal_for(reason);
        reply(
            host,
            refusal.status,
            grpc_status(reason),
            &self.details(reason),
            refusal.body,
        )
    }

    #[cold]
    #[inline(never)]
    fn refuse_connection<H: StreamHost>(&self, host: H, reason: Reason) -> FilterStatus {
        // A connection has no response code details.
        set(host, "meridian_details", self.details(reason).as_bytes());
        close(host)
    }

    /// Takes the tags out of a request's trailers, which some servers add to its headers: no tag of
    /// ours is ever there.
    pub fn on_trailers<H: StreamHost>(&self, host: H) -> FilterStatus {
        let tags = &self.policy.tags;
        let headers = [
            Some(&tags.direction_header),
            tags.component_header.as_ref(),
            tags.evidence_header.as_ref(),
        ];
        for header in headers.into_iter().flatten() {
            if let Err(Refused(status)) = host.remove_request_trailer(header) {
                log::error!("a forged tag was not removed: the host answered {status}");
                return FilterStatus::StopIteration;
            }
        }
        FilterStatus::Continue
    }

    /// Measures a request that has ended; its direction is unknown where this filter was never asked,
    /// because an earlier one answered.
    pub fn on_end<H: StreamHost>(&self, host: H, direction: Option<Direction>) {
        let direction = direction.unwrap_or(Direction::Unknown);
        if let Err(Refused(status)) = self.response_metrics.observe(host, direction) {
            log::warn!("a response was not measured: the host answered {status}");
        }
    }

    /// Tells the access log: all of the decision, or only what a dry run would have done.
    #[cold]
    #[inline(never)]
    fn tell<H: StreamHost>(&self, host: H, verdict: &Verdict) {
        let dry_run = verdict.dry_run.map(|dry_run| self.would(dry_run));
        if self.policy.tags.filter_state {
            let entry = Entry {
                decision: verdict.decision,
                rule: self.label(verdict.reason),
                direction: verdict.direction,
                evidence: verdict.evidence,
                component: verdict.component,
                authority: verdict.authority.as_ref(),
                dry_run,
            };
            set(host, filter_state::NAME, &entry.encode(self.vantage));
        } else if let Some(dry_run) = dry_run {
            set(host, "meridian_dry_run", dry_run.as_bytes());
        }
    }

    /// `deny{RULE}`
    #[inline(never)]
    fn would(&self, dry_run: DryRun) -> String {
        let mut would = dry_run.decision.as_str().to_owned();
        for part in ["{", self.label(dry_run.reason), "}"] {
            would.push_str(part);
        }
        would
    }

    fn label(&self, reason: Reason) -> &str {
        reason.label(self.policy.section(self.vantage))
    }

    /// What the operator reads in the access log.
    fn details(&self, reason: Reason) -> String {
        match reason {
            Reason::InvalidHost(_) => "meridian_invalid_host".to_owned(),
            Reason::SniMismatch => "meridian_sni_mismatch".to_owned(),
            Reason::Rule(_) | Reason::Default => {
                let mut details = "meridian_deny{".to_owned();
                details.push_str(self.label(reason));
                details.push('}');
                details
            }
        }
    }

    #[inline(never)]
    fn write_tags<H: StreamHost>(
        &self,
        host: H,
        written: TagWrite,
        verdict: &Verdict,
    ) -> Result<(), Refused> {
        let tags = &self.policy.tags;
        let write = |header: &str, value: &str| match written {
            TagWrite::Replace => host.replace_request_header(header, value),
            TagWrite::Remove => host.remove_request_header(header),
        };
        write(&tags.direction_header, verdict.direction.as_str())?;
        if let (Some(header), Some(component)) = (&tags.component_header, verdict.component) {
            write(header, component.as_str())?;
        }
        if let Some(header) = &tags.evidence_header {
            write(header, verdict.evidence.as_str())?;
        }
        Ok(())
    }
}

#[cold]
#[inline(never)]
fn not_counted(status: u32) {
    log::warn!("a decision was not counted: the host answered {status}");
}

#[cold]
#[inline(never)]
fn tag_not_written<H: StreamHost>(host: H, status: u32) -> FilterStatus {
    log::error!("a tag was not written: the host answered {status}");
    reply(
        host,
        500,
        GrpcStatus::Internal,
        "meridian_tag_not_written",
        "internal error\n",
    )
}

/// Sets filter state that an access log can show, `wasm.NAME`.
fn set<H: StreamHost>(host: H, name: &str, value: &[u8]) {
    if let Err(Refused(status)) = host.set_filter_state(name, value) {
        log::warn!("{name} is not in the access log: the host answered {status}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, World};
    use crate::plugin::{Clock, Filters};
    use std::cell::RefCell;

    const POLICY: &str = r#"{
        "mesh": {"cidrs": ["10.0.0.0/8"]},
        "components": {"system": {"hosts": ["console.example.com"]}},
        "tags": {"componentHeader": "x-component", "evidenceHeader": "x-evidence", "filterState": true},
        "metrics": {"responses": true, "durations": true},
        "hosts": {"ingress": {"default": "deny", "rules": [
            {"name": "shop", "hosts": ["shop.example.com", "console.example.com"], "action": "allow"},
            {"name": "try", "hosts": ["try.example.com"], "action": "allow", "dryRun": true},
            {"name": "no", "hosts": ["no.example.com"], "action": "deny"}]}}}"#;

    const EGRESS: &str = r#"{"hosts": {"egress": {"default": "deny", "rules": [
        {"name": "api", "hosts": ["api.example.com"], "action": "allow"}]}}}"#;

    /// What becomes of the world's request or connection at ingress.
    fn run(world: World, root_id: &str) -> (FilterStatus, World) {
        run_at(Vantage::Ingress, world, root_id)
    }

    fn run_at(vantage: Vantage, world: World, root_id: &str) -> (FilterStatus, World) {
        let world = RefCell::new(world);
        world.borrow_mut().text("plugin_root_id", root_id);
        let host = Fake(&world);
        let refused = world.borrow_mut().refused.take();
        let filters = Filters::load(host, &[vantage], &Clock::default()).unwrap();
        world.borrow_mut().refused = refused;
        let (status, _) = filters.current(host).unwrap().on_stream(host);
        (status, world.into_inner())
    }

    #[test]
    fn an_allowed_request_carries_the_filter_s_own_tags() {
        let mut world = World::request(POLICY, "console.example.com");
        for header in ["x-traffic-direction", "x-component", "x-evidence"] {
            for forged in ["east-west", "application"] {
                world.headers.push((header.to_owned(), forged.to_owned()));
            }
        }
        let (status, world) = run(world, "ingress");
        assert_eq!(status, FilterStatus::Continue);
        assert_eq!(world.values("x-traffic-direction"), ["north-south"]);
        assert_eq!(world.values("x-component"), ["system"]);
        assert_eq!(world.values("x-evidence"), ["outside-source"]);
        assert_eq!(
            world.counted("meridian_requests_total"),
            [(
                "reporter=.=ingress;.;direction=.=north-south;.;component_type=.=system;.;\
                 decision=.=allow;.;rule=.=shop;.;"
                    .to_owned(),
                1
            )]
        );
        assert!(world.replies.is_empty() && world.filter_state.contains_key("meridian"));
    }

    #[test]
    fn a_refused_request_is_answered_once_with_its_reason() {
        let permission = GrpcStatus::PermissionDenied;
        for (authority, sni, expected) in [
            ("no.example.com", "", (403, "meridian_deny{no}", permission)),
            (
                "other.example",
                "",
                (403, "meridian_deny{default}", permission),
            ),
            (
                "a.example,b.example",
                "",
                (400, "meridian_invalid_host", GrpcStatus::InvalidArgument),
            ),
            (
                "shop.example.com",
                "other.example",
                (421, "meridian_sni_mismatch", permission),
            ),
        ] {
            let mut world = World::request(POLICY, authority);
            world.text("connection\0requested_server_name", sni);
            let (status, world) = run(world, "ingress");
            assert_eq!(status, FilterStatus::StopIteration, "{authority}");
            let (code, details, grpc) = &world.replies[0];
            assert_eq!((*code, details.as_str(), *grpc), expected);
            assert_eq!(world.replies.len(), 1);
            assert!(world.values("x-traffic-direction").is_empty());
        }
    }

    #[test]
    fn a_dry_run_is_counted_beside_what_was_done() {
        let (status, world) = run(World::request(POLICY, "try.example.com"), "ingress");
        assert_eq!(status, FilterStatus::StopIteration);
        let counted = world.counted("meridian_dry_run_total");
        let expected =
            "reporter=.=ingress;.;direction=.=north-south;.;decision=.=allow;.;rule=.=try;.;";
        assert_eq!(counted, [(expected.to_owned(), 1)]);
        let told = String::from_utf8_lossy(&world.filter_state["meridian"]).into_owned();
        assert!(told.contains("allow{try}"), "{told}");
    }

    #[test]
    fn a_refused_connection_is_closed_and_has_no_component() {
        for (sni, status, closed) in [
            ("shop.example.com", FilterStatus::Continue, false),
            ("no.example.com", FilterStatus::StopIteration, true),
        ] {
            let mut world = World::request(POLICY, "");
            world.text("connection\0requested_server_name", sni);
            let (got, world) = run(world, "ingress.tcp");
            assert_eq!((got, world.is_closed), (status, closed), "{sni}");
            let counted = world.counted("meridian_connections_total");
            assert_eq!(counted.len(), 1, "{counted:?}");
            assert!(!counted[0].0.contains("component"), "{counted:?}");
            assert!(world.values("x-traffic-direction").is_empty() && world.replies.is_empty());
        }
    }

    /// What the host does not carry out never lets a request pass that is not to pass, or pass with
    /// a client's tag.
    #[test]
    fn nothing_passes_when_the_host_refuses() {
        for refused in World::REFUSABLE {
            for (authority, passes) in [
                ("shop.example.com", refused != "replace_request_header"),
                ("no.example.com", false),
                ("..", false),
            ] {
                let mut world = World::request(POLICY, authority);
                world.refused = Some(refused);
                let (status, _) = run(world, "ingress");
                let expected = match passes {
                    true => FilterStatus::Continue,
                    false => FilterStatus::StopIteration,
                };
                assert_eq!(status, expected, "{refused}, {authority}");
            }
            // At egress a client's tag is removed, and a refused connection is closed.
            for (root_id, authority, passes) in [
                (
                    "egress",
                    "api.example.com",
                    refused != "remove_request_header",
                ),
                ("egress.tcp", "tracker.example", false),
            ] {
                let mut world = World::request(EGRESS, authority);
                world.text("connection\0requested_server_name", authority);
                world
                    .headers
                    .push(("x-traffic-direction".to_owned(), "east-west".to_owned()));
                world.refused = Some(refused);
                let (status, world) = run_at(Vantage::Egress, world, root_id);
                let expected = match passes {
                    true => FilterStatus::Continue,
                    false => FilterStatus::StopIteration,
                };
                assert_eq!(status, expected, "{refused}, {root_id}");
                assert!(!passes || world.values("x-traffic-direction").is_empty());
            }
        }
    }

    #[test]
    fn an_ended_request_is_measured_under_its_direction() {
        let world = RefCell::new(World::request(POLICY, "shop.example.com"));
        let host = Fake(&world);
        world
            .borrow_mut()
            .number("response\0code", 404)
            .number("request\0duration", 7_900_000);
        let filters = Filters::load(host, &[Vantage::Ingress], &Clock::default()).unwrap();
        assert!(filters.measure_ends());
        let filter = filters.current(host).unwrap();
        filter.on_end(host, Some(Direction::NorthSouth));
        filter.on_end(host, None);
        let world = world.borrow();
        let labels = |direction: &str, rest: &str| {
            (
                format!("reporter=.=ingress;.;direction=.={direction};.;{rest}"),
                1,
            )
        };
        assert_eq!(
            world.counted("meridian_responses_total"),
            [
                labels("north-south", "response_code_class=.=4xx;.;"),
                labels("unknown", "response_code_class=.=4xx;.;"),
            ]
        );
        let durations = world.counted("meridian_request_duration_milliseconds");
        let observed: Vec<u64> = durations.iter().map(|(_, value)| *value).collect();
        assert_eq!(observed, [7, 7]);
    }

    #[test]
    fn tags_are_taken_out_of_trailers() {
        let mut world = World::request(POLICY, "shop.example.com");
        for trailer in [
            "x-traffic-direction",
            "x-component",
            "x-evidence",
            "checksum",
        ] {
            world.trailers.push((trailer.to_owned(), "1".to_owned()));
        }
        let world = RefCell::new(world);
        let host = Fake(&world);
        let filters = Filters::load(host, &[Vantage::Ingress], &Clock::default()).unwrap();
        let filter = filters.current(host).unwrap();
        assert_eq!(filter.on_trailers(host), FilterStatus::Continue);
        assert_eq!(
            world.borrow().trailers,
            [("checksum".to_owned(), "1".to_owned())]
        );
        world.borrow_mut().refused = Some("remove_request_trailer");
        assert_eq!(filter.on_trailers(host), FilterStatus::StopIteration);
    }
}
