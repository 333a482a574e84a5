//! A policy at one vantage point, ready for requests or connections.

use std::cell::Cell;
use std::rc::Rc;

use meridian_policy::{
    Action, ComponentType, Date, DryRun, Policy, Reason, TagWrite, Vantage, Verdict,
};

use crate::counters::Counters;
use crate::evidence::Live;
use crate::host::{self, GrpcStatus, Refused};

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
    counters: Counters,
}

/// What is decided over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// HTTP requests.
    Requests,
    /// Connections whose bytes pass unread.
    Connections,
}

/// What the host is to do with the request or connection.
pub(crate) enum Outcome {
    Continue,
    /// Nothing more: it is answered, or closed.
    Refused,
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
        let tag_property = format!("request\0headers\0{}", policy.tags.direction_header);
        Ok(Self {
            policy,
            vantage,
            subject,
            namespace,
            tag_property,
            today,
            counters,
        })
    }

    /// Decides over the request of the current callback, and carries the decision out.
    pub(crate) fn on_request(&self) -> Outcome {
        let verdict = self.policy.decide(self.vantage, &mut Live { filter: self });
        let counted = self.counters.count(
            verdict.reason,
            verdict.component,
            verdict.direction,
            verdict.dry_run,
        );
        self.note(counted, verdict.dry_run);
        if let Some(refusal) = self.policy.refusal(&verdict) {
            return reply(
                refusal.status,
                grpc_status(verdict.reason),
                &self.details(verdict.reason),
                refusal.body,
            );
        }
        match self.write_tags(&verdict) {
            Ok(()) => Outcome::Continue,
            // A client's own tag must not pass for ours.
            Err(Refused(status)) => {
                log::error!("a tag was not written: the host answered {status}");
                reply(
                    500,
                    GrpcStatus::Internal,
                    "meridian_tag_not_written",
                    "internal error\n",
                )
            }
        }
    }

    /// Takes the tags out of a request's trailers, which some servers add to its headers: no tag of
    /// ours is ever there.
    pub(crate) fn on_trailers(&self) -> Outcome {
        for header in self.tag_headers().into_iter().flatten() {
            if let Err(Refused(status)) = host::remove_request_trailer(header) {
                log::error!("a forged tag was not removed: the host answered {status}");
                return Outcome::Refused;
            }
        }
        Outcome::Continue
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
    pub(crate) fn on_connection(&self) -> Outcome {
        let verdict = self
            .policy
            .decide_connection(self.vantage, &mut Live { filter: self });
        let counted = self.counters.count(
            verdict.reason,
            ComponentType::Application,
            verdict.direction,
            verdict.dry_run,
        );
        self.note(counted, verdict.dry_run);
        if verdict.decision == Action::Allow {
            return Outcome::Continue;
        }
        // A connection has no response code details.
        tell("meridian_details", &self.details(verdict.reason));
        close()
    }

    /// Says what was not counted, and in the access log what a dry run would have done.
    fn note(&self, counted: Result<(), Refused>, dry_run: Option<DryRun>) {
        if let Err(Refused(status)) = counted {
            log::warn!("a decision was not counted: the host answered {status}");
        }
        if let Some(DryRun { decision, reason }) = dry_run {
            let rule = reason.label(self.policy.section(self.vantage));
            let mut value = decision.as_str().to_owned();
            for part in ["{", rule, "}"] {
                value.push_str(part);
            }
            tell("meridian_dry_run", &value);
        }
    }

    /// What the operator reads in the access log.
    fn details(&self, reason: Reason) -> String {
        match reason {
            Reason::InvalidHost(_) => "meridian_invalid_host".to_owned(),
            Reason::SniMismatch => "meridian_sni_mismatch".to_owned(),
            Reason::Rule(_) | Reason::Default => {
                let rule = reason.label(self.policy.section(self.vantage));
                let mut details = "meridian_deny{".to_owned();
                details.push_str(rule);
                details.push('}');
                details
            }
        }
    }

    fn write_tags(&self, verdict: &Verdict) -> Result<(), Refused> {
        let values = [
            verdict.direction.as_str(),
            verdict.component.as_str(),
            verdict.evidence.as_str(),
        ];
        for (header, value) in self.tag_headers().into_iter().zip(values) {
            let Some(header) = header else { continue };
            match verdict.tags {
                TagWrite::Replace => host::replace_request_header(header, value)?,
                TagWrite::Remove => host::remove_request_header(header)?,
            }
        }
        Ok(())
    }
}

/// What a gRPC client reads of a refusal in the place of the HTTP status.
fn grpc_status(reason: Reason) -> GrpcStatus {
    match reason {
        Reason::InvalidHost(_) => GrpcStatus::InvalidArgument,
        Reason::SniMismatch | Reason::Rule(_) | Reason::Default => GrpcStatus::PermissionDenied,
    }
}

/// Answers the request here, once.
pub(crate) fn reply(status: u16, grpc_status: GrpcStatus, details: &str, body: &str) -> Outcome {
    if let Err(Refused(answer)) = host::local_reply(status, grpc_status, details, body) {
        // The request stays paused, so that it does not pass.
        log::error!("a refusal was not sent: the host answered {answer}");
    }
    Outcome::Refused
}

/// Closes the connection of the current callback, before anything behind the filter knows of it.
pub(crate) fn close() -> Outcome {
    if let Err(Refused(answer)) = host::close_downstream() {
        log::error!("a refused connection was not closed: the host answered {answer}");
    }
    Outcome::Refused
}

/// Sets filter state that an access log can show: `%FILTER_STATE(wasm.NAME:PLAIN)%`.
fn tell(name: &str, value: &str) {
    if let Err(Refused(status)) = host::set_property(name, value) {
        log::warn!("{name} is not in the access log: the host answered {status}");
    }
}
