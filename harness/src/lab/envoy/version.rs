//! The Envoy that Meridian is tested with.

/// The version that is downloaded, and whose `major.minor` an `envoy` on the PATH must have.
pub const VERSION: &str = "1.40.0";
