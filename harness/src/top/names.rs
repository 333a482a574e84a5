//! The metrics that this view reads and that `meridian_metrics` does not define yet.

/// Responses: reporter, direction, response_code_class.
pub(super) const RESPONSES: &str = "meridian_responses_total";
/// Durations, a histogram: reporter, direction.
pub(super) const DURATION: &str = "meridian_request_duration_milliseconds";
/// Requests by who asks: reporter, source_namespace, direction, decision.
pub(super) const CALLERS: &str = "meridian_caller_requests_total";
/// The first 48 bits of the policy's SHA-256, a gauge: reporter.
pub(super) const POLICY_REVISION: &str = "meridian_policy_revision";
/// How many rules the policy has for this vantage, a gauge: reporter.
pub(super) const POLICY_RULES: &str = "meridian_policy_rules";
