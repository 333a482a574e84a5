//! A policy at one vantage point, ready for requests.

use std::rc::Rc;

use meridian_policy::{Policy, Reason, TagWrite, Vantage, Verdict};

use crate::counters::Counters;
use crate::evidence::Live;
use crate::host::{self, Refused};

/// A policy at one vantage point.
pub(crate) struct Filter {
    pub(crate) policy: Rc<Policy>,
    pub(crate) vantage: Vantage,
    /// The namespace of the workload that the proxy serves.
    pub(crate) namespace: Option<String>,
    /// The path of the property that holds the direction's tag.
    pub(crate) tag_property: String,
    counters: Counters,
}

/// What the host is to do with the request.
pub(crate) enum Outcome {
    Continue,
    Replied,
}

impl Filter {
    pub(crate) fn new(
        policy: Rc<Policy>,
        vantage: Vantage,
        namespace: Option<String>,
    ) -> Result<Self, Refused> {
        let counters = Counters::define(&policy, vantage)?;
        let tag_property = format!("request\0headers\0{}", policy.tags.direction_header);
        Ok(Self {
            policy,
            vantage,
            namespace,
            tag_property,
            counters,
        })
    }

    /// Decides over the request of the current callback, and carries the decision out.
    pub(crate) fn on_request(&self) -> Outcome {
        let verdict = self.policy.decide(self.vantage, &mut Live { filter: self });
        if let Err(Refused(status)) = self.counters.count(&verdict) {
            log::warn!("a request was not counted: the host answered {status}");
        }
        if let Some(refusal) = self.policy.refusal(&verdict) {
            return reply(refusal.status, &self.details(verdict.reason), refusal.body);
        }
        match self.write_tags(&verdict) {
            Ok(()) => Outcome::Continue,
            // A client's own tag must not pass for ours.
            Err(Refused(status)) => {
                log::error!("a tag was not written: the host answered {status}");
                reply(500, "meridian_tag_not_written", "internal error\n")
            }
        }
    }

    /// What the operator reads in the access log.
    fn details(&self, reason: Reason) -> String {
        match reason {
            Reason::InvalidHost(_) => "meridian_invalid_host".to_owned(),
            Reason::SniMismatch => "meridian_sni_mismatch".to_owned(),
            Reason::Rule(_) | Reason::Default => {
                let rule = reason.label(self.policy.section(self.vantage));
                format!("meridian_deny{{{rule}}}")
            }
        }
    }

    fn write_tags(&self, verdict: &Verdict) -> Result<(), Refused> {
        let tags = &self.policy.tags;
        let headers = [
            (Some(&tags.direction_header), verdict.direction.as_str()),
            (tags.component_header.as_ref(), verdict.component.as_str()),
            (tags.evidence_header.as_ref(), verdict.evidence.as_str()),
        ];
        for (header, value) in headers {
            let Some(header) = header else { continue };
            match verdict.tags {
                TagWrite::Replace => host::replace_request_header(header, value)?,
                TagWrite::Remove => host::remove_request_header(header)?,
            }
        }
        Ok(())
    }
}

/// Answers the request here, once.
pub(crate) fn reply(status: u16, details: &str, body: &str) -> Outcome {
    if let Err(Refused(answer)) = host::local_reply(status, details, body) {
        // The request stays paused, so that it does not pass.
        log::error!("a refusal was not sent: the host answered {answer}");
    }
    Outcome::Replied
}
