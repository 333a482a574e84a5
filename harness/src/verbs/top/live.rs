//! The live view: the terminal, the keys and the clock.

use std::time::Duration;

use anyhow::Context;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::counts::Proxy;
use super::draw;
use super::snapshot::Snapshot;
use super::tables::Sort;
use super::target::Target;
use super::{scrape, take};

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
enum Wish {
    Nothing,
    Quit,
    Reset,
}

/// Shows the proxies until a key or a signal ends it. The terminal is as it was afterwards, even
/// after a panic.
pub(super) async fn run(proxies: Vec<Proxy>, interval: Duration) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    // With a panic hook that gives the terminal back.
    let mut terminal = ratatui::try_init().context("the terminal cannot be drawn on")?;
    let result = tokio::select! {
        result = watch(&mut terminal, proxies, interval) => result,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        _ = hang_up.recv() => Ok(()),
    };
    ratatui::restore();
    result
}

async fn watch(
    terminal: &mut ratatui::DefaultTerminal,
    mut proxies: Vec<Proxy>,
    interval: Duration,
) -> anyhow::Result<()> {
    let mut keys = read_keys();
    let mut answers = scrape_on(
        proxies.iter().map(|proxy| proxy.target.clone()).collect(),
        interval,
    );
    let mut view = View {
        snapshot: Snapshot::of(&proxies),
        interval,
        selected: 0,
        sort: Sort::Rate,
        scroll: 0,
        paused: false,
    };
    loop {
        terminal
            .draw(|frame| draw::screen(frame, &mut view))
            .context("the terminal cannot be drawn on")?;
        tokio::select! {
            event = keys.recv() => match event {
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => {
                    match view.press(key) {
                        Wish::Nothing => {}
                        Wish::Quit => return Ok(()),
                        Wish::Reset => {
                            proxies.iter_mut().for_each(Proxy::reset);
                            view.snapshot = Snapshot::of(&proxies);
                        }
                    }
                }
                // A resize is drawn anew as well.
                Some(_) => {}
                None => anyhow::bail!("the terminal does not tell its keys any more"),
            },
            Some(scraped) = answers.recv() => {
                take(&mut proxies, scraped);
                if !view.paused {
                    view.snapshot = Snapshot::of(&proxies);
                }
            }
        }
    }
}

/// The terminal's events. The thread that reads them ends with the process: there is no way to
/// wake it.
fn read_keys() -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.blocking_send(event).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Scrapes at every tick, in a task of its own so that a slow proxy never delays a key.
fn scrape_on(targets: Vec<Target>, interval: Duration) -> mpsc::Receiver<Vec<super::Answer>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut clock = tokio::time::interval(interval);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is at once, and the first scrape is there already.
        clock.tick().await;
        loop {
            clock.tick().await;
            if sender.send(scrape(&targets, interval).await).await.is_err() {
                break;
            }
        }
    });
    receiver
}

impl View {
    fn press(&mut self, key: KeyEvent) -> Wish {
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
