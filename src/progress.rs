//! A bar for long work: how far, how fast, how long still. On standard error, one line.
//!
//! On a terminal the line is drawn over itself and gone when the work is done; elsewhere, when
//! asked for, each drawing is a line of its own and they come less often.

use crate::clock;
use crate::restore::Progress;
use crate::units;
use std::env;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// When to show a bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// When standard error is a terminal.
    Auto,
    Always,
    Never,
}

/// Work that is over sooner than this shows nothing.
const PATIENCE: Duration = Duration::from_millis(300);
const EVERY_ON_TERMINAL: Duration = Duration::from_millis(100);
const EVERY_IN_LOG: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Bar {
    style: Style,
    drawn: Mutex<Drawn>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Hidden,
    Terminal { columns: usize },
    Log,
}

#[derive(Debug)]
struct Drawn {
    started: Instant,
    /// When the last line was drawn, or the work began.
    last: Instant,
    visible: bool,
}

impl Bar {
    pub fn new(mode: Mode, quiet: bool) -> Self {
        let started = clock::instant();
        let style = style(mode, quiet, io::stderr().is_terminal());
        Self { style, drawn: Mutex::new(Drawn { started, last: started, visible: false }) }
    }

    fn draw(&self, drawn: &mut Drawn, done: u64, total: u64) {
        let now = clock::instant();
        let elapsed = now.duration_since(drawn.started);
        let wait = match (self.style, drawn.visible) {
            (_, false) => PATIENCE,
            (Style::Terminal { .. }, true) => EVERY_ON_TERMINAL,
            _ => EVERY_IN_LOG,
        };
        if now.duration_since(drawn.last) < wait {
            return;
        }
        (drawn.last, drawn.visible) = (now, true);
        match self.style {
            Style::Hidden => {}
            Style::Terminal { columns } => {
                say(&format!("\r{}\x1b[K", render(done, total, elapsed, columns)));
            }
            Style::Log => say(&format!("{}\n", render(done, total, elapsed, LOG_COLUMNS))),
        }
    }
}

const LOG_COLUMNS: usize = 79;

/// So few that the longest figures leave room for them on 79 columns: the bar does not jump.
const CELLS: usize = 26;

/// A log that cannot be written to is no reason to stop the work.
fn say(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

fn style(mode: Mode, quiet: bool, terminal: bool) -> Style {
    match (mode, terminal) {
        (Mode::Never, _) | (Mode::Auto, false) => Style::Hidden,
        (Mode::Auto, true) if quiet => Style::Hidden,
        (Mode::Auto | Mode::Always, true) => Style::Terminal { columns: columns() },
        (Mode::Always, false) => Style::Log,
    }
}

/// One less than the terminal has, where its shell exports it: a full last column may wrap.
fn columns() -> usize {
    let told = env::var("COLUMNS").ok().and_then(|columns| columns.parse::<usize>().ok());
    told.unwrap_or(80).clamp(20, 200) - 1
}

impl Progress for Bar {
    fn at(&self, done: u64, total: u64) {
        if self.style == Style::Hidden {
            return;
        }
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        self.draw(&mut drawn, done, total);
    }
}

impl Drop for Bar {
    /// Leaves the terminal's line as it was found.
    fn drop(&mut self) {
        let drawn = self.drawn.get_mut().unwrap_or_else(PoisonError::into_inner);
        if drawn.visible && matches!(self.style, Style::Terminal { .. }) {
            say("\r\x1b[K");
        }
    }
}

/// The line after `elapsed`, at most `columns` wide: ` 42% [####------] 1.2/3.0 GiB ...`.
fn render(done: u64, total: u64, elapsed: Duration, columns: usize) -> String {
    let done = done.min(total);
    let share = if total == 0 { 1.0 } else { done as f64 / total as f64 };
    let rate = done as f64 / elapsed.as_secs_f64().max(0.001);
    let left = if done == 0 {
        "--".to_owned()
    } else {
        units::stretch(Duration::from_secs_f64(((total - done) as f64 / rate).min(1e9).ceil()))
    };
    let figures = format!(
        " {} of {}  {}/s  {left} left",
        units::bytes(done),
        units::bytes(total),
        units::bytes(rate as u64),
    );
    let percent = format!("{:3.0}%", (share * 100.0).floor());
    let cells = columns.saturating_sub(percent.len() + figures.len() + 3).min(CELLS);
    let bar = if cells < 4 { String::new() } else { format!(" [{}]", cells_of(share, cells)) };
    let mut line = percent + &bar + &figures;
    line.truncate(columns);
    line
}

fn cells_of(share: f64, cells: usize) -> String {
    let full = (share * cells as f64).floor() as usize;
    format!("{}{}", "#".repeat(full), "-".repeat(cells - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_line_says_how_far_how_fast_and_how_long() {
        let check = |done, total, ms, columns, line: &str| {
            let rendered = render(done, total, Duration::from_millis(ms), columns);
            assert_eq!(rendered, line);
            assert!(rendered.len() <= columns);
        };
        let (some, all) = (64 * MIB, 256 * MIB);
        check(
            some,
            all,
            2000,
            79,
            " 25% [######--------------------] 64.0 MiB of 256 MiB  32.0 MiB/s  6s left",
        );
        check(some, all, 2000, 60, " 25% [###---------] 64.0 MiB of 256 MiB  32.0 MiB/s  6s left");
        check(some, all, 2000, 40, " 25% 64.0 MiB of 256 MiB  32.0 MiB/s  6s");
        check(0, all, 500, 45, "  0% [-------] 0 B of 256 MiB  0 B/s  -- left");
        check(all, all, 4000, 50, "100% 256 MiB of 256 MiB  64.0 MiB/s  0s left");
        check(0, 0, 0, 79, "100% [##########################] 0 B of 0 B  0 B/s  -- left");
        check(u64::MAX, 1, 1, 30, "100% 1 B of 1 B  1.0 KiB/s  0s");
    }

    #[test]
    fn it_never_says_that_unfinished_work_is_done() {
        let line = render(999_999, 1_000_000, Duration::from_secs(1), 79);
        assert!(line.starts_with(" 99%"), "{line}");
        assert!(line.contains("1s left"), "{line}");
    }

    #[test]
    fn a_bar_shows_where_it_was_asked_for() {
        let check = |mode, quiet, terminal, shown| {
            assert_eq!(style(mode, quiet, terminal) != Style::Hidden, shown);
        };
        check(Mode::Auto, false, true, true);
        check(Mode::Auto, false, false, false);
        check(Mode::Auto, true, true, false);
        check(Mode::Always, false, false, true);
        check(Mode::Always, true, true, true);
        check(Mode::Never, false, true, false);
        assert_eq!(style(Mode::Always, false, false), Style::Log);
    }
}
