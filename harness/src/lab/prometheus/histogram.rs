//! Quantiles of a classic histogram, estimated as Prometheus does.

/// A histogram's cumulative buckets, which any number of series may be added to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    /// Upper bound (`le`) and how many observations are at or below it; bounds are different.
    buckets: Vec<(f64, f64)>,
}

impl Histogram {
    /// Adds `count` to the bucket with the upper bound `le`. NaN is no bound and is passed over.
    pub fn add(&mut self, le: f64, count: f64) {
        if le.is_nan() || count.is_nan() {
            return;
        }
        match self.buckets.iter_mut().find(|(bound, _)| *bound == le) {
            Some((_, sum)) => *sum += count,
            None => self.buckets.push((le, count)),
        }
    }

    /// How many observations there are: the count of the bucket `+Inf`, 0 without one.
    pub fn count(&self) -> f64 {
        self.buckets
            .iter()
            .find(|(le, _)| *le == f64::INFINITY)
            .map_or(0.0, |(_, count)| *count)
    }

    /// The `q`-quantile (0 to 1) by linear interpolation within its bucket, as `histogram_quantile`
    /// of Prometheus has it: the first bucket begins at 0, and what lies in `+Inf` is said to be at
    /// the highest other bound. Counts that fall from one bucket to the next are raised.
    ///
    /// `None` without observations, without a bucket `+Inf`, or with no other.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let mut buckets = self.buckets.clone();
        buckets.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let (last, finite) = buckets.split_last_mut()?;
        if last.0 != f64::INFINITY || finite.is_empty() {
            return None;
        }
        let mut highest = 0.0_f64;
        for (_, count) in finite.iter_mut().chain([&mut *last]) {
            highest = highest.max(*count);
            *count = highest;
        }
        if highest <= 0.0 {
            return None;
        }
        let rank = q.clamp(0.0, 1.0) * highest;
        let Some(index) = finite.iter().position(|(_, count)| *count >= rank) else {
            return finite.last().map(|(le, _)| *le);
        };
        let (end, count) = finite[index];
        if index == 0 && end <= 0.0 {
            return Some(end);
        }
        let (start, below) = match index {
            0 => (0.0, 0.0),
            _ => finite[index - 1],
        };
        // An empty bucket is only reached with a rank of 0.
        let within = match count - below {
            0.0 => 0.0,
            within => (rank - below) / within,
        };
        Some(start + (end - start) * within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(buckets: &[(f64, f64)]) -> Histogram {
        let mut histogram = Histogram::default();
        for (le, count) in buckets {
            histogram.add(*le, *count);
        }
        histogram
    }

    /// `testhistogram` and its quantiles in Prometheus's promql/promqltest/testdata/histograms.test.
    #[test]
    fn quantiles_are_those_of_prometheus() {
        let inf = f64::INFINITY;
        let positive = histogram(&[(0.1, 5.0), (0.2, 7.0), (1e0, 9.0), (inf, 10.0)]);
        let three = histogram(&[(0.1, 50.0), (0.2, 70.0), (1e0, 90.0), (inf, 100.0)]);
        let negative = histogram(&[(-0.2, 1.0), (-0.1, 2.0), (0.3, 2.0), (inf, 3.0)]);
        let cases = [
            (&positive, 0.0, 0.0),
            (&positive, 0.2, 0.04),
            (&positive, 0.5, 0.1),
            (&positive, 0.8, 0.6),
            (&positive, 1.0, 1.0),
            (&three, 0.2, 0.04),
            (&three, 0.8, 0.6),
            (&negative, 0.2, -0.2),
            (&negative, 0.5, -0.15),
            (&negative, 0.8, 0.3),
        ];
        for (histogram, q, expected) in cases {
            let quantile = histogram.quantile(q).unwrap();
            assert!((quantile - expected).abs() < 1e-9, "{q}: {quantile}");
        }
    }

    #[test]
    fn there_is_no_quantile_without_observations_or_bounds() {
        let inf = f64::INFINITY;
        for buckets in [
            &[][..],
            &[(1.0, 2.0), (2.0, 3.0)],
            &[(inf, 4.0)],
            &[(1.0, 0.0), (inf, 0.0)],
            &[(f64::NAN, 4.0), (inf, 4.0)],
        ] {
            assert_eq!(histogram(buckets).quantile(0.5), None, "{buckets:?}");
        }
    }

    #[test]
    fn series_add_up_and_falling_counts_are_raised() {
        let inf = f64::INFINITY;
        let mut sum = histogram(&[(inf, 2.0), (10.0, 2.0), (20.0, 2.0)]);
        assert_eq!(sum.quantile(0.5), Some(5.0));
        for (le, count) in [(10.0, 0.0), (20.0, 2.0), (inf, 2.0)] {
            sum.add(le, count);
        }
        assert_eq!(sum.count(), 4.0);
        assert_eq!(sum.quantile(0.75), Some(15.0));
        let fallen = histogram(&[(10.0, 4.0), (20.0, 3.0), (inf, 4.0)]);
        assert_eq!(fallen.quantile(1.0), Some(10.0));
    }
}
