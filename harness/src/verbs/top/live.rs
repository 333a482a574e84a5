//! The live view: the terminal, the keys and the clock.

use std::time::Duration;

use anyhow::Context;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::counts::Proxy;
use super::draw;
use super::scrape::{Answer, scrape, take};
use super::snapshot::Snapshot;
use super::tables::Sort;
use super::target::ScrapeTarget;
use super::view::{View, Wish};

/// Shows the proxies until a key or a signal ends it. The terminal is as it was afterwards, even
/// after a panic.
pub(super) async fn run(proxies: Vec<Proxy>, interval: Duration, all: bool) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    // With a panic hook that gives the terminal back.
    let mut terminal = ratatui::try_init().context("the terminal cannot be drawn on")?;
    let result = tokio::select! {
        result = watch(&mut terminal, proxies, interval, all) => result,
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
    all: bool,
) -> anyhow::Result<()> {
    let mut keys = read_keys();
    let mut answers = scrape_on(
        proxies.iter().map(|proxy| proxy.target.clone()).collect(),
        interval,
    );
    let mut view = View {
        snapshot: Snapshot::of(&proxies, all),
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
                            view.snapshot = Snapshot::of(&proxies, all);
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
                    view.snapshot = Snapshot::of(&proxies, all);
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
fn scrape_on(targets: Vec<ScrapeTarget>, interval: Duration) -> mpsc::Receiver<Vec<Answer>> {
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
