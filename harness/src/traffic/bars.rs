//! Horizontal bars with their numbers beside them. They are a table, so that no other is needed.

use maud::{Markup, html};

use crate::svg::round;
use crate::text::numbers::thousands;
use crate::text::visible::visible;

/// How many bars are drawn; the rest is one line.
const SHOWN: usize = 15;

/// One bar: what it is of, beside which word, and its parts by class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) detail: String,
    /// CSS class, word and count.
    pub(super) parts: Vec<(&'static str, &'static str, u64)>,
}

impl Bar {
    fn total(&self) -> u64 {
        self.parts.iter().map(|(_, _, count)| count).sum()
    }
}

/// The chart. `head` names the label and the detail.
pub(super) fn bars(head: [&str; 2], mut bars: Vec<Bar>, empty: &str) -> Markup {
    if bars.is_empty() {
        return html! { p.empty { (empty) } };
    }
    bars.sort_by_key(|bar| std::cmp::Reverse(bar.total()));
    let most = bars.first().map_or(1, Bar::total).max(1);
    let hidden = bars.len().saturating_sub(SHOWN);
    let words: Vec<&str> = bars[0].parts.iter().map(|(_, word, _)| *word).collect();
    html! {
        div.scroll tabindex="0" role="region" aria-label=(head[0]) {
            table.bars {
                thead { tr {
                    th scope="col" { (head[0]) } th scope="col" { (head[1]) }
                    @for word in &words { th.number scope="col" { (word) } }
                    th.bar aria-hidden="true" {}
                } }
                tbody {
                    @for bar in bars.iter().take(SHOWN) {
                        tr {
                            th scope="row" { (visible(&bar.label)) }
                            td { (visible(&bar.detail)) }
                            @for (_, _, count) in &bar.parts { td.number { (thousands(*count)) } }
                            td.bar aria-hidden="true" { (draw(bar, most)) }
                        }
                    }
                }
            }
        }
        @if hidden > 0 { p.empty { "and " (hidden) " more" } }
    }
}

fn draw(bar: &Bar, most: u64) -> Markup {
    let mut from = 0.0;
    let parts = bar.parts.iter().map(|(class, _, count)| {
        let width = 200.0 * *count as f64 / most as f64;
        let start = from;
        from += width;
        (*class, round(start), round(width))
    });
    html! {
        svg viewBox="0 0 200 12" preserveAspectRatio="none" {
            @for (class, start, width) in parts.filter(|(_, _, width)| *width > 0.0) {
                rect.{ "fill " (class) } x=(start) y="1" width=(width) height="10" {}
            }
        }
    }
}
