//! Coordinates of the pictures.

/// To a tenth of a pixel: more is seen by nobody.
pub(super) fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
