//! What each module is made of: its crate, the exports that it keeps, and the host calls that it may
//! make.

use super::strip::ON_LOG;

/// The end of a module's name that lacks the callback at the end of a request.
pub const LEAN: &str = "_lean";

/// One module, before it is built.
#[derive(Clone, Copy)]
pub(super) struct Recipe<'e> {
    /// Added to the name of the file.
    pub(super) suffix: &'static str,
    /// As in `meridian-NAME` (the crate) and `meridian_NAME.wasm`.
    pub(super) name: &'static str,
    /// The exports to keep that are the SDK's.
    ///
    /// The SDK exports every callback of the ABI, and Envoy calls into the VM for each one it finds, so
    /// that one that is not used costs a crossing a request.
    pub(super) of_sdk: &'e [&'static str],
    /// The exports to keep that are `meridian_NAME` in the crate and replace the SDK's.
    pub(super) own: &'e [&'static str],
}

pub(super) const RECIPES: [Recipe<'static>; 3] =
    [filter("ingress"), filter("egress"), filter("sidecar")];

const fn filter(name: &'static str) -> Recipe<'static> {
    Recipe {
        suffix: "",
        name,
        of_sdk: OF_SDK,
        own: OWN,
    }
}

impl Recipe<'_> {
    /// Every export to keep.
    pub(super) fn exports(&self) -> Vec<&'static str> {
        [self.of_sdk, self.own].concat()
    }
}

/// What the SDK exports for a filter. Without these the host refuses the module.
pub(super) const OF_SDK: &[&str] = &["memory", "proxy_abi_version_0_2_1", "_initialize"];

/// What a filter exports itself, in `abi` of `meridian-plugin`. A callback that it starts to use must be
/// added here.
pub(super) const OWN: &[&str] = &[
    // How the host passes a buffer into the VM.
    "malloc",
    "proxy_on_configure",
    // Only for policies with a rule that expires: the day is read.
    "proxy_on_tick",
    "proxy_on_context_create",
    "proxy_on_request_headers",
    // Only for requests that have any: a client's tags are taken out of them.
    "proxy_on_request_trailers",
    // Of a network filter alone. The sidecar's module has it too: a network filter whose module
    // lacks it would let everything pass, and this one refuses.
    "proxy_on_new_connection",
    // Responses and durations, when a request has ended. A module without it refuses a policy that
    // measures them.
    ON_LOG,
    // What is kept of a request is freed only here.
    "proxy_on_delete",
];

/// What only a filter does that decides on connections or trailers, or reads a clock.
pub(super) const UNUSED_BY_YARDSTICK: [&str; 3] = [
    "proxy_on_request_trailers",
    "proxy_on_tick",
    "proxy_on_new_connection",
];

/// The host calls that the filters make, in `abi/calls.rs` of `meridian-plugin` and in the SDK's logger.
/// A filter that starts to make another must have it added here.
pub(super) const HOST_CALLS: &[&str] = &[
    "proxy_call_foreign_function",
    "proxy_close_stream",
    "proxy_define_metric",
    "proxy_get_buffer_bytes",
    "proxy_get_current_time_nanoseconds",
    "proxy_get_header_map_value",
    "proxy_get_property",
    "proxy_increment_metric",
    "proxy_log",
    "proxy_record_metric",
    "proxy_remove_header_map_value",
    "proxy_replace_header_map_value",
    "proxy_send_local_response",
    "proxy_set_property",
    "proxy_set_tick_period_milliseconds",
];
