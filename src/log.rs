//! What is told on standard error: one line an event, and a line below it where a person can act.
//!
//! In the journal of systemd each line begins with its level, as sd-daemon(3) has it, so that
//! `journalctl -p warning` shows what went wrong and nothing else.

use crate::error::{self, Error};
use std::env;
use std::fmt::Display;
use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where systemd says what it has connected standard error to.
pub const VARIABLE: &str = "JOURNAL_STREAM";

/// As syslog(3) counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// It ends.
    Error = 3,
    /// It goes on, or is tried again.
    Warning = 4,
    /// As it should be.
    Info = 6,
}

static QUIET: AtomicBool = AtomicBool::new(false);

/// From now on, what is as it should be is not told.
pub fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// Something that happened to `thing`, such as a database.
pub fn event(thing: impl Display, what: impl Display) {
    say(Level::Info, &format!("{thing}: {what}"), None);
}

pub fn warn(error: &Error) {
    say(Level::Warning, &error.message, error.hint.as_deref());
}

/// There, too, the disk may be full or the reader gone, and `eprintln!` would end the program for that.
pub fn say(level: Level, message: &str, hint: Option<&str>) {
    static JOURNAL: OnceLock<bool> = OnceLock::new();
    if level == Level::Info && QUIET.load(Ordering::Relaxed) {
        return;
    }
    let lines = error::lines(message, hint);
    let lines = match JOURNAL.get_or_init(is_journal) {
        true => with_level(level, &lines),
        false => lines,
    };
    let _ = io::stderr().write_all(lines.as_bytes());
}

fn with_level(level: Level, lines: &str) -> String {
    lines.lines().map(|line| format!("<{}>{line}\n", level as u8)).collect()
}

/// The variable is inherited by those whose standard error goes elsewhere.
fn is_journal() -> bool {
    let stream = env::var(VARIABLE).ok();
    let own = rustix::fs::fstat(io::stderr()).ok();
    stream.is_some() && stream == own.map(|own| format!("{}:{}", own.st_dev, own.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_its_level_for_the_journal() {
        let lines = error::lines("app: gone", Some("mount it"));
        assert_eq!(
            with_level(Level::Warning, &lines),
            "<4>bakelite: app: gone\n<4>hint: mount it\n"
        );
    }
}
