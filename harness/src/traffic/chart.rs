//! The charts with axes: requests over time, and latencies.

use std::collections::BTreeMap;

use jiff::Timestamp;
use maud::{Markup, html};
use meridian_policy::Direction;

use super::model::{Second, Traffic, percentile};
use crate::svg::{axis_end, round};
use crate::text::numbers::thousands;
use crate::text::visible::visible;

/// How many columns there are at most.
const COLUMNS: i64 = 72;
/// What a column may stand for, in seconds.
const STEPS: [i64; 16] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 10_800, 43_200, 86_400,
];

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 56.0;
const BOTTOM: f64 = 26.0;

/// Requests over time by direction, stacked.
pub(super) fn over_time(traffic: &Traffic) -> Markup {
    let times = traffic.times();
    let (Some((first, _)), Some((last, _))) = (times.first_key_value(), times.last_key_value())
    else {
        return html! { p.empty { "the logs hold no times" } };
    };
    let (step, columns) = columns(times, *first, *last);
    let total = |second: &Second| second.directions.iter().sum::<u64>();
    let most = columns
        .iter()
        .map(|(_, second)| total(second))
        .max()
        .unwrap_or(1);
    let top = axis_end(most);
    let width = (WIDTH - LEFT) / columns.len() as f64;
    let tall = |count: u64| (HEIGHT - BOTTOM - 10.0) * count as f64 / top as f64;
    let floor = HEIGHT - BOTTOM;
    let stack = |second: &Second| {
        let mut y = floor;
        let parts = Direction::ALL
            .iter()
            .zip(second.directions)
            .map(|(direction, count)| {
                y -= tall(count);
                (direction.as_str(), round(y), round(tall(count)))
            });
        parts.collect::<Vec<_>>()
    };
    let every = step_name(step);
    html! {
        div.scroll tabindex="0" role="region" aria-label="Requests over time" {
            svg.chart viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-labelledby="time-title time-desc" {
                title #time-title { "Requests over time by direction" }
                desc #time-desc { "Stacked columns of " (every) " each, at most " (thousands(most)) " in one. The table below says the same." }
                @for part in [0, 1, 2] {
                    @let y = round(floor - tall(top * part / 2));
                    line.grid x1=(LEFT) x2=(WIDTH) y1=(y) y2=(y) {}
                    text.axis x=(LEFT - 8.0) y=(y + 4.0) text-anchor="end" { (thousands(top * part / 2)) }
                }
                @for (index, (start, second)) in columns.iter().enumerate() {
                    g {
                        title { (clock(*start)) ": " (words(second)) }
                        @for (class, y, height) in stack(second) {
                            @if height > 0.0 {
                                rect.{ "fill " (class) } x=(round(LEFT + width * index as f64 + 0.5)) y=(y)
                                    width=(round((width - 1.0).clamp(0.5, 60.0))) height=(height) {}
                            }
                        }
                        @if second.refused > 0 {
                            text.refused-mark x=(round(LEFT + width * index as f64 + (width / 2.0).min(30.0)))
                                y=(round(floor - tall(total(second)) - 2.0)) text-anchor="middle" { "✕" }
                        }
                    }
                }
                text.axis x=(LEFT) y=(HEIGHT - 6.0) { (clock(*first)) }
                text.axis x=(WIDTH) y=(HEIGHT - 6.0) text-anchor="end" { (clock(*last)) }
            }
        }
        p.note { "Columns of " (every) ", UTC. ✕ marks those in which something was refused." }
        details {
            summary { "Requests over time as a table" }
            div.scroll tabindex="0" role="region" aria-label="Requests over time as a table" {
                table {
                    thead { tr {
                        th scope="col" { "From (UTC)" }
                        @for direction in Direction::ALL { th.number scope="col" { (direction.as_str()) } }
                        th.number scope="col" { "refused" }
                    } }
                    tbody {
                        @for (start, second) in columns.iter().filter(|(_, second)| total(second) > 0) {
                            tr {
                                th scope="row" { (clock(*start)) }
                                @for count in second.directions { td.number { (thousands(count)) } }
                                td.number { (thousands(second.refused)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn columns(times: &BTreeMap<i64, Second>, first: i64, last: i64) -> (i64, Vec<(i64, Second)>) {
    let span = last.saturating_sub(first).saturating_add(1);
    let fits = STEPS.iter().find(|step| span / **step < COLUMNS);
    // Of a log over years, whole days.
    let step = fits
        .copied()
        .unwrap_or_else(|| (span / COLUMNS / 86_400 + 1) * 86_400);
    let start = first.div_euclid(step) * step;
    let count = (last - start) / step + 1;
    let mut columns: Vec<(i64, Second)> = (0..count)
        .map(|index| (start + index * step, Second::default()))
        .collect();
    for (second, counts) in times {
        let index = usize::try_from((second - start) / step).unwrap_or_default();
        if let Some((_, column)) = columns.get_mut(index) {
            for (sum, count) in column.directions.iter_mut().zip(counts.directions) {
                *sum += count;
            }
            column.refused += counts.refused;
        }
    }
    (step, columns)
}

fn words(second: &Second) -> String {
    let mut text: Vec<String> = Direction::ALL
        .iter()
        .zip(second.directions)
        .filter(|(_, count)| *count > 0)
        .map(|(direction, count)| format!("{} {}", thousands(count), direction.as_str()))
        .collect();
    if second.refused > 0 {
        text.push(format!("{} of them refused", thousands(second.refused)));
    }
    text.join(", ")
}

pub(super) fn clock(second: i64) -> String {
    let time = Timestamp::from_second(second).ok();
    time.map_or_else(String::new, |time| {
        time.strftime("%Y-%m-%d %H:%M:%S").to_string()
    })
}

fn step_name(seconds: i64) -> String {
    match seconds {
        seconds if seconds % 86_400 == 0 => format!("{} d", seconds / 86_400),
        seconds if seconds % 3600 == 0 => format!("{} h", seconds / 3600),
        seconds if seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

/// The 50th, 95th and 99th percentile of each reporter and direction.
pub(super) fn latencies(traffic: &Traffic) -> Markup {
    let rows: Vec<(&(String, String), [u64; 3], u64)> = traffic
        .durations
        .iter()
        .filter_map(|(key, counts)| {
            let at = |percent| percentile(counts, percent);
            Some((key, [at(50)?, at(95)?, at(99)?], counts.values().sum()))
        })
        .collect();
    if rows.is_empty() {
        return html! { p.empty { "the logs hold no durations" } };
    }
    let most = rows
        .iter()
        .map(|(_, at, _)| at[2])
        .max()
        .unwrap_or(1)
        .max(1);
    let x = |value: u64| round(6.0 + 188.0 * value as f64 / most as f64);
    html! {
        div.scroll tabindex="0" role="region" aria-label="Latencies" {
            table.bars {
                thead { tr {
                    th scope="col" { "Reporter" } th scope="col" { "Direction" }
                    th.number scope="col" { "p50 ms" } th.number scope="col" { "p95 ms" }
                    th.number scope="col" { "p99 ms" } th.number scope="col" { "of" }
                    th.bar aria-hidden="true" { "p50 │ p95 ○ p99 ●" }
                } }
                tbody {
                    @for ((reporter, direction), at, count) in &rows {
                        tr {
                            th scope="row" { (visible(reporter)) } td { (visible(direction)) }
                            @for value in at { td.number { (thousands(*value)) } }
                            td.number { (thousands(*count)) }
                            td.bar aria-hidden="true" {
                                svg viewBox="0 0 200 14" {
                                    line.{ "stroke " (direction_class(direction)) } x1=(x(at[0])) x2=(x(at[2])) y1="7" y2="7" {}
                                    line.{ "stroke " (direction_class(direction)) } x1=(x(at[0])) x2=(x(at[0])) y1="1" y2="13" {}
                                    circle.{ "hollow " (direction_class(direction)) } cx=(x(at[1])) cy="7" r="4" {}
                                    circle.{ "fill " (direction_class(direction)) } cx=(x(at[2])) cy="7" r="4" {}
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A direction's own word, never the log's.
fn direction_class(direction: &str) -> &'static str {
    Direction::ALL
        .iter()
        .map(|known| known.as_str())
        .find(|known| *known == direction)
        .unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_of_any_length_has_few_columns() {
        for (span, step) in [
            (0, 1),
            (59, 1),
            (72, 2),
            (3600, 60),
            (86_399, 1800),
            (400 * 86_400, 6 * 86_400),
        ] {
            let times = [(1000, Second::default()), (1000 + span, Second::default())].into();
            let (is, columns) = columns(&times, 1000, 1000 + span);
            assert_eq!(is, step, "{span}");
            assert!(columns.len() <= 73, "{span}: {}", columns.len());
        }
        // Times that a broken clock made.
        let (_, wide) = columns(&BTreeMap::new(), -62_135_596_800, 253_402_207_200);
        assert!(wide.len() <= 73, "{}", wide.len());
    }
}
