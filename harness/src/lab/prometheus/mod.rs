//! Reads the Prometheus text format, as scraped from an Envoy's admin, and OpenMetrics, which Istio's
//! agent may answer with.
//!
//! Strict: a line that the formats do not allow is an error, and a series that is there twice, because
//! what is read here is what the filters' metrics are judged by. Types, help texts and exemplars are
//! skipped, time stamps dropped.

mod histogram;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

pub use histogram::Histogram;

use anyhow::{Context, bail, ensure};

/// One line of a scrape.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The metric's name; for a histogram with its `_bucket`, `_sum` or `_count`.
    pub name: String,
    /// The labels, unescaped.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

impl Sample {
    /// True if every given label is here with that value; further labels may be here too.
    pub fn has_labels(&self, labels: &[(&str, &str)]) -> bool {
        labels
            .iter()
            .all(|(label, value)| self.labels.get(*label).is_some_and(|is| is == value))
    }
}

/// A scrape, in the order of its lines.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples {
    samples: Vec<Sample>,
}

impl Samples {
    /// Reads a whole scrape.
    ///
    /// # Errors
    /// At the first line that is neither a comment, nor empty, nor a sample, or is of a series that was
    /// there before; quotes the beginning of it.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        Self::read(text, None)
    }

    /// Reads a whole scrape that may be as long as somebody else likes.
    ///
    /// # Errors
    /// As [`Samples::parse`], or if it is not read at `deadline`.
    pub fn parse_until(text: &str, deadline: Instant) -> anyhow::Result<Self> {
        Self::read(text, Some(deadline))
    }

    fn read(text: &str, deadline: Option<Instant>) -> anyhow::Result<Self> {
        /// How many lines are read between two looks at the clock.
        const LINES: usize = 1024;
        let mut samples: Vec<Sample> = Vec::new();
        let mut series = BTreeSet::new();
        for (index, line) in text.lines().enumerate() {
            if index % LINES == 0
                && let Some(deadline) = deadline
            {
                ensure!(Instant::now() < deadline, "not read in time");
            }
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let sample = parse_sample(line).and_then(|sample| {
                let is_new = series.insert((sample.name.clone(), sample.labels.clone()));
                ensure!(is_new, "the series is there twice");
                Ok(sample)
            });
            samples.push(sample.with_context(|| {
                format!("line {} of the metrics: `{}`", index + 1, beginning(line))
            })?);
        }
        Ok(Self { samples })
    }

    /// Every sample.
    pub fn iter(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter()
    }

    /// The samples of that name that have at least these labels.
    pub fn find<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        self.samples
            .iter()
            .filter(move |sample| sample.name == name && sample.has_labels(labels))
    }

    /// The sum over the samples of that name that have at least these labels; 0 if there is none,
    /// as a counter that was never incremented is not scraped.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        // Not `sum`, whose neutral element is -0.0, which prints as "-0".
        self.find(name, labels)
            .fold(0.0, |sum, sample| sum + sample.value)
    }

    /// What has been counted since an `earlier` scrape of the same process: every value less its
    /// earlier one, or itself where it is new. Says nothing useful of gauges.
    #[must_use]
    pub fn since(&self, earlier: &Samples) -> Samples {
        let before: BTreeMap<_, f64> = earlier
            .iter()
            .map(|sample| ((&sample.name, &sample.labels), sample.value))
            .collect();
        let samples = self.iter().map(|sample| {
            let was = before.get(&(&sample.name, &sample.labels));
            Sample {
                value: sample.value - was.copied().unwrap_or(0.0),
                ..sample.clone()
            }
        });
        Samples {
            samples: samples.collect(),
        }
    }
}

/// Enough of a line to find it.
fn beginning(line: &str) -> String {
    const QUOTED: usize = 80;
    match line.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// `name{label="value",...} value [time stamp] [# exemplar]`, or `{"name",label="value",...} value ...`
fn parse_sample(line: &str) -> anyhow::Result<Sample> {
    let (name, labels, rest) = match line.strip_prefix("{\"") {
        Some(quoted) => {
            let (name, rest) = parse_quoted(quoted)?;
            let rest = rest.trim_start();
            let rest = rest.strip_prefix(',').unwrap_or(rest);
            let (labels, rest) = parse_labels(rest)?;
            (name, labels, rest)
        }
        None => {
            let (name, rest) = split_name(line, ":")?;
            let (labels, rest) = match rest.trim_start().strip_prefix('{') {
                Some(rest) => parse_labels(rest)?,
                None => (BTreeMap::new(), rest),
            };
            (name.to_owned(), labels, rest)
        }
    };
    let mut fields = rest.split_whitespace().take_while(|field| *field != "#");
    let value = fields.next().context("the value is missing")?;
    let value = value
        .parse()
        .with_context(|| format!("`{value}` is not a number"))?;
    if let Some(stamp) = fields.next() {
        stamp
            .parse::<f64>()
            .with_context(|| format!("`{stamp}` is not a time stamp"))?;
    }
    if let Some(more) = fields.next() {
        bail!("`{more}` follows the sample");
    }
    Ok(Sample {
        name,
        labels,
        value,
    })
}

/// Reads labels up to and with the closing brace; gives what follows it.
fn parse_labels(mut rest: &str) -> anyhow::Result<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start();
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok((labels, rest));
        }
        let (label, after) = match rest.strip_prefix('"') {
            Some(quoted) => parse_quoted(quoted)?,
            None => {
                let (label, after) = split_name(rest, "")?;
                (label.to_owned(), after)
            }
        };
        let after = after.trim_start();
        let after = after
            .strip_prefix('=')
            .and_then(|after| after.trim_start().strip_prefix('"'))
            .with_context(|| format!("`=\"` must follow the label `{label}`"))?;
        let (value, after) = parse_quoted(after)?;
        if labels.insert(label.clone(), value).is_some() {
            bail!("the label `{label}` is there twice");
        }
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(after) => after,
            None if after.starts_with('}') => after,
            None => bail!("`,` or `}}` must follow the value of the label `{label}`"),
        };
    }
}

/// Reads a label's value after its opening quote; gives what follows the closing one.
fn parse_quoted(text: &str) -> anyhow::Result<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[index + 1..])),
            '\\' => value.push(match characters.next() {
                Some((_, 'n')) => '\n',
                Some((_, escaped @ ('"' | '\\'))) => escaped,
                Some((_, other)) => bail!("`\\{other}` is no escape"),
                None => break,
            }),
            _ => value.push(character),
        }
    }
    bail!("a label's value has no closing quote")
}

/// Splits a metric's or label's name off: letters, digits, `_` and `further`, no digit first.
fn split_name<'a>(text: &'a str, further: &str) -> anyhow::Result<(&'a str, &'a str)> {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || further.contains(c)))
        .unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        bail!("a name must begin where `{}` begins", beginning(text));
    }
    Ok((name, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRAPE: &str = r#"
# HELP not read
# TYPE meridian_requests_total counter
meridian_requests_total{reporter="ingress",decision="allow",rule="storefront"} 3
meridian_requests_total{reporter="ingress",decision="allow",rule="default"} 2
meridian_requests_total{reporter="ingress",decision="deny",rule="default"} 1

# TYPE envoy_server_uptime gauge
envoy_server_uptime{} 7
envoy_latency_bucket{le="+Inf"} 4 1700000000000
ns:recorded 1.5e3
quiet NaN
odd{ text = "a\\b\"c\nd" , } -Inf
"#;

    #[test]
    fn values_are_summed_over_the_labels_that_are_not_asked_for() {
        let samples = Samples::parse(SCRAPE).unwrap();
        let name = "meridian_requests_total";
        let count = |labels: &[_]| samples.value(name, labels);
        assert_eq!(count(&[]), 6.0);
        assert_eq!(count(&[("decision", "allow")]), 5.0);
        assert_eq!(count(&[("decision", "allow"), ("rule", "default")]), 2.0);
        assert_eq!(count(&[("decision", "maybe")]).to_string(), "0");
        assert_eq!(samples.find(name, &[("rule", "default")]).count(), 2);
    }

    #[test]
    fn every_form_of_the_format_is_read() {
        let samples = Samples::parse(SCRAPE).unwrap();
        assert_eq!(samples.iter().count(), 8);
        assert_eq!(samples.value("envoy_server_uptime", &[]), 7.0);
        assert_eq!(
            samples.value("envoy_latency_bucket", &[("le", "+Inf")]),
            4.0
        );
        assert_eq!(samples.value("ns:recorded", &[]), 1500.0);
        assert!(samples.value("quiet", &[]).is_nan());
        let odd = samples.value("odd", &[("text", "a\\b\"c\nd")]);
        assert_eq!(odd, f64::NEG_INFINITY);
    }

    #[test]
    fn what_is_not_read_in_time_is_given_up() {
        let lines: String = (0..2000).map(|index| format!("a_{index} 1\n")).collect();
        let now = Instant::now();
        assert!(Samples::parse_until(&lines, now).is_err());
        let later = now + std::time::Duration::from_secs(60);
        assert_eq!(
            Samples::parse_until(&lines, later).unwrap().iter().count(),
            2000
        );
    }

    #[test]
    fn a_difference_counts_what_is_new_from_zero() {
        let before = Samples::parse("a{x=\"1\"} 2\n").unwrap();
        let after = Samples::parse("a{x=\"1\"} 5\na{x=\"2\"} 1\n").unwrap();
        let since = after.since(&before);
        assert_eq!(since.value("a", &[("x", "1")]), 3.0);
        assert_eq!(since.value("a", &[("x", "2")]), 1.0);
    }

    #[test]
    fn what_is_not_the_format_is_refused_with_its_line() {
        let refused = [
            ("a", "the value is missing"),
            ("a{x=\"1\"}", "the value is missing"),
            ("a one", "`one` is not a number"),
            ("a 1 soon", "`soon` is not a time stamp"),
            ("a 1 2 3", "`3` follows the sample"),
            ("1a 1", "a name must begin where `1a 1` begins"),
            ("a{x:y=\"1\"} 1", "`=\"` must follow the label `x`"),
            ("a{x=1} 1", "`=\"` must follow the label `x`"),
            ("a{x=\"1} 1", "a label's value has no closing quote"),
            ("a{x=\"\\t\"} 1", "`\\t` is no escape"),
            (
                "a{x=\"1\" y=\"2\"} 1",
                "`,` or `}` must follow the value of the label `x`",
            ),
            ("a{x=\"1\",x=\"2\"} 1", "the label `x` is there twice"),
        ];
        for (line, why) in refused {
            let error = Samples::parse(&format!("# comment\n{line}\n")).unwrap_err();
            let message = format!("{error:#}");
            assert!(
                message.starts_with(&format!("line 2 of the metrics: `{line}`: {why}")),
                "{message}"
            );
        }
    }
}
