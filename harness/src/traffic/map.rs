//! The traffic map as SVG.

use std::collections::BTreeMap;

use maud::{Markup, PreEscaped, html};

use super::graph::{Edge, Graph, Node};
use super::layout::{Layout, NODE_HEIGHT, NODE_WIDTH};
use crate::svg::round;
use crate::text::numbers::thousands;
use crate::text::visible::visible;

/// Up to this many edges have their counts written beside them.
const LABELLED: usize = 40;
/// Up to this many refusals have their rules written beside them.
const RULES: usize = 16;

/// The picture and, for those who cannot see it or want the numbers, its table.
pub(super) fn map(graph: &Graph) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Traffic map" { (svg(graph, None)) }
        (table(graph))
    }
}

/// The picture alone; with a style sheet, a file of its own.
pub(super) fn svg(graph: &Graph, style: Option<&str>) -> Markup {
    let layout = Layout::of(graph);
    let most = graph.edges.iter().map(|edge| edge.count).max().unwrap_or(1);
    let curves = curves(graph, &layout);
    let refusals = graph.edges.iter().filter(|e| !e.refused.is_empty()).count();
    let view = format!("0 0 {} {}", layout.width, layout.height);
    html! {
        svg.map xmlns="http://www.w3.org/2000/svg" viewBox=(view) role="img" aria-labelledby="map-title map-desc" {
            title #map-title { "Who talks to whom" }
            desc #map-desc {
                (graph.nodes.len()) " parties and " (graph.edges.len())
                " edges between them, from outside clients at the left to outside hosts at the right."
            }
            @if let Some(style) = style {
                style { (PreEscaped(format!("<![CDATA[{style}]]>"))) }
            }
            defs {
                (arrow("north-south", "M0 0 L10 5 L0 10 z"))
                (arrow("east-west", "M0 0 L10 5 L0 10 L3 5 z"))
                (arrow("unknown", "M0 2 L10 5 L0 8 z"))
                (arrow("refused", "M0 0 L10 5 L0 10 z"))
            }
            @for (title, x) in &layout.titles {
                text.layer x=(x) y="20" { (title) }
            }
            // Refusals last, so that nothing hides them.
            @for is_refused in [false, true] {
                @for (edge, curve) in graph.edges.iter().zip(&curves) {
                    @if edge.refused.is_empty() != is_refused {
                        (draw_edge(graph, edge, curve, most))
                    }
                }
            }
            @for (node, at) in graph.nodes.iter().zip(&layout.nodes) { (draw_node(node, *at)) }
            // Above the nodes: a label must be readable wherever its edge leads.
            @for (edge, curve) in graph.edges.iter().zip(&curves) {
                (label(edge, curve, graph.edges.len() <= LABELLED, refusals <= RULES))
            }
        }
    }
}

fn draw_node(node: &Node, (x, y): (f64, f64)) -> Markup {
    html! {
        g.node.{ "layer-" (node.layer) } transform={ "translate(" (round(x)) " " (round(y)) ")" } {
            title { (full(node)) }
            rect width=(NODE_WIDTH) height=(NODE_HEIGHT) rx="6" {}
            @if node.detail.is_empty() {
                text x="10" y="23" { (short(&node.label)) }
            } @else {
                text x="10" y="17" { (short(&node.label)) }
                text.detail x="10" y="31" { (short(&node.detail)) }
            }
        }
    }
}

fn full(node: &Node) -> String {
    match node.detail.as_str() {
        "" => visible(&node.label),
        detail => format!("{} ({})", visible(&node.label), visible(detail)),
    }
}

/// What fits into a node.
fn short(text: &str) -> String {
    const FITS: usize = 22;
    let text = visible(text);
    match text.chars().count() > FITS {
        true => text.chars().take(FITS - 1).chain(['…']).collect(),
        false => text,
    }
}

fn arrow(class: &str, path: &str) -> Markup {
    html! {
        marker #{ "arrow-" (class) } viewBox="0 0 10 10" refX="9" refY="5" markerWidth="9" markerHeight="9"
            markerUnits="userSpaceOnUse" orient="auto" {
            path.{ "head " (class) } d=(path) {}
        }
    }
}

/// A cubic Bézier curve: its four points.
type Curve = [(f64, f64); 4];

fn curves(graph: &Graph, layout: &Layout) -> Vec<Curve> {
    // Several edges between the same two are drawn beside each other.
    let mut pairs: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
    for (index, edge) in graph.edges.iter().enumerate() {
        let pair = (edge.from.min(edge.to), edge.from.max(edge.to));
        pairs.entry(pair).or_default().push(index);
    }
    let mut curves = vec![[(0.0, 0.0); 4]; graph.edges.len()];
    for indices in pairs.values() {
        for (nth, index) in indices.iter().enumerate() {
            let edge = &graph.edges[*index];
            let gaps = (indices.len() - 1) as f64;
            let apart = (0.8 * NODE_HEIGHT / gaps.max(1.0)).min(18.0);
            let aside = (nth as f64 - gaps / 2.0) * apart;
            curves[*index] = curve(layout.nodes[edge.from], layout.nodes[edge.to], aside);
        }
    }
    curves
}

fn curve(from: (f64, f64), to: (f64, f64), aside: f64) -> Curve {
    let middle = |(x, y): (f64, f64)| (x, y + NODE_HEIGHT / 2.0 + aside);
    let (from, to) = (middle(from), middle(to));
    if from.0 == to.0 {
        // Within a column, round its right side; a call to itself is a small loop.
        let (start, end) = (from.0 + NODE_WIDTH, to.0 + NODE_WIDTH);
        // Beside the middle, where edges to the next column begin.
        let port = if from.1 > to.1 { -11.0 } else { 11.0 };
        let (leave, arrive) = match from.1 == to.1 {
            true => (from.1 - 11.0, to.1 + 11.0),
            false => (from.1 + port, to.1 - port),
        };
        // Not as far as the next column.
        let out = (46.0 + (from.1 - to.1).abs() * 0.14 + aside.abs()).min(140.0);
        return [
            (start, leave),
            (start + out, leave),
            (end + out, arrive),
            (end, arrive),
        ];
    }
    let (start, end) = match from.0 < to.0 {
        true => (from.0 + NODE_WIDTH, to.0),
        false => (from.0, to.0 + NODE_WIDTH),
    };
    let bend = (end - start) * 0.5;
    [
        (start, from.1),
        (start + bend, from.1),
        (end - bend, to.1),
        (end, to.1),
    ]
}

fn point(curve: &Curve, t: f64) -> (f64, f64) {
    let u = 1.0 - t;
    let weights = [u * u * u, 3.0 * u * u * t, 3.0 * u * t * t, t * t * t];
    weights
        .iter()
        .zip(curve)
        .fold((0.0, 0.0), |(x, y), (weight, at)| {
            (x + weight * at.0, y + weight * at.1)
        })
}

fn draw_edge(graph: &Graph, edge: &Edge, curve: &Curve, most: u64) -> Markup {
    let [a, b, c, d] = curve.map(|(x, y)| format!("{} {}", round(x), round(y)));
    // By the root, so that a rare edge stays visible beside a frequent one.
    let widest = if graph.edges.len() > LABELLED {
        3.0
    } else {
        5.0
    };
    let width = 1.25 + widest * (edge.count as f64 / most.max(1) as f64).sqrt();
    let class = class(edge);
    html! {
        g.edge.(class) {
            title { (sentence(graph, edge)) }
            path.halo d={ "M" (a) " C" (b) " " (c) " " (d) } {}
            path.line d={ "M" (a) " C" (b) " " (c) " " (d) } stroke-width=(round(width))
                marker-end={ "url(#arrow-" (class) ")" } {}
        }
    }
}

fn label(edge: &Edge, curve: &Curve, with_count: bool, with_rule: bool) -> Markup {
    let (start, end) = (curve[0].0, curve[3].0);
    // Away from where edges of one node run together, and from nodes that lie between.
    let at = match edge.refused.is_empty() {
        _ if start == end => 0.28,
        _ if (end - start).abs() > 2.0 * NODE_WIDTH => 0.86,
        true => 0.4,
        false => 0.52,
    };
    let (x, y) = point(curve, at);
    let text = match edge.refused.keys().next() {
        None if !with_count => return html! {},
        None => thousands(edge.count),
        Some(rule) if with_rule => {
            let more = match edge.refused.len() {
                1 => String::new(),
                rules => format!(" +{}", rules - 1),
            };
            format!("✕ {}{more}: {}", short(rule), thousands(edge.count))
        }
        Some(_) => "✕".to_owned(),
    };
    // Below its line, where the label of what was allowed beside it stands above.
    let y = if edge.refused.is_empty() {
        y - 4.0
    } else {
        y + 14.0
    };
    html! {
        text.label.(class(edge)) x=(round(x)) y=(round(y)) text-anchor="middle" aria-hidden="true" { (text) }
    }
}

fn class(edge: &Edge) -> &'static str {
    match edge.refused.is_empty() {
        true => edge.direction.as_str(),
        false => "refused",
    }
}

fn sentence(graph: &Graph, edge: &Edge) -> String {
    let name = |index: usize| full(&graph.nodes[index]);
    let mut text = format!(
        "{} → {}: {} {}, {}",
        name(edge.from),
        name(edge.to),
        thousands(edge.count),
        edge.direction.as_str(),
        match edge.refused.is_empty() {
            true => "allowed".to_owned(),
            false => format!("REFUSED by {}", rules(&edge.refused)),
        }
    );
    if !edge.would_deny.is_empty() {
        text.push_str(&format!(
            "; a dry run would refuse by {}",
            rules(&edge.would_deny)
        ));
    }
    text
}

fn rules(rules: &BTreeMap<String, u64>) -> String {
    let rules = rules
        .iter()
        .map(|(rule, count)| format!("{} ({})", visible(rule), thousands(*count)));
    rules.collect::<Vec<_>>().join(", ")
}

fn table(graph: &Graph) -> Markup {
    let mut edges: Vec<&Edge> = graph.edges.iter().collect();
    edges.sort_by_key(|edge| (edge.refused.is_empty(), std::cmp::Reverse(edge.count)));
    let name = |index: usize| full(&graph.nodes[index]);
    html! {
        details {
            summary { "The map as a table" }
            div.scroll tabindex="0" role="region" aria-label="The map as a table" {
                table {
                    thead { tr {
                        th scope="col" { "From" } th scope="col" { "To" } th scope="col" { "Direction" }
                        th scope="col" { "Decision" } th.number scope="col" { "Count" }
                        th scope="col" { "Refused by" } th scope="col" { "A dry run would refuse by" }
                    } }
                    tbody {
                        @for edge in edges {
                            tr {
                                td { (name(edge.from)) } td { (name(edge.to)) }
                                td { (edge.direction.as_str()) }
                                td { @if edge.refused.is_empty() { "allowed" } @else { strong { "refused" } } }
                                td.number { (thousands(edge.count)) }
                                td { (rules(&edge.refused)) } td { (rules(&edge.would_deny)) }
                            }
                        }
                    }
                }
            }
        }
    }
}
