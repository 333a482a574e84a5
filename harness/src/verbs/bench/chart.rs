//! What each filter adds to a request, as bars: an SVG file that needs nothing else.

use maud::{Markup, PreEscaped, html};

use super::cells::{BASELINE, TrafficKind};
use super::results::Results;
use super::statistics::Spread;
use super::variants::Filter;
use crate::svg::{COLOURS, round, tick};

const WIDTH: f64 = 860.0;
const LABELS: f64 = 230.0;
const RIGHT: f64 = 70.0;
const TOP: f64 = 64.0;
const BAR: f64 = 18.0;
const STEP: f64 = 26.0;
const BOTTOM: f64 = 46.0;

const STYLE: &str = "\
text { fill: var(--text); font: 13px system-ui, sans-serif; }
.title { font-size: 16px; font-weight: bold; } .quiet { fill: var(--quiet); } .page { fill: var(--page); }
.ours { fill: var(--north-south); fill-opacity: .6; } .other { fill: var(--unknown); fill-opacity: .6; }
.grid { stroke: var(--line); } .range { stroke: var(--text); stroke-width: 1.5; }
";

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
    draw(&bars, &subtitle).into_string() + "\n"
}

struct Bar {
    label: String,
    ours: bool,
    added: Spread,
}

fn draw(bars: &[Bar], subtitle: &str) -> Markup {
    let height = TOP + STEP * bars.len() as f64 + BOTTOM;
    let most = bars.iter().map(|bar| bar.added.q3).fold(1.0, f64::max);
    let unit = tick(most);
    let scale = (WIDTH - LABELS - RIGHT) / most;
    let x = |value: f64| round(LABELS + value.max(0.0) * scale);
    let end = height - BOTTOM;
    let ticks = (most / unit).floor() as usize;
    html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox={ "0 0 " (WIDTH) " " (height) } {
            style { (PreEscaped(format!("{COLOURS}{STYLE}"))) }
            rect.page width="100%" height="100%" {}
            text.title x="16" y="24" { "What a filter adds to a request, µs of CPU time" }
            text.quiet x="16" y="44" { (subtitle) }
            @for number in 0..=ticks {
                @let value = unit * number as f64;
                line.grid x1=(x(value)) x2=(x(value)) y1=(TOP) y2=(end) {}
                text x=(x(value)) y=(end + 18.0) text-anchor="middle" { (value) }
            }
            @for (index, bar) in bars.iter().enumerate() {
                @let y = TOP + STEP * index as f64 + (STEP - BAR) / 2.0;
                @let middle = y + BAR / 2.0;
                @let Spread { q1, median, q3 } = bar.added;
                text x=(LABELS - 8.0) y=(middle + 4.5) text-anchor="end" { (bar.label) }
                rect.(if bar.ours { "ours" } else { "other" }) x=(LABELS) y=(y)
                    width=(round(x(median) - LABELS)) height=(BAR) {}
                line.range x1=(x(q1)) x2=(x(q3)) y1=(middle) y2=(middle) {}
                text x=(x(q3.max(median)) + 6.0) y=(middle + 4.5) { (format!("{median:.1}")) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let svg = draw(&[bar("a<b", 3.0), bar("noise", -0.2)], "s").into_string();
        let mut reader = quick_xml::Reader::from_str(&svg);
        let mut bars = 0;
        loop {
            match reader.read_event().unwrap() {
                quick_xml::events::Event::Start(tag) => {
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
