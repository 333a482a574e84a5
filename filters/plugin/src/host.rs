//! Calls of the proxy-wasm host, ABI 0.2.1.
//!
//! The SDK's own wrappers panic on any status that they do not expect, and its local reply has no
//! response code details. Here every unexpected status is a value.

use proxy_wasm::types::{BufferType, MapType, MetricType, StreamType};

/// What the host answers when all is well.
const OK: u32 = 0;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        max_size: usize,
        return_data: *mut *mut u8,
        return_size: *mut usize,
    ) -> u32;
    fn proxy_get_header_map_value(
        map: u32,
        key: *const u8,
        key_size: usize,
        return_data: *mut *mut u8,
        return_size: *mut usize,
    ) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_remove_header_map_value(map: u32, key: *const u8, key_size: usize) -> u32;
    fn proxy_get_property(
        path: *const u8,
        path_size: usize,
        return_data: *mut *mut u8,
        return_size: *mut usize,
    ) -> u32;
    fn proxy_set_property(
        path: *const u8,
        path_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_close_stream(stream: u32) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
    fn proxy_define_metric(
        kind: u32,
        name: *const u8,
        name_size: usize,
        return_id: *mut u32,
    ) -> u32;
    fn proxy_increment_metric(id: u32, offset: i64) -> u32;
    fn proxy_record_metric(id: u32, value: u64) -> u32;
    fn proxy_call_foreign_function(
        name: *const u8,
        name_size: usize,
        arguments: *const u8,
        arguments_size: usize,
        return_data: *mut *mut u8,
        return_size: *mut usize,
    ) -> u32;
    fn proxy_get_current_time_nanoseconds(return_time: *mut u64) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    /// Not the host's: `meridian build` puts the answer in its place.
    fn meridian_exports_on_log() -> u32;
}

/// True if the host calls this module when a request has ended.
pub(crate) fn exports_on_log() -> bool {
    // SAFETY: no pointers.
    unsafe { meridian_exports_on_log() != 0 }
}

/// A host call that was refused, with the host's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) u32);

fn done(status: u32) -> Result<(), Refused> {
    if status == OK {
        Ok(())
    } else {
        Err(Refused(status))
    }
}

/// Takes over a buffer that the host filled.
fn returned(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Option<Vec<u8>> {
    let mut data = std::ptr::null_mut();
    let mut size = 0;
    if call(&mut data, &mut size) != OK {
        return None;
    }
    if data.is_null() {
        // What is there but empty has no buffer.
        return Some(Vec::new());
    }
    // SAFETY: the host allocated `size` bytes with this module's `malloc`, which gives what a vector of
    // just that capacity has, and hands the ownership over.
    Some(unsafe { Vec::from_raw_parts(data, size, size) })
}

/// The plugin's configuration; empty when there is none.
pub(crate) fn plugin_configuration() -> Vec<u8> {
    returned(|data, size| {
        // SAFETY: both pointers are valid for the call.
        unsafe {
            proxy_get_buffer_bytes(
                BufferType::PluginConfiguration as u32,
                0,
                usize::MAX,
                data,
                size,
            )
        }
    })
    .unwrap_or_default()
}

/// An integer property; Envoy's durations are of nanoseconds.
pub(crate) fn number(path: &str) -> Option<i64> {
    Some(i64::from_le_bytes(property(path)?.try_into().ok()?))
}

/// The first value of a request header.
pub(crate) fn request_header(name: &str) -> Option<Vec<u8>> {
    returned(|data, size| {
        // SAFETY: all pointers are valid for the call, `name` for its length.
        unsafe {
            proxy_get_header_map_value(
                MapType::HttpRequestHeaders as u32,
                name.as_ptr(),
                name.len(),
                data,
                size,
            )
        }
    })
}

/// Makes `value` the only value of a request header.
pub(crate) fn replace_request_header(name: &str, value: &str) -> Result<(), Refused> {
    // SAFETY: both strings are valid for their lengths.
    done(unsafe {
        proxy_replace_header_map_value(
            MapType::HttpRequestHeaders as u32,
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        )
    })
}

/// Removes every value of a request header, if there is one.
pub(crate) fn remove_request_header(name: &str) -> Result<(), Refused> {
    remove(MapType::HttpRequestHeaders, name)
}

/// Removes every value of a request trailer, if there is one.
pub(crate) fn remove_request_trailer(name: &str) -> Result<(), Refused> {
    remove(MapType::HttpRequestTrailers, name)
}

fn remove(map: MapType, name: &str) -> Result<(), Refused> {
    // SAFETY: the string is valid for its length.
    done(unsafe { proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len()) })
}

/// The time, in seconds since the Unix epoch.
pub(crate) fn unix_seconds() -> Result<u64, Refused> {
    let mut nanoseconds = 0;
    // SAFETY: the pointer is valid for the call.
    done(unsafe { proxy_get_current_time_nanoseconds(&mut nanoseconds) })?;
    Ok(nanoseconds / 1_000_000_000)
}

/// Asks for a tick of the root context every so often, on each worker.
pub(crate) fn tick_every(milliseconds: u32) -> Result<(), Refused> {
    // SAFETY: no pointers.
    done(unsafe { proxy_set_tick_period_milliseconds(milliseconds) })
}

/// A property; `path` is the names joined by NUL, as the ABI has it.
pub(crate) fn property(path: &str) -> Option<Vec<u8>> {
    returned(|data, size| {
        // SAFETY: all pointers are valid for the call, `path` for its length.
        unsafe { proxy_get_property(path.as_ptr(), path.len(), data, size) }
    })
}

/// Sets the filter state `wasm.NAME`.
pub(crate) fn set_property(name: &str, value: &[u8]) -> Result<(), Refused> {
    // SAFETY: both slices are valid for their lengths.
    done(unsafe { proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
}

/// Closes the client's side of the connection.
pub(crate) fn close_downstream() -> Result<(), Refused> {
    // SAFETY: no pointers.
    done(unsafe { proxy_close_stream(StreamType::Downstream as u32) })
}

/// A gRPC status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GrpcStatus {
    InvalidArgument = 3,
    PermissionDenied = 7,
    Internal = 13,
    Unavailable = 14,
}

/// Answers the request here. `details` becomes `%RESPONSE_CODE_DETAILS%`.
///
/// The host uses `grpc_status`, with the body as its message, where the request is gRPC, and
/// `status` with the body elsewhere.
pub(crate) fn local_reply(
    status: u16,
    grpc_status: GrpcStatus,
    details: &str,
    body: &str,
) -> Result<(), Refused> {
    // A header map of no entries.
    let headers = 0u32.to_le_bytes();
    // SAFETY: all slices are valid for their lengths.
    done(unsafe {
        proxy_send_local_response(
            u32::from(status),
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            grpc_status as i32,
        )
    })
}

/// Calls one of Envoy's foreign functions that answers nothing.
pub(crate) fn call_foreign_function(name: &str, arguments: &[u8]) -> Result<(), Refused> {
    let mut data = std::ptr::null_mut();
    let mut size = 0;
    // SAFETY: all slices are valid for their lengths, the pointers for the call.
    done(unsafe {
        proxy_call_foreign_function(
            name.as_ptr(),
            name.len(),
            arguments.as_ptr(),
            arguments.len(),
            &mut data,
            &mut size,
        )
    })
}

/// A metric; a name that is already there gives the same stat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat(u32);

impl Stat {
    /// Defines the metric. The host never frees it.
    pub(crate) fn define(kind: MetricType, name: &str) -> Result<Self, Refused> {
        let mut id = 0;
        // SAFETY: the name is valid for its length, the id for the call.
        done(unsafe { proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &mut id) })?;
        Ok(Self(id))
    }

    /// Adds one to a counter.
    pub(crate) fn increment(self) -> Result<(), Refused> {
        // SAFETY: no pointers.
        done(unsafe { proxy_increment_metric(self.0, 1) })
    }

    /// Sets a gauge, or adds an observation to a histogram.
    pub(crate) fn record(self, value: u64) -> Result<(), Refused> {
        // SAFETY: no pointers.
        done(unsafe { proxy_record_metric(self.0, value) })
    }
}
