//! The sections of the view as tables of text, for the terminal and for a file alike.

use std::collections::BTreeSet;

use super::snapshot::{Counted, FlowCounts, Latency, ProxyState, Snapshot};
use crate::text::visible::visible;

/// What the rows of a section are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Rate,
    Count,
    Name,
}

impl Sort {
    pub(super) const ALL: [Self; 3] = [Self::Rate, Self::Count, Self::Name];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Count => "count",
            Self::Name => "name",
        }
    }
}

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) title: &'static str,
    /// Numbers stand at the right.
    pub(super) is_number: bool,
}

/// A section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) title: &'static str,
    /// The title where there is little room.
    pub(super) short: &'static str,
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Row>,
    /// What stands there instead of no rows.
    pub(super) empty: &'static str,
}

/// A row, safe to print: every cell that a proxy had a say in is escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) cells: Vec<String>,
    /// It says that something is wrong; in words, too.
    pub(super) is_bad: bool,
}

/// A metric that the policy may have left out.
const NOT_MEASURED: &str = "none counted; the policy may leave this metric out";

/// Requests by flow: the section that is always there.
pub(super) fn traffic(snapshot: &Snapshot) -> Table {
    let row = |traffic: &FlowCounts| {
        let mut cells = vec![
            traffic.flow.to_owned(),
            visible(&traffic.reporter),
            count(traffic.requests),
            rate(traffic.rate),
            count(traffic.denied),
            count(traffic.application),
            count(traffic.system),
        ];
        cells.extend(latency(&traffic.latency));
        Row {
            cells,
            is_bad: false,
        }
    };
    Table {
        title: "Traffic",
        short: "Traffic",
        columns: columns("flow|reporter|>requests|>/s|>denied|>app|>system|>p50|>p95|>p99 ms|of"),
        rows: snapshot.traffic.iter().map(row).collect(),
        empty: "no request was counted yet",
    }
}

/// The other sections, in their order.
pub(super) fn sections(snapshot: &Snapshot, sort: Sort) -> Vec<Table> {
    let by_rule = |title, rows: &[Counted], empty| Table {
        title,
        short: title,
        columns: columns("rule|reporter|direction|>count|>/s|of"),
        rows: sorted(rows, sort, |row| {
            vec![
                visible(&row.rule),
                visible(&row.reporter),
                visible(&row.direction),
                count(row.count),
                rate(row.rate),
                row.of.to_owned(),
            ]
        }),
        empty,
    };
    let mut dry_run = by_rule(
        "Dry run would deny",
        &snapshot.dry_run,
        "no dry run would have refused anything",
    );
    dry_run.short = "Dry run";
    dry_run.columns.pop();
    for row in &mut dry_run.rows {
        row.cells.pop();
    }
    vec![
        by_rule("Refusals", &snapshot.refusals, "nothing was refused"),
        dry_run,
        responses(snapshot, sort),
        Table {
            title: "Connections",
            short: "Connections",
            columns: columns("rule|reporter|direction|decision|>count|>/s"),
            rows: sorted(&snapshot.connections, sort, |row| {
                vec![
                    visible(&row.rule),
                    visible(&row.reporter),
                    visible(&row.direction),
                    visible(&row.decision),
                    count(row.count),
                    rate(row.rate),
                ]
            }),
            empty: "no connection of TLS passthrough or plain TCP was counted",
        },
        Table {
            title: "Egress callers",
            short: "Callers",
            columns: columns("namespace|reporter|direction|decision|>count|>/s"),
            rows: sorted(&snapshot.callers, sort, |row| {
                vec![
                    visible(&row.source_namespace),
                    visible(&row.reporter),
                    visible(&row.direction),
                    visible(&row.decision),
                    count(row.count),
                    rate(row.rate),
                ]
            }),
            empty: NOT_MEASURED,
        },
        proxies(snapshot),
    ]
}

fn responses(snapshot: &Snapshot, sort: Sort) -> Table {
    const USUAL: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
    let seen: BTreeSet<&str> = snapshot
        .responses
        .iter()
        .flat_map(|row| row.classes.keys().map(String::as_str))
        .collect();
    let has_other = seen.iter().any(|class| !USUAL.contains(class));
    let mut titles = columns("reporter|direction|>1xx|>2xx|>3xx|>4xx|>5xx|>other|>/s");
    titles.retain(|column| match column.title {
        "other" => has_other,
        "1xx" => seen.contains("1xx"),
        _ => true,
    });
    let mut rows: Vec<_> = snapshot.responses.iter().collect();
    let total = |row: &super::snapshot::Responses| row.classes.values().sum::<f64>();
    match sort {
        Sort::Rate => rows.sort_by(|a, b| b.rate.total_cmp(&a.rate)),
        Sort::Count => rows.sort_by(|a, b| total(b).total_cmp(&total(a))),
        Sort::Name => {}
    }
    let rows = rows.into_iter().map(|row| {
        let cell = |column: &Column| match column.title {
            "reporter" => visible(&row.reporter),
            "direction" => visible(&row.direction),
            "/s" => rate(row.rate),
            "other" => {
                let others = row.classes.iter();
                let others = others.filter(|(class, _)| !USUAL.contains(&class.as_str()));
                count(others.map(|(_, count)| count).sum())
            }
            class => count(row.classes.get(class).copied().unwrap_or(0.0)),
        };
        Row {
            cells: titles.iter().map(cell).collect(),
            is_bad: false,
        }
    });
    Table {
        title: "Responses",
        short: "Responses",
        rows: rows.collect(),
        columns: titles,
        empty: NOT_MEASURED,
    }
}

fn proxies(snapshot: &Snapshot) -> Table {
    let row = |proxy: &ProxyState| {
        let state = match &proxy.error {
            Some(error) => format!("{}: {}", proxy.problem, visible(error)),
            None if proxy.differs => "POLICY DIFFERS".to_owned(),
            None if proxy.restarts > 0 => format!("ok, {} restarts seen", proxy.restarts),
            None => "ok".to_owned(),
        };
        let rules: f64 = proxy.rules.values().sum();
        let is_known = !proxy.rules.is_empty();
        Row {
            cells: vec![
                visible(&proxy.address),
                visible(&join(&proxy.reporters)),
                join(&proxy.revisions),
                if is_known {
                    count(rules)
                } else {
                    "-".to_owned()
                },
                rate(proxy.rate),
                state,
            ],
            is_bad: proxy.error.is_some() || proxy.differs,
        }
    };
    Table {
        title: "Proxies",
        short: "Proxies",
        columns: columns("address|reporters|policy|>rules|>/s|state"),
        rows: snapshot.proxies.iter().map(row).collect(),
        empty: "no proxies",
    }
}

/// `name|>number|…`
fn columns(titles: &'static str) -> Vec<Column> {
    let column = |title: &'static str| match title.strip_prefix('>') {
        Some(title) => Column {
            title,
            is_number: true,
        },
        None => Column {
            title,
            is_number: false,
        },
    };
    titles.split('|').map(column).collect()
}

fn sorted(rows: &[Counted], sort: Sort, cells: impl Fn(&Counted) -> Vec<String>) -> Vec<Row> {
    let mut rows: Vec<&Counted> = rows.iter().collect();
    let name = |row: &Counted| (row.rule.clone(), row.source_namespace.clone());
    rows.sort_by(|a, b| match sort {
        Sort::Rate => (b.rate, b.count)
            .partial_cmp(&(a.rate, a.count))
            .unwrap_or(std::cmp::Ordering::Equal),
        Sort::Count => b.count.total_cmp(&a.count),
        Sort::Name => name(a).cmp(&name(b)),
    });
    let rows = rows.into_iter().map(|row| Row {
        is_bad: false,
        cells: cells(row),
    });
    rows.collect()
}

fn join(words: &[String]) -> String {
    match words {
        [] => "-".to_owned(),
        words => words.join(","),
    }
}

/// A count: whole below a million, then with a unit, and short whatever it is.
fn count(value: f64) -> String {
    if value >= 1e15 {
        return format!("{value:.1e}");
    }
    let units = [(1e12, "T"), (1e9, "G"), (1e6, "M")];
    match units.iter().find(|(size, _)| value >= *size) {
        Some((size, unit)) => format!("{:.2}{unit}", value / size),
        None => format!("{value:.0}"),
    }
}

fn rate(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        value if value < 100.0 => format!("{value:.1}"),
        value => count(value),
    }
}

fn latency(latency: &Latency) -> [String; 4] {
    let cell = |value: Option<f64>| match value {
        None => "-".to_owned(),
        Some(value) if value < 10.0 => format!("{value:.1}"),
        Some(value) => count(value),
    };
    let of = match (latency.p50, latency.recent) {
        (None, _) => "-",
        (_, true) => "1m",
        (_, false) => "all",
    };
    [
        cell(latency.p50),
        cell(latency.p95),
        cell(latency.p99),
        of.to_owned(),
    ]
}

/// The whole snapshot as plain text, at most `limit` rows a section.
pub(super) fn plain(snapshot: &Snapshot, limit: usize) -> String {
    let mut text = String::new();
    let tables = [traffic(snapshot)]
        .into_iter()
        .chain(sections(snapshot, Sort::Count));
    for table in tables {
        if !text.is_empty() {
            text.push('\n');
        }
        plain_table(&mut text, &table, limit);
    }
    if snapshot.settled > 0 {
        text.push_str(&format!(
            "\n{} series have not moved since the policy changed and are left out; --all shows them\n",
            snapshot.settled
        ));
    }
    text
}

fn plain_table(text: &mut String, table: &Table, limit: usize) {
    text.push_str(table.title);
    text.push('\n');
    if table.rows.is_empty() {
        text.push_str(&format!("  {}\n", table.empty));
        return;
    }
    // These are not ranked, so that no row can be left out.
    let limit = match table.title {
        "Traffic" | "Proxies" => usize::MAX,
        _ => limit,
    };
    let shown = &table.rows[..table.rows.len().min(limit)];
    let widths = widths(table);
    let titles = table.columns.iter().map(|column| column.title.to_owned());
    let lines = [titles.collect::<Vec<_>>()];
    for cells in lines.iter().chain(shown.iter().map(|row| &row.cells)) {
        let mut line = String::from(" ");
        for ((cell, width), column) in cells.iter().zip(&widths).zip(&table.columns) {
            line.push_str(&match column.is_number {
                true => format!(" {cell:>width$}"),
                false => format!(" {cell:<width$}"),
            });
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    if let Some(more) = table.rows.len().checked_sub(limit).filter(|more| *more > 0) {
        text.push_str(&format!("  and {more} more\n"));
    }
}

/// How wide each column is, in characters.
pub(super) fn widths(table: &Table) -> Vec<usize> {
    let widths = table.columns.iter().enumerate().map(|(index, column)| {
        let cells = table.rows.iter().filter_map(|row| row.cells.get(index));
        let cells = cells.map(|cell| cell.chars().count());
        cells.max().unwrap_or(0).max(column.title.chars().count())
    });
    widths.collect()
}
