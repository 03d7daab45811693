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
    work: Mutex<Option<Work>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Hidden,
    Terminal { columns: usize },
    Log,
}

/// One piece of work under way: from the first word of it until all of it is done.
#[derive(Clone, Copy, Debug)]
struct Work {
    started: Instant,
    /// When the last line was drawn, or the work began.
    last: Instant,
    visible: bool,
    share: Share,
}

/// How far work is.
#[derive(Clone, Copy, Debug)]
struct Share {
    done: u64,
    total: u64,
    unit: Unit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Bytes,
    Pages,
}

impl Unit {
    /// So many of so many, and how many a second.
    fn figures(self, done: u64, total: u64, rate: u64) -> String {
        match self {
            Self::Bytes => {
                let [done, total, rate] = [done, total, rate].map(units::bytes);
                format!("{done} of {total}  {rate}/s")
            }
            Self::Pages => format!("{done} of {total} pages  {rate}/s"),
        }
    }
}

impl Work {
    fn new(now: Instant, share: Share) -> Self {
        Self { started: now, last: now, visible: false, share }
    }

    /// Threads that report out of order do not begin anew; a smaller share of another whole does.
    fn goes_on(&self, share: Share) -> bool {
        let whole = |share: Share| (share.total, share.unit);
        whole(self.share) == whole(share) || self.share.done <= share.done
    }

    fn is_due(&self, now: Instant, style: Style) -> bool {
        let wait = match (style, self.visible) {
            (_, false) => PATIENCE,
            (Style::Terminal { .. }, true) => EVERY_ON_TERMINAL,
            (_, true) => EVERY_IN_LOG,
        };
        now.duration_since(self.last) >= wait
    }
}

impl Bar {
    pub fn new(mode: Mode, quiet: bool) -> Self {
        let style = style(mode, quiet, io::stderr().is_terminal());
        Self { style, work: Mutex::new(None) }
    }

    fn show(&self, share: Share) {
        if self.style != Style::Hidden {
            let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
            self.update(&mut work, share, clock::instant());
        }
    }

    fn draw(&self, work: &Work, now: Instant) {
        let line = |columns| render(work.share, now - work.started, columns);
        match self.style {
            Style::Hidden => {}
            Style::Terminal { columns } => say(&format!("\r{}\x1b[K", line(columns))),
            Style::Log => say(&format!("{}\n", line(LOG_COLUMNS))),
        }
    }

    /// Leaves the terminal's line as it was found; a log gets its last line.
    fn finish(&self, work: &Work, now: Instant) {
        match self.style {
            Style::Terminal { .. } if work.visible => say("\r\x1b[K"),
            Style::Log if work.visible => self.draw(work, now),
            _ => {}
        }
    }

    fn update(&self, current: &mut Option<Work>, share: Share, now: Instant) {
        let under_way = current.filter(|work| work.goes_on(share));
        let mut work = Work { share, ..under_way.unwrap_or_else(|| Work::new(now, share)) };
        if share.done >= share.total {
            self.finish(&work, now);
            *current = None;
            return;
        }
        if work.is_due(now, self.style) {
            (work.last, work.visible) = (now, true);
            self.draw(&work, now);
        }
        *current = Some(work);
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
        self.show(Share { done, total, unit: Unit::Bytes });
    }

    fn pages(&self, done: u64, total: u64) {
        self.show(Share { done, total, unit: Unit::Pages });
    }
}

impl Drop for Bar {
    /// Work that failed half-way leaves no half line either.
    fn drop(&mut self) {
        let work = self.work.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if matches!(self.style, Style::Terminal { .. }) && work.is_some_and(|work| work.visible) {
            say("\r\x1b[K");
        }
    }
}

/// The line after `elapsed`, at most `columns` wide: ` 42% [####------] 1.2/3.0 GiB ...`.
fn render(share: Share, elapsed: Duration, columns: usize) -> String {
    let Share { total, unit, .. } = share;
    let done = share.done.min(total);
    let share = if total == 0 { 1.0 } else { done as f64 / total as f64 };
    let rate = done as f64 / elapsed.as_secs_f64().max(0.001);
    let left = if done == 0 {
        "--".to_owned()
    } else {
        units::stretch(Duration::from_secs_f64(((total - done) as f64 / rate).min(1e9).ceil()))
    };
    let figures = format!(" {}  {left} left", unit.figures(done, total, rate as u64));
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
    use crate::daemon::{self, Stop};
    use crate::testkit::Db;
    use std::sync::atomic::Ordering;
    use std::sync::mpsc::{Sender, channel};
    use std::thread;

    const MIB: u64 = 1 << 20;

    fn bytes(done: u64, total: u64) -> Share {
        Share { done, total, unit: Unit::Bytes }
    }

    #[test]
    fn the_line_says_how_far_how_fast_and_how_long() {
        let check = |done, total, ms, columns, line: &str| {
            let rendered = render(bytes(done, total), Duration::from_millis(ms), columns);
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

    /// Found by trying it: `daemon` told of a first snapshot of 78 MiB as of 19.6 KiB.
    #[test]
    fn a_snapshot_under_way_is_told_in_pages() {
        let share = Share { done: 5_000, total: 20_000, unit: Unit::Pages };
        let line = render(share, Duration::from_secs(2), 79);
        let figures = " 5000 of 20000 pages  2500/s  6s left";
        assert_eq!(line, format!(" 25% [######--------------------]{figures}"));
        struct Pages(Sender<()>);
        impl Progress for Pages {
            fn at(&self, _: u64, _: u64) {
                panic!("in bytes");
            }
            fn pages(&self, _: u64, _: u64) {
                self.0.send(()).ok();
            }
        }
        let (db, stop, (told, begun)) = (Db::new(4096), Stop::default(), channel());
        thread::scope(|scope| {
            let (config, pages) = (vec![db.config()].into(), Pages(told));
            let stop = &stop;
            let daemon = scope.spawn(move || daemon::run(&config, stop, None, &pages));
            begun.recv().expect("it tells");
            stop.flag().store(true, Ordering::Relaxed);
            daemon.join().unwrap().unwrap();
        });
    }

    #[test]
    fn it_never_says_that_unfinished_work_is_done() {
        let line = render(bytes(999_999, 1_000_000), Duration::from_secs(1), 79);
        assert!(line.starts_with(" 99%"), "{line}");
        assert!(line.contains("1s left"), "{line}");
    }

    #[test]
    fn each_piece_of_work_has_its_own_clock() {
        let bar = Bar { style: Style::Hidden, work: Mutex::new(None) };
        let start = clock::instant();
        let second = |count| start + Duration::from_secs(count);
        let mut work = None;
        bar.update(&mut work, bytes(1, 10), second(1));
        bar.update(&mut work, bytes(5, 10), second(2));
        bar.update(&mut work, bytes(4, 10), second(3));
        assert_eq!(work.unwrap().started, second(1), "threads may report out of order");
        assert!(work.unwrap().visible);
        bar.update(&mut work, bytes(10, 10), second(4));
        assert!(work.is_none(), "done");
        bar.update(&mut work, bytes(1, 10), second(5));
        assert_eq!(work.unwrap().started, second(5));
        bar.update(&mut work, bytes(0, 20), second(6));
        assert_eq!(work.unwrap().started, second(6), "what was given up does not count");
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
