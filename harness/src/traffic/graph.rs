//! Who talks to whom: the hops of the logs joined to a graph.
//!
//! One request is logged by every proxy on its way. What two of them say of the same pair is one edge,
//! counted by the one that saw more of it, never twice.

use std::collections::{BTreeMap, BTreeSet};

use meridian_policy::{Direction, Vantage};

use super::model::Traffic;
use super::steps::{CLIENTS, NodeKey, Proxies};

/// Where on the way through the cluster a node stands, from left to right.
pub(super) const LAYERS: [&str; 5] = [
    "Outside clients",
    "Ingress gateways",
    "Workloads",
    "Egress gateways",
    "Outside hosts",
];

/// How many nodes of each layer are drawn; the rest is one node.
const SHOWN: [usize; 5] = [6, 6, 24, 6, 24];

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) layer: usize,
    pub(super) label: String,
    /// The namespace, or what else tells it apart; may be empty.
    pub(super) detail: String,
}

/// An edge: requests and connections from one node to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) direction: Direction,
    pub(super) count: u64,
    /// By rule; empty for what was allowed.
    pub(super) refused: BTreeMap<String, u64>,
    /// What a dry run would have refused, by rule.
    pub(super) would_deny: BTreeMap<String, u64>,
}

/// The map.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
    pub(super) edges: Vec<Edge>,
}

/// One reporter's word on an edge.
#[derive(Debug, Default)]
struct Seen {
    count: u64,
    refused: BTreeMap<String, u64>,
    would_deny: BTreeMap<String, u64>,
}

/// From, to, direction, whether refused.
type EdgeKey = (NodeKey, NodeKey, Direction, bool);

impl Graph {
    pub(super) fn of(traffic: &Traffic) -> Self {
        let proxies = Proxies::of(traffic);
        let mut edges: BTreeMap<EdgeKey, BTreeMap<Option<Vantage>, Seen>> = BTreeMap::new();
        for (hop, count) in &traffic.hops {
            for step in proxies.steps(hop) {
                let is_refused = step.decided && hop.refused.is_some();
                let key = (step.from, step.to, hop.direction, is_refused);
                let seen = edges
                    .entry(key)
                    .or_default()
                    .entry(hop.vantage)
                    .or_default();
                seen.count += count;
                if let Some(rule) = hop.refused.as_ref().filter(|_| is_refused) {
                    *seen.refused.entry(rule.clone()).or_default() += count;
                }
                if let Some(rule) = hop.would_deny.as_ref().filter(|_| step.decided) {
                    *seen.would_deny.entry(rule.clone()).or_default() += count;
                }
            }
        }
        let edges = edges.into_iter().filter_map(|(key, seen)| {
            let most = seen.into_values().max_by_key(|seen| seen.count)?;
            Some((key, most))
        });
        build(fold(edges.collect()))
    }
}

fn layer(key: &NodeKey) -> usize {
    match key {
        NodeKey::Outside | NodeKey::Unknown => CLIENTS,
        NodeKey::Place(layer, _) | NodeKey::Named(layer, _) | NodeKey::Others(layer) => *layer,
    }
}

/// What is left when the rare nodes are one.
struct Folded {
    edges: Vec<(EdgeKey, Seen)>,
    /// How many nodes of each layer are in the one.
    hidden: [usize; LAYERS.len()],
}

/// Makes one node of what is too much for a layer, by weight.
fn fold(edges: Vec<(EdgeKey, Seen)>) -> Folded {
    let mut weights: BTreeMap<NodeKey, u64> = BTreeMap::new();
    for ((from, to, _, _), seen) in &edges {
        *weights.entry(from.clone()).or_default() += seen.count;
        *weights.entry(to.clone()).or_default() += seen.count;
    }
    let mut folded = BTreeSet::new();
    let mut hidden = [0; 5];
    for (index, shown) in SHOWN.iter().enumerate() {
        let mut nodes: Vec<(&NodeKey, &u64)> = weights
            .iter()
            .filter(|(key, _)| layer(key) == index)
            .collect();
        if nodes.len() > *shown {
            // Stable, so that what is alike stays in the order of its name.
            nodes.sort_by_key(|(_, weight)| std::cmp::Reverse(**weight));
            hidden[index] = nodes.len() - shown;
            folded.extend(nodes[*shown..].iter().map(|(key, _)| (*key).clone()));
        }
    }
    let shown = |key: NodeKey| match folded.contains(&key) {
        true => NodeKey::Others(layer(&key)),
        false => key,
    };
    let mut merged: BTreeMap<EdgeKey, Seen> = BTreeMap::new();
    for ((from, to, direction, is_refused), seen) in edges {
        let into = merged
            .entry((shown(from), shown(to), direction, is_refused))
            .or_default();
        into.count += seen.count;
        for (rules, from) in [
            (&mut into.refused, seen.refused),
            (&mut into.would_deny, seen.would_deny),
        ] {
            for (rule, count) in from {
                *rules.entry(rule).or_default() += count;
            }
        }
    }
    Folded {
        edges: merged.into_iter().collect(),
        hidden,
    }
}

fn build(Folded { edges, hidden }: Folded) -> Graph {
    let keys: BTreeSet<&NodeKey> = edges
        .iter()
        .flat_map(|((from, to, _, _), _)| [from, to])
        .collect();
    let indices: BTreeMap<&NodeKey, usize> = keys.iter().copied().zip(0..).collect();
    let node = |key: &&NodeKey| {
        let (label, detail) = match key {
            NodeKey::Outside => ("outside".to_owned(), "clients".to_owned()),
            NodeKey::Unknown => ("unknown".to_owned(), "no evidence".to_owned()),
            NodeKey::Place(_, place) => (place.name.clone(), place.namespace.clone()),
            NodeKey::Named(_, name) => (name.clone(), String::new()),
            NodeKey::Others(layer) => (format!("{} others", hidden[*layer]), String::new()),
        };
        Node {
            layer: layer(key),
            label,
            detail,
        }
    };
    Graph {
        nodes: keys.iter().map(node).collect(),
        edges: edges
            .iter()
            .map(|((from, to, direction, _), seen)| Edge {
                from: indices[from],
                to: indices[to],
                direction: *direction,
                count: seen.count,
                refused: seen.refused.clone(),
                would_deny: seen.would_deny.clone(),
            })
            .collect(),
    }
}
