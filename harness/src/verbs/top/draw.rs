//! Draws the live view, on a terminal of any size.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use super::tables::{self, Table};
use super::view::View;

/// From this size on every section is there at once.
const WIDE: (u16, u16) = (120, 36);

/// No text column is cut below this width.
const NARROWEST: usize = 8;

/// What goes first where the columns do not fit.
const SPARE: [&str; 7] = [
    "of",
    "system",
    "app",
    "p95",
    "direction",
    "rules",
    "reporters",
];

/// The whole screen.
pub(super) fn screen(frame: &mut Frame<'_>, view: &mut View) {
    let area = frame.area();
    let traffic = tables::traffic(&view.snapshot);
    let sections = tables::sections(&view.snapshot, view.sort);
    let is_wide = area.width >= WIDE.0 && area.height >= WIDE.1;
    // Title and columns, and at least one line that says that there is nothing.
    let rows = traffic.rows.len().clamp(1, 12) as u16 + 2;
    let [title, top, tabs, rest, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(rows.min(area.height / 2)),
        Constraint::Length(if is_wide { 0 } else { 2 }),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(Clear, area);
    frame.render_widget(title_line(view), title);
    table(frame, top, &traffic, 0, true);
    if is_wide {
        grid(frame, rest, view, &sections);
    } else if let Some(section) = sections.get(view.selected) {
        frame.render_widget(tab_line(view, &sections), tabs);
        let room = usize::from(rest.height.saturating_sub(1));
        view.scroll = view.scroll.min(section.rows.len().saturating_sub(room));
        table(frame, rest, section, view.scroll, false);
    }
    frame.render_widget(key_line(view), keys);
}

fn title_line(view: &View) -> Paragraph<'static> {
    let proxies = &view.snapshot.proxies;
    let answering = proxies.iter().filter(|p| p.error.is_none()).count();
    let mut text = format!(
        " meridian top  {answering} of {} proxies answer",
        proxies.len()
    );
    match view.snapshot.policies {
        0 => {}
        1 => text.push_str("  1 policy"),
        more => text.push_str(&format!("  {more} POLICIES")),
    }
    if view.snapshot.settled > 0 {
        text.push_str(&format!(
            "  {} series left out (--all)",
            view.snapshot.settled
        ));
    }
    text.push_str(&format!("  every {:?}", view.interval));
    if view.paused {
        text.push_str("  PAUSED");
    }
    Paragraph::new(text).style(Style::new().add_modifier(Modifier::REVERSED))
}

fn tab_line(view: &View, sections: &[Table]) -> Paragraph<'static> {
    let mut spans = vec![Span::raw(" ")];
    for (index, section) in sections.iter().enumerate() {
        let text = format!(" {} {} ", section.short, section.rows.len());
        let style = match index == view.selected {
            true => Style::new().add_modifier(Modifier::REVERSED),
            false => Style::new(),
        };
        spans.push(Span::styled(text, style));
    }
    Paragraph::new(vec![Line::default(), Line::from(spans)])
}

fn key_line(view: &View) -> Paragraph<'static> {
    let pause = if view.paused { "go on" } else { "pause" };
    Paragraph::new(format!(
        " q quit  p {pause}  r reset  tab ←→ section  ↑↓ sort: {}  pgup pgdn",
        view.sort.as_str()
    ))
    .style(Style::new().add_modifier(Modifier::DIM))
}

/// All sections at once, two in a row.
fn grid(frame: &mut Frame<'_>, area: Rect, view: &mut View, sections: &[Table]) {
    let rows = Layout::vertical([Constraint::Fill(1); 3]).split(area);
    for (index, section) in sections.iter().enumerate() {
        let Some(row) = rows.get(index / 2) else {
            continue;
        };
        let halves = Layout::horizontal([Constraint::Fill(1); 2]).split(*row);
        let is_selected = index == view.selected;
        let style = match is_selected {
            true => Style::new().add_modifier(Modifier::BOLD),
            false => Style::new().add_modifier(Modifier::DIM),
        };
        let mark = if is_selected { "▸ " } else { "" };
        let block = Block::bordered().border_style(style).title(format!(
            " {mark}{} ({}) ",
            section.title,
            section.rows.len()
        ));
        let inner = block.inner(halves[index % 2]);
        frame.render_widget(block, halves[index % 2]);
        let scroll = match is_selected {
            true => {
                let room = usize::from(inner.height.saturating_sub(1));
                view.scroll = view.scroll.min(section.rows.len().saturating_sub(room));
                view.scroll
            }
            false => 0,
        };
        table(frame, inner, section, scroll, false);
    }
}

/// A table, with the columns that fit.
fn table(frame: &mut Frame<'_>, area: Rect, table: &Table, scroll: usize, has_title: bool) {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut lines = Vec::new();
    if has_title {
        lines.push(Line::styled(format!(" {}", table.title), bold));
    }
    if table.rows.is_empty() {
        lines.push(Line::raw(format!("  {}", table.empty)));
        frame.render_widget(Paragraph::new(lines), area);
        return;
    }
    let columns = fit(table, usize::from(area.width).saturating_sub(2));
    let line = |cells: &dyn Fn(usize) -> String| {
        let mut text = String::from(" ");
        for (index, width) in &columns {
            let cell = cut(&cells(*index), *width);
            text.push_str(&match table.columns[*index].is_number {
                true => format!(" {cell:>width$}"),
                false => format!(" {cell:<width$}"),
            });
        }
        text
    };
    let titles = line(&|index| table.columns[index].title.to_owned());
    lines.push(Line::styled(
        titles,
        Style::new().add_modifier(Modifier::UNDERLINED),
    ));
    let room = usize::from(area.height).saturating_sub(lines.len());
    let more = table.rows.len().saturating_sub(scroll + room);
    let shown = if more > 0 {
        room.saturating_sub(1)
    } else {
        room
    };
    for row in table.rows.iter().skip(scroll).take(shown) {
        let style = match row.is_bad {
            true => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
            false => Style::new(),
        };
        let text = line(&|index| row.cells.get(index).cloned().unwrap_or_default());
        lines.push(Line::styled(text, style));
    }
    if more > 0 {
        lines.push(Line::raw(format!("  and {} more", more + room - shown)));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

/// The columns that fit into `room` characters, each with its width: the widest text is cut first,
/// then columns go.
fn fit(table: &Table, room: usize) -> Vec<(usize, usize)> {
    let mut columns: Vec<(usize, usize)> = tables::widths(table).into_iter().enumerate().collect();
    let needed =
        |columns: &[(usize, usize)]| columns.iter().map(|(_, width)| width + 1).sum::<usize>();
    let mut spare = SPARE.iter();
    loop {
        let over = needed(&columns).saturating_sub(room);
        if over == 0 {
            return columns;
        }
        let widest = columns
            .iter_mut()
            .filter(|(index, _)| !table.columns[*index].is_number)
            .max_by_key(|(_, width)| *width);
        match widest {
            // Reporters and directions cut to "north-so…" say nothing; rules and errors still do.
            Some((_, width)) if *width > 2 * NARROWEST => {
                *width = width.saturating_sub(over).max(2 * NARROWEST);
            }
            widest => match spare.next() {
                Some(title) => columns.retain(|(index, _)| table.columns[*index].title != *title),
                None => match widest {
                    Some((_, width)) if *width > NARROWEST => {
                        *width = width.saturating_sub(over).max(NARROWEST);
                    }
                    // Narrower than that is cut off at the edge.
                    _ => return columns,
                },
            },
        }
    }
}

fn cut(text: &str, width: usize) -> String {
    match text.chars().count() > width {
        true => text
            .chars()
            .take(width.saturating_sub(1))
            .chain(['…'])
            .collect(),
        false => text.to_owned(),
    }
}
