//! A policy at one vantage point, ready for requests or connections.

use std::cell::Cell;
use std::rc::Rc;

use meridian_metrics::{Metric, POLICY_REVISION, POLICY_RULES};
use meridian_policy::{
    Action, ComponentType, Date, Direction, DryRun, Metrics, Policy, Reason, Subject, TagWrite,
    Vantage, Verdict,
};
use proxy_wasm::types::MetricType;

use crate::counters::Counters;
use crate::ends::Ends;
use crate::evidence::Live;
use crate::filter_state::{self, Entry};
use crate::host::{self, GrpcStatus, Refused, Stat};

/// A policy at one vantage point.
pub(crate) struct Filter {
    pub(crate) policy: Rc<Policy>,
    pub(crate) vantage: Vantage,
    pub(crate) subject: Subject,
    /// The namespace of the workload that the proxy serves.
    pub(crate) namespace: Option<String>,
    /// The path of the property that holds the direction's tag.
    pub(crate) tag_property: String,
    /// The day, if a rule of the policy expires.
    pub(crate) today: Rc<Cell<Option<Date>>>,
    /// True if no TLS ended here at the request before.
    pub(crate) after_plaintext: Cell<bool>,
    counters: Counters,
    ends: Ends,
}

/// What the host is to do with the request or connection, in Envoy's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FilterStatus {
    Continue,
    /// Nothing more: it is answered, or closed.
    StopIteration,
}

impl Filter {
    pub(crate) fn new(
        policy: Rc<Policy>,
        vantage: Vantage,
        subject: Subject,
        namespace: Option<String>,
        today: Rc<Cell<Option<Date>>>,
    ) -> Result<Self, Refused> {
        let counters = Counters::define(&policy, vantage, subject)?;
        let ends = match subject {
            Subject::Request => Ends::define(policy.metrics, vantage)?,
            Subject::Connection => Ends::define(Metrics::default(), vantage)?,
        };
        let tag_property = format!("request\0headers\0{}", policy.tags.direction_header);
        Ok(Self {
            policy,
            vantage,
            subject,
            namespace,
            tag_property,
            today,
            after_plaintext: Cell::new(false),
            counters,
            ends,
        })
    }

    /// Says which policy is in force here.
    pub(crate) fn tell_policy(&self, revision: u64) -> Result<(), Refused> {
        let rules = self.policy.section(self.vantage).rules.len();
        self.set(&POLICY_REVISION, revision)?;
        self.set(&POLICY_RULES, rules.try_into().unwrap_or(u64::MAX))
    }

    fn set(&self, gauge: &Metric, value: u64) -> Result<(), Refused> {
        let name = gauge.stat_name(&[self.vantage.as_str()]);
        Stat::define(MetricType::Gauge, &name)?.record(value)
    }

    /// Decides over the request of the current callback, and carries the decision out.
    pub(crate) fn on_request(&self) -> (FilterStatus, Direction) {
        let mut evidence = Live::new(self);
        let verdict = self
            .policy
            .decide(self.vantage, self.subject, &mut evidence);
        evidence.remember();
        (self.carry_out(&verdict), verdict.direction)
    }

    fn carry_out(&self, verdict: &Verdict) -> FilterStatus {
        let Verdict {
            decision,
            direction,
            ..
        } = *verdict;
        let counted = self.counters.count(
            verdict.reason,
            verdict.component,
            direction,
            verdict.dry_run,
        );
        let counted = counted.and(match verdict.caller {
            Some(caller) => self.counters.count_caller(caller, decision, direction),
            None => Ok(()),
        });
        if let Err(Refused(status)) = counted {
            not_counted(status);
        }
        if self.policy.tags.filter_state || verdict.dry_run.is_some() {
            self.tell(&Entry {
                decision,
                rule: self.label(verdict.reason),
                direction,
                evidence: verdict.evidence,
                component: verdict.component,
                authority: verdict.authority.as_ref(),
                dry_run: verdict.dry_run.map(|dry_run| self.would(dry_run)),
            });
        }
        if decision != Action::Allow {
            return self.refuse(verdict);
        }
        match self.write_tags(verdict) {
            Ok(()) => FilterStatus::Continue,
            // A client's own tag must not pass for ours.
            Err(Refused(status)) => tag_not_written(status),
        }
    }

    // Out of the way of what goes on.
    #[cold]
    fn refuse(&self, verdict: &Verdict) -> FilterStatus {
        let refusal = self.policy.refusal_for(verdict.reason);
        reply(
            refusal.status,
            grpc_status(verdict.reason),
            &self.details(verdict.reason),
            refusal.body,
        )
    }

    /// Takes the tags out of a request's trailers, which some servers add to its headers: no tag of
    /// ours is ever there.
    pub(crate) fn on_trailers(&self) -> FilterStatus {
        for header in self.tag_headers().into_iter().flatten() {
            if let Err(Refused(status)) = host::remove_request_trailer(header) {
                log::error!("a forged tag was not removed: the host answered {status}");
                return FilterStatus::StopIteration;
            }
        }
        FilterStatus::Continue
    }

    /// The headers of direction, component type and evidence.
    fn tag_headers(&self) -> [Option<&String>; 3] {
        let tags = &self.policy.tags;
        [
            Some(&tags.direction_header),
            tags.component_header.as_ref(),
            tags.evidence_header.as_ref(),
        ]
    }

    /// Decides over the connection of the current callback, and closes it if it is refused.
    pub(crate) fn on_connection(&self) -> FilterStatus {
        let mut evidence = Live::new(self);
        let verdict = self
            .policy
            .decide(self.vantage, self.subject, &mut evidence);
        let counted = self.counters.count(
            verdict.reason,
            verdict.component,
            verdict.direction,
            verdict.dry_run,
        );
        if let Err(Refused(status)) = counted {
            not_counted(status);
        }
        self.tell(&Entry {
            decision: verdict.decision,
            rule: self.label(verdict.reason),
            direction: verdict.direction,
            evidence: verdict.evidence,
            component: verdict.component,
            authority: verdict.authority.as_ref(),
            dry_run: verdict.dry_run.map(|dry_run| self.would(dry_run)),
        });
        if verdict.decision == Action::Allow {
            return FilterStatus::Continue;
        }
        // A connection has no response code details.
        set("meridian_details", self.details(verdict.reason).as_bytes());
        close()
    }

    /// Measures the request of the current callback, which has ended; its direction is unknown
    /// where this filter was never asked, because an earlier one answered.
    pub(crate) fn on_end(&self, direction: Option<Direction>) {
        let direction = direction.unwrap_or(Direction::Unknown);
        if let Err(Refused(status)) = self.ends.observe(direction) {
            log::warn!("a response was not measured: the host answered {status}");
        }
    }

    /// Tells the access log: all of the decision, or only what a dry run would have done.
    #[cold]
    fn tell(&self, entry: &Entry<'_>) {
        if self.policy.tags.filter_state {
            set(filter_state::NAME, &entry.encode(self.vantage));
        } else if let Some(dry_run) = &entry.dry_run {
            set("meridian_dry_run", dry_run.as_bytes());
        }
    }

    /// `deny{RULE}`
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

    fn write_tags(&self, verdict: &Verdict) -> Result<(), Refused> {
        let tags = &self.policy.tags;
        let write = |header: &str, value: &str| match verdict.tags {
            Some(TagWrite::Replace) => host::replace_request_header(header, value),
            // Only connections have none, which have no headers either.
            Some(TagWrite::Remove) | None => host::remove_request_header(header),
        };
        write(&tags.direction_header, verdict.direction.as_str())?;
        if let Some(header) = &tags.component_header {
            write(header, verdict.component.map_or("", ComponentType::as_str))?;
        }
        if let Some(header) = &tags.evidence_header {
            write(header, verdict.evidence.as_str())?;
        }
        Ok(())
    }
}

#[cold]
fn not_counted(status: u32) {
    log::warn!("a decision was not counted: the host answered {status}");
}

#[cold]
fn tag_not_written(status: u32) -> FilterStatus {
    log::error!("a tag was not written: the host answered {status}");
    reply(
        500,
        GrpcStatus::Internal,
        "meridian_tag_not_written",
        "internal error\n",
    )
}

/// What a gRPC client reads of a refusal in the place of the HTTP status.
fn grpc_status(reason: Reason) -> GrpcStatus {
    match reason {
        Reason::InvalidHost(_) => GrpcStatus::InvalidArgument,
        Reason::SniMismatch | Reason::Rule(_) | Reason::Default => GrpcStatus::PermissionDenied,
    }
}

/// Answers the request here, once.
pub(crate) fn reply(
    status: u16,
    grpc_status: GrpcStatus,
    details: &str,
    body: &str,
) -> FilterStatus {
    if let Err(Refused(answer)) = host::local_reply(status, grpc_status, details, body) {
        // The request stays paused, so that it does not pass.
        log::error!("a refusal was not sent: the host answered {answer}");
    }
    FilterStatus::StopIteration
}

/// Closes the connection of the current callback, before anything behind the filter knows of it.
pub(crate) fn close() -> FilterStatus {
    if let Err(Refused(answer)) = host::close_downstream() {
        log::error!("a refused connection was not closed: the host answered {answer}");
    }
    FilterStatus::StopIteration
}

/// Sets filter state that an access log can show, `wasm.NAME`.
fn set(name: &str, value: &[u8]) {
    if let Err(Refused(status)) = host::set_property(name, value) {
        log::warn!("{name} is not in the access log: the host answered {status}");
    }
}
