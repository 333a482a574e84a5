//! A warning has the form of an error.

use meridian_policy::ConfigError;

/// What is said of the place at `path`, and what to do about it.
pub(super) fn warning(
    path: impl Into<String>,
    message: impl Into<String>,
    hint: &str,
) -> ConfigError {
    ConfigError {
        path: path.into(),
        message: message.into(),
        hint: hint.to_owned(),
    }
}
