//! The host's log as the log of this module, and of its panics.

use log::{Level, LevelFilter, Log, Metadata, Record};

/// The highest of the ABI's levels, which begin with `trace` as 0.
const CRITICAL: u32 = 5;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, message: *const u8, message_size: usize) -> u32;
}

struct Logger;

/// Sends everything from `info` on to the host's log, and the message of a panic, which would be lost
/// otherwise.
pub(super) fn start() {
    // Refused only where there is a logger already: this one, of an earlier call.
    if log::set_logger(&Logger).is_ok() {
        log::set_max_level(LevelFilter::Info);
        std::panic::set_hook(Box::new(|panic| write(CRITICAL, &panic.to_string())));
    }
}

fn write(level: u32, message: &str) {
    // SAFETY: the message is valid for its length. That it was not logged can be told nobody.
    let _: u32 = unsafe { proxy_log(level, message.as_ptr(), message.len()) };
}

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        // The macros compare with the highest level before they come here.
        true
    }

    fn log(&self, record: &Record<'_>) {
        let level = match record.level() {
            Level::Trace => 0,
            Level::Debug => 1,
            Level::Info => 2,
            Level::Warn => 3,
            Level::Error => 4,
        };
        write(level, &record.args().to_string());
    }

    fn flush(&self) {}
}
