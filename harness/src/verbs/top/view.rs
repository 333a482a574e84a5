//! What the live view shows, and what keys do to it.

use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::snapshot::Snapshot;
use super::tables::Sort;

/// How many sections there are beside the traffic.
const SECTIONS: usize = 6;

/// What is on the screen, and how it was asked for.
#[derive(Debug)]
pub(super) struct View {
    pub(super) snapshot: Snapshot,
    pub(super) interval: Duration,
    pub(super) selected: usize,
    pub(super) sort: Sort,
    pub(super) scroll: usize,
    pub(super) paused: bool,
}

/// What a key asks for, where it is not about the view alone.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Nothing,
    Quit,
    Reset,
}

impl View {
    /// Takes a key.
    pub(super) fn press(&mut self, key: KeyEvent) -> Wish {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if is_control => return Wish::Quit,
            KeyCode::Char('q') | KeyCode::Esc => return Wish::Quit,
            KeyCode::Char('r') => return Wish::Reset,
            KeyCode::Char('p') => self.paused = !self.paused,
            KeyCode::Tab | KeyCode::Right => self.select(1),
            KeyCode::BackTab | KeyCode::Left => self.select(SECTIONS - 1),
            KeyCode::Char(digit @ '1'..='6') => {
                self.scroll = 0;
                self.selected = digit as usize - '1' as usize;
            }
            KeyCode::Down => self.sort_by(1),
            KeyCode::Up => self.sort_by(Sort::ALL.len() - 1),
            KeyCode::PageDown => self.scroll += 5,
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(5),
            KeyCode::Home => self.scroll = 0,
            _ => {}
        }
        Wish::Nothing
    }

    fn select(&mut self, step: usize) {
        self.selected = (self.selected + step) % SECTIONS;
        self.scroll = 0;
    }

    fn sort_by(&mut self, step: usize) {
        let at = Sort::ALL.iter().position(|sort| *sort == self.sort);
        self.sort = Sort::ALL[(at.unwrap_or(0) + step) % Sort::ALL.len()];
    }
}
