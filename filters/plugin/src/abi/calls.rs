//! Calls of the proxy-wasm host, ABI 0.2.1.
//!
//! The SDK's functions for them panic on a status that they do not expect, and have no response code
//! details for a local reply. So what a host may refuse, or a request asks, is called here, where every
//! status is a value. The SDK calls the foreign function, each of whose failures it returns, and the log,
//! which no host refuses.

use meridian_metrics::Kind;
use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, MapType, MetricType, Status, StreamType};

use crate::host::{Attributes, GrpcStatus, PluginHost, Refused, Stat, StreamHost};
use crate::protobuf::field;

/// What the host answers when all is well. Other answers stay numbers: [`Status`] has not all of them.
const OK: u32 = Status::Ok as u32;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_get_buffer_bytes(
        buffer: BufferType,
        start: usize,
        max_size: usize,
        return_data: *mut *mut u8,
        return_size: *mut usize,
    ) -> u32;
    fn proxy_get_header_map_value(
        map: MapType,
        key: *const u8,
        key_size: usize,
        return_data: *mut *mut u8,
        return_size: *mut usize,
    ) -> u32;
    fn proxy_replace_header_map_value(
        map: MapType,
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_remove_header_map_value(map: MapType, key: *const u8, key_size: usize) -> u32;
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
    fn proxy_close_stream(stream: StreamType) -> u32;
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
        kind: MetricType,
        name: *const u8,
        name_size: usize,
        return_id: *mut u32,
    ) -> u32;
    fn proxy_increment_metric(id: u32, offset: i64) -> u32;
    fn proxy_record_metric(id: u32, value: u64) -> u32;
    fn proxy_get_current_time_nanoseconds(return_time: *mut u64) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    /// Not the host's: `meridian build` puts the answer in its place. A module without that still has the
    /// SDK's callbacks: no host has this function, so that none loads it, and what it says of a missing
    /// import tells why.
    #[link_name = "exports_on_log (this module is not made by `meridian build`)"]
    fn exports_on_log() -> u32;
    /// The same: where `meridian pack --policy` put a policy, behind its length; null where it did not.
    #[link_name = "policy_image (this module is not made by `meridian build`)"]
    fn policy_image() -> *const u8;
}

/// The proxy that this module runs in: its current callback says what is meant.
#[derive(Clone, Copy)]
pub(super) struct ProxyWasm;

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

/// Removes every value of a header of a map, if there is one.
fn remove(map: MapType, name: &str) -> Result<(), Refused> {
    // SAFETY: the string is valid for its length.
    done(unsafe { proxy_remove_header_map_value(map, name.as_ptr(), name.len()) })
}

/// Adds to a histogram, or sets a gauge.
fn record(stat: Stat, value: u64) -> Result<(), Refused> {
    // SAFETY: no pointers.
    done(unsafe { proxy_record_metric(stat.0, value) })
}

impl Attributes for ProxyWasm {
    fn property(self, path: &str) -> Option<Vec<u8>> {
        returned(|data, size| {
            // SAFETY: all pointers are valid for the call, `path` for its length.
            unsafe { proxy_get_property(path.as_ptr(), path.len(), data, size) }
        })
    }
}

impl PluginHost for ProxyWasm {
    fn configuration(self) -> Vec<u8> {
        returned(|data, size| {
            // SAFETY: both pointers are valid for the call.
            unsafe {
                proxy_get_buffer_bytes(BufferType::PluginConfiguration, 0, usize::MAX, data, size)
            }
        })
        .unwrap_or_default()
    }

    fn policy_image(self) -> Option<&'static [u8]> {
        // SAFETY: no pointers go there.
        let image = unsafe { policy_image() };
        if image.is_null() {
            return None;
        }
        // SAFETY: where there is one, it lies behind its length, a word; nobody writes there, because the
        // allocator has what the memory grew by alone.
        unsafe {
            let length = image.cast::<u32>().read_unaligned() as usize;
            Some(std::slice::from_raw_parts(image.add(4), length))
        }
    }

    fn define(self, kind: Kind, name: &str) -> Result<Stat, Refused> {
        let kind = match kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram { .. } => MetricType::Histogram,
        };
        let mut id = 0;
        // SAFETY: the name is valid for its length, the id for the call.
        done(unsafe { proxy_define_metric(kind, name.as_ptr(), name.len(), &mut id) })?;
        Ok(Stat(id))
    }

    fn set(self, gauge: Stat, value: u64) -> Result<(), Refused> {
        record(gauge, value)
    }

    /// By the foreign function `declare_property`, whose arguments are Envoy's
    /// `envoy.source.extensions.common.wasm.DeclarePropertyArguments`.
    fn declare_filter_state(self, name: &str, type_url: &str) -> Result<(), Refused> {
        const PROTOBUF: u8 = 3;
        let mut arguments = Vec::new();
        field(&mut arguments, 1, name.as_bytes());
        arguments.extend_from_slice(&[3 << 3, PROTOBUF]);
        field(&mut arguments, 4, type_url.as_bytes());
        match hostcalls::call_foreign_function("declare_property", Some(&arguments)) {
            // What Envoy answers when the name is declared already.
            Ok(_) | Err(Status::BadArgument) => Ok(()),
            Err(status) => Err(Refused(status as u32)),
        }
    }

    fn unix_seconds(self) -> Result<u64, Refused> {
        let mut nanoseconds = 0;
        // SAFETY: the pointer is valid for the call.
        done(unsafe { proxy_get_current_time_nanoseconds(&mut nanoseconds) })?;
        Ok(nanoseconds / 1_000_000_000)
    }

    fn tick_every(self, milliseconds: u32) -> Result<(), Refused> {
        // SAFETY: no pointers.
        done(unsafe { proxy_set_tick_period_milliseconds(milliseconds) })
    }

    fn tells_ends(self) -> bool {
        // SAFETY: no pointers.
        unsafe { exports_on_log() != 0 }
    }
}

impl StreamHost for ProxyWasm {
    fn request_header(self, name: &str) -> Option<Vec<u8>> {
        returned(|data, size| {
            // SAFETY: all pointers are valid for the call, `name` for its length.
            unsafe {
                proxy_get_header_map_value(
                    MapType::HttpRequestHeaders,
                    name.as_ptr(),
                    name.len(),
                    data,
                    size,
                )
            }
        })
    }

    fn replace_request_header(self, name: &str, value: &str) -> Result<(), Refused> {
        // SAFETY: both strings are valid for their lengths.
        done(unsafe {
            proxy_replace_header_map_value(
                MapType::HttpRequestHeaders,
                name.as_ptr(),
                name.len(),
                value.as_ptr(),
                value.len(),
            )
        })
    }

    fn remove_request_header(self, name: &str) -> Result<(), Refused> {
        remove(MapType::HttpRequestHeaders, name)
    }

    fn remove_request_trailer(self, name: &str) -> Result<(), Refused> {
        remove(MapType::HttpRequestTrailers, name)
    }

    fn set_filter_state(self, name: &str, value: &[u8]) -> Result<(), Refused> {
        // SAFETY: both slices are valid for their lengths.
        done(unsafe { proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
    }

    fn local_reply(
        self,
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

    fn close_downstream(self) -> Result<(), Refused> {
        // SAFETY: no pointers.
        done(unsafe { proxy_close_stream(StreamType::Downstream) })
    }

    fn increment(self, counter: Stat) -> Result<(), Refused> {
        // SAFETY: no pointers.
        done(unsafe { proxy_increment_metric(counter.0, 1) })
    }

    fn observe(self, histogram: Stat, value: u64) -> Result<(), Refused> {
        record(histogram, value)
    }
}
