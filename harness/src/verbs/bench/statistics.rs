//! Medians, quantiles and bootstrap intervals. Knows nothing of what the numbers mean.

/// How many times the rounds are drawn anew for an interval.
const RESAMPLES: usize = 2000;

/// An interval of confidence, 95 %.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The statistic of all rounds.
    pub value: f64,
    /// Where 2.5 % of the resampled statistics are below.
    pub low: f64,
    /// Where 2.5 % of them are above.
    pub high: f64,
}

/// Where the middle of some numbers is, and how wide.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// A quarter is below.
    pub q1: f64,
    /// Half is below.
    pub median: f64,
    /// A quarter is above.
    pub q3: f64,
}

impl Spread {
    /// The spread of `values`; NaN if there are none.
    pub fn of(values: &[f64]) -> Self {
        let sorted = sorted(values);
        Self {
            q1: quantile(&sorted, 0.25),
            median: quantile(&sorted, 0.5),
            q3: quantile(&sorted, 0.75),
        }
    }
}

/// The median of `values`; NaN if there are none.
pub fn median(values: &[f64]) -> f64 {
    quantile(&sorted(values), 0.5)
}

/// The quantile of ascending values, between two of them in proportion (R's type 7).
pub fn quantile(sorted: &[f64], at: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let position = at * last as f64;
    let below = position.floor();
    let index = below as usize;
    let lower = sorted[index];
    let upper = sorted[(index + 1).min(last)];
    lower + (upper - lower) * (position - below)
}

/// A statistic of `rounds` rounds with its percentile bootstrap interval: the rounds are drawn with
/// replacement, whole, so that what was measured in one round stays together.
///
/// `statistic` gets the numbers of the rounds drawn. The same `seed` gives the same interval.
pub fn bootstrap(rounds: usize, seed: u64, statistic: impl Fn(&[usize]) -> f64) -> Estimate {
    let all: Vec<usize> = (0..rounds).collect();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut drawn = all.clone();
    let mut resampled: Vec<f64> = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        for round in &mut drawn {
            *round = random.usize(0..rounds.max(1));
        }
        resampled.push(statistic(&drawn));
    }
    resampled.sort_unstable_by(f64::total_cmp);
    Estimate {
        value: statistic(&all),
        low: quantile(&resampled, 0.025),
        high: quantile(&resampled, 0.975),
    }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// The ratio of two medians, with its interval over the rounds.
pub fn ratio(above: &[f64], below: &[f64], seed: u64) -> Estimate {
    bootstrap(above.len().min(below.len()), seed, |drawn| {
        let take = |of: &[f64]| median(&drawn.iter().map(|round| of[*round]).collect::<Vec<_>>());
        take(above) / take(below)
    })
}

/// The median of a few values, from the least to the greatest: too few to draw from.
pub fn range(values: &[f64]) -> Estimate {
    Estimate {
        value: median(values),
        low: values.iter().copied().fold(f64::INFINITY, f64::min),
        high: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_the_values_in_proportion() {
        // R: quantile(c(1, 2, 3, 4, 10), c(.25, .5, .75)) and quantile(c(1, 2), .25)
        let spread = Spread::of(&[10.0, 2.0, 4.0, 1.0, 3.0]);
        assert_eq!((spread.q1, spread.median, spread.q3), (2.0, 3.0, 4.0));
        assert_eq!(quantile(&[1.0, 2.0], 0.25), 1.25);
        assert_eq!(quantile(&[7.0], 0.99), 7.0);
        assert!(median(&[]).is_nan());
        assert_eq!(median(&[1.0, 2.0, 3.0, 100.0]), 2.5);
    }

    #[test]
    fn the_interval_of_a_constant_is_that_constant() {
        let estimate = bootstrap(9, 1, |drawn| {
            assert_eq!(drawn.len(), 9);
            7.0
        });
        assert_eq!(
            (estimate.low, estimate.value, estimate.high),
            (7.0, 7.0, 7.0)
        );
    }

    #[test]
    fn the_interval_of_a_mean_is_the_textbook_s() {
        // 0 and 1 in turn, 100 of them: the mean's standard error is 0.05, the interval 0.5 ± 0.098.
        let mean = |drawn: &[usize]| {
            drawn.iter().map(|round| (round % 2) as f64).sum::<f64>() / drawn.len() as f64
        };
        let estimate = bootstrap(100, 42, mean);
        assert_eq!(estimate.value, 0.5);
        assert!((estimate.low - 0.402).abs() < 0.02, "{estimate:?}");
        assert!((estimate.high - 0.598).abs() < 0.02, "{estimate:?}");
        assert_eq!(bootstrap(100, 42, mean), estimate, "the seed decides");
        assert_ne!(bootstrap(100, 43, mean), estimate);
    }

    #[test]
    fn what_belongs_together_is_drawn_together() {
        // Each round is ten times as slow as the one before, numerator and denominator alike.
        let ours = [2.0, 20.0, 200.0, 2000.0];
        let theirs = [1.0, 10.0, 100.0, 1000.0];
        let ratio = |drawn: &[usize]| {
            let take =
                |of: &[f64]| median(&drawn.iter().map(|round| of[*round]).collect::<Vec<_>>());
            take(&ours) / take(&theirs)
        };
        let estimate = bootstrap(4, 3, ratio);
        assert_eq!(
            (estimate.low, estimate.value, estimate.high),
            (2.0, 2.0, 2.0)
        );
    }
}
