//! What pictures have in common: colours, coordinates and axes. Their text is escaped by `maud`.

/// Custom properties with the colours, light and dark, for the style sheet of a picture or page.
pub(crate) const COLOURS: &str = include_str!("colours.css");

/// To a tenth of a pixel: more is seen by nobody.
pub(crate) fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Where an axis of counts ends: at 2, 4, 6, 8 or 10 times a power of ten, so that its half is whole.
pub(crate) fn axis_end(value: u64) -> u64 {
    let mut size: u64 = 1;
    while size.saturating_mul(10) <= value {
        size *= 10;
    }
    let steps = [2, 4, 6, 8, 10];
    let step = steps
        .iter()
        .find(|step| size.saturating_mul(**step) >= value);
    size.saturating_mul(*step.unwrap_or(&10))
}

/// The distance of grid lines: 1, 2 or 5 times a power of ten, four to ten of them.
pub(crate) fn tick(most: f64) -> f64 {
    let power = 10f64.powf((most / 4.0).log10().floor());
    [5.0, 2.0, 1.0]
        .into_iter()
        .map(|step| step * power)
        .find(|step| most / step >= 4.0)
        .unwrap_or(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_even_numbers() {
        assert_eq!(
            [1, 2, 3, 10, 11, 81, 100, 101].map(axis_end),
            [2, 2, 4, 20, 20, 100, 200, 200]
        );
    }

    #[test]
    fn grid_lines_are_round_and_few() {
        assert_eq!(tick(4.0), 1.0);
        assert_eq!(tick(35.0), 5.0);
        assert_eq!(tick(90.0), 20.0);
    }
}
