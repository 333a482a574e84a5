//! What each filter adds to a request, as bars: an SVG file that needs nothing else.

use std::fmt::{self, Write};

use quick_xml::escape::escape;

use super::cells::{BASELINE, TrafficKind};
use super::results::Results;
use super::statistics::Spread;
use super::variants::Filter;

const WIDTH: f64 = 860.0;
const LABELS: f64 = 230.0;
const RIGHT: f64 = 70.0;
const TOP: f64 = 64.0;
const BAR: f64 = 18.0;
const STEP: f64 = 26.0;
const BOTTOM: f64 = 46.0;

/// The chart of a run.
pub fn svg(results: &Results) -> String {
    let bars: Vec<Bar> = results
        .measured
        .0
        .iter()
        .map(|series| series.cell)
        .filter(|cell| cell.traffic == TrafficKind::Direct && cell.filter != BASELINE)
        .filter_map(|cell| {
            let added = results.measured.added(cell.filter, cell.traffic)?;
            Some(Bar {
                label: cell.filter.to_string(),
                ours: matches!(cell.filter, Filter::Meridian { .. }),
                added: Spread::of(&added),
            })
        })
        .collect();
    let subtitle = format!(
        "{}, Envoy {}; HTTP/1.1, answered by Envoy; median, and the middle half of the rounds",
        results.machine.cpu,
        results.machine.envoy.split('/').nth(1).unwrap_or_default(),
    );
    let mut svg = String::new();
    // Writing to a String cannot fail.
    let _ = draw(&mut svg, &bars, &subtitle);
    svg
}

struct Bar {
    label: String,
    ours: bool,
    added: Spread,
}

fn draw(svg: &mut String, bars: &[Bar], subtitle: &str) -> fmt::Result {
    let height = TOP + STEP * bars.len() as f64 + BOTTOM;
    let most = bars.iter().map(|bar| bar.added.q3).fold(1.0, f64::max);
    let unit = tick(most);
    let scale = (WIDTH - LABELS - RIGHT) / most;
    let x = |value: f64| LABELS + value.max(0.0) * scale;
    writeln!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13" fill="#222">
<style>.ours{{fill:#2563eb}}.other{{fill:#9ca3af}}.grid{{stroke:#e5e7eb}}.range{{stroke:#111;stroke-width:1.5}}</style>
<rect width="100%" height="100%" fill="#fff"/>
<text x="16" y="24" font-size="16" font-weight="bold">What a filter adds to a request, µs of CPU time</text>
<text x="16" y="44" fill="#555">{}</text>"##,
        escape(subtitle)
    )?;
    let end = height - BOTTOM;
    let ticks = (most / unit).floor() as usize;
    for number in 0..=ticks {
        let value = unit * number as f64;
        let x = x(value);
        writeln!(
            svg,
            r#"<line class="grid" x1="{x:.1}" x2="{x:.1}" y1="{TOP}" y2="{end}"/><text x="{x:.1}" y="{:.1}" text-anchor="middle">{value}</text>"#,
            end + 18.0
        )?;
    }
    for (index, bar) in bars.iter().enumerate() {
        let y = TOP + STEP * index as f64 + (STEP - BAR) / 2.0;
        let middle = y + BAR / 2.0;
        let class = if bar.ours { "ours" } else { "other" };
        let Spread { q1, median, q3 } = bar.added;
        writeln!(
            svg,
            r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{}</text><rect class="{class}" x="{LABELS}" y="{y:.1}" width="{:.1}" height="{BAR}"/><line class="range" x1="{:.1}" x2="{:.1}" y1="{middle:.1}" y2="{middle:.1}"/><text x="{:.1}" y="{:.1}">{median:.1}</text>"#,
            LABELS - 8.0,
            middle + 4.5,
            escape(&bar.label),
            x(median) - LABELS,
            x(q1),
            x(q3),
            x(q3.max(median)) + 6.0,
            middle + 4.5,
        )?;
    }
    writeln!(svg, "</svg>")
}

/// The distance of grid lines: 1, 2 or 5 times a power of ten, four to ten of them.
fn tick(most: f64) -> f64 {
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
    fn grid_lines_are_round_and_few() {
        assert_eq!(tick(4.0), 1.0);
        assert_eq!(tick(35.0), 5.0);
        assert_eq!(tick(90.0), 20.0);
    }

    #[test]
    fn a_chart_is_well_formed_and_has_a_bar_for_each_filter() {
        let bar = |label: &str, median| Bar {
            label: label.to_owned(),
            ours: false,
            added: Spread {
                q1: median - 1.0,
                median,
                q3: median + 1.0,
            },
        };
        let mut svg = String::new();
        draw(&mut svg, &[bar("a<b", 3.0), bar("noise", -0.2)], "s").unwrap();
        let mut reader = quick_xml::Reader::from_str(&svg);
        let mut bars = 0;
        loop {
            match reader.read_event().unwrap() {
                quick_xml::events::Event::Empty(tag) => {
                    bars += usize::from(tag.attributes().flatten().any(|attribute| {
                        attribute.key.as_ref() == "class" && &*attribute.value == "other"
                    }));
                }
                quick_xml::events::Event::Eof => break,
                _ => {}
            }
        }
        assert_eq!(bars, 2);
        assert!(svg.contains("a&lt;b"));
        assert!(!svg.contains(r#"width="-"#), "{svg}");
    }
}
