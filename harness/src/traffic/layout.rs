//! Where the nodes of the map stand. The same graph is always drawn the same.

use super::graph::{Graph, LAYERS};

pub(super) const NODE_WIDTH: f64 = 168.0;
pub(super) const NODE_HEIGHT: f64 = 38.0;
/// From one node of a column to the next: as far as there is room, for few nodes.
const STEP: (f64, f64) = (54.0, 88.0);
/// How high the nodes of a column may stand before they move together.
const TALL: f64 = 640.0;
/// Above the columns, for their titles.
const TOP: f64 = 44.0;
/// At either side, for the edges that turn round.
const SIDE: f64 = 24.0;
/// How often the columns are ordered by their neighbours, there and back.
const SWEEPS: usize = 6;

/// The places of the nodes.
#[derive(Debug, PartialEq)]
pub(super) struct Layout {
    pub(super) width: f64,
    pub(super) height: f64,
    /// The upper left corner of each node.
    pub(super) nodes: Vec<(f64, f64)>,
    /// The column titles, and where they begin.
    pub(super) titles: Vec<(&'static str, f64)>,
}

impl Layout {
    pub(super) fn of(graph: &Graph) -> Self {
        let mut columns: Vec<Vec<usize>> = vec![Vec::new(); LAYERS.len()];
        for (index, node) in graph.nodes.iter().enumerate() {
            columns[node.layer].push(index);
        }
        let used: Vec<usize> = (0..LAYERS.len())
            .filter(|layer| !columns[*layer].is_empty())
            .collect();
        let mut columns: Vec<Vec<usize>> =
            used.iter().map(|layer| columns[*layer].clone()).collect();
        order(graph, &mut columns);

        let rows = columns.iter().map(Vec::len).max().unwrap_or(1).max(2);
        let step = (TALL / rows as f64).clamp(STEP.0, STEP.1);
        let height = TOP + rows as f64 * step + 8.0;
        let width = 1400.0;
        let gaps = columns.len().saturating_sub(1).max(1) as f64;
        let between = (width - 2.0 * SIDE - NODE_WIDTH) / gaps;
        let mut nodes = vec![(0.0, 0.0); graph.nodes.len()];
        let mut titles = Vec::new();
        for (column, members) in columns.iter().enumerate() {
            let x = SIDE + between * column as f64;
            titles.push((LAYERS[used[column]], x));
            let free = height - TOP - members.len() as f64 * step;
            for (row, index) in members.iter().enumerate() {
                let y = TOP + free / 2.0 + row as f64 * step + (step - NODE_HEIGHT) / 2.0;
                nodes[*index] = (x, y);
            }
        }
        Self {
            width,
            height,
            nodes,
            titles,
        }
    }
}

/// Orders each column by the mean place of its neighbours, so that few edges cross (the barycentre
/// rule of Sugiyama's method). Ties stay in the order of the names.
fn order(graph: &Graph, columns: &mut [Vec<usize>]) {
    let mut place = vec![0.0; graph.nodes.len()];
    let set = |place: &mut Vec<f64>, column: &[usize]| {
        for (row, index) in column.iter().enumerate() {
            place[*index] = (row as f64 + 0.5) / column.len() as f64;
        }
    };
    for column in columns.iter() {
        set(&mut place, column);
    }
    for sweep in 0..SWEEPS {
        let mut order: Vec<usize> = (0..columns.len()).collect();
        if sweep % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let column = &mut columns[index];
            let mean = |node: usize| {
                let neighbours = graph.edges.iter().filter_map(|edge| match edge {
                    edge if edge.from == node && edge.to != node => Some(place[edge.to]),
                    edge if edge.to == node && edge.from != node => Some(place[edge.from]),
                    _ => None,
                });
                let (sum, count) =
                    neighbours.fold((0.0, 0.0), |(sum, count), place| (sum + place, count + 1.0));
                if count > 0.0 {
                    sum / count
                } else {
                    place[node]
                }
            };
            let mut means: Vec<(f64, usize)> =
                column.iter().map(|node| (mean(*node), *node)).collect();
            means.sort_by(|a, b| a.0.total_cmp(&b.0));
            *column = means.into_iter().map(|(_, node)| node).collect();
            set(&mut place, column);
        }
    }
}
