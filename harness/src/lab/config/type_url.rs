//! The names of messages in Envoy's API.

/// The `@type` of a message of Envoy's API, as in `extensions.filters.http.wasm.v3.Wasm`.
pub(crate) fn type_url(message: &str) -> String {
    format!("type.googleapis.com/envoy.{message}")
}
