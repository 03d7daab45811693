//! A configuration that changes under a running daemon.
//!
//! What is to be watched is compared with what is: a database that is not wanted any more, or not like
//! this, is drained, and what waits for its place takes that once it has ended. A database that stays
//! as it was is not touched, not even one whose watch has ended for a reason: a daemon that is fenced
//! must not take a replica back because some other part of its configuration has changed.

use super::Daemon;
use super::tracker::Tracker;
use crate::clock;
use crate::config::Database;
use crate::error::{self, Result};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

type Read<'a> = dyn Fn() -> Result<Vec<Database>> + Send + 'a;

/// How the configuration is read again, and whether it is to be.
pub struct Reload<'a> {
    asked: Arc<AtomicBool>,
    read: Box<Read<'a>>,
}

impl fmt::Debug for Reload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_tuple("Reload").field(&self.asked).finish()
    }
}

impl<'a> Reload<'a> {
    pub fn new(read: impl Fn() -> Result<Vec<Database>> + Send + 'a) -> Self {
        Self { asked: Arc::default(), read: Box::new(read) }
    }

    /// What a signal handler sets.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.asked)
    }

    /// The databases to be watched from now on. A configuration that is wrong is told of, and the one
    /// before stays in force.
    fn take(&self) -> Option<Vec<Database>> {
        let read = (self.read)();
        let tell = |error: &error::Error| {
            error::say(error::lines(&error.message, error.hint.as_deref()));
            error::say("bakelite: reload: the configuration that was read before stays in force\n");
        };
        read.inspect_err(tell).ok()
    }
}

impl Daemon {
    pub(super) fn reload(&mut self, reload: Option<&Reload>) {
        let Some(reload) = reload.filter(|it| it.asked.swap(false, Ordering::Relaxed)) else {
            return;
        };
        self.tell_reloading();
        let Some(wanted) = reload.take() else { return };
        let (mut kept, mut left) = (0, 0);
        for tracker in self.trackers.values_mut().filter(|tracker| !tracker.is_retired()) {
            match wanted.iter().find(|database| tracker.watches(database)) {
                Some(database) => {
                    kept += 1;
                    tracker.tell(&database.settings.observers);
                }
                None => {
                    left += 1;
                    tracker.retire();
                }
            }
        }
        let new =
            |database: &Database| !self.trackers.values().any(|tracker| tracker.watches(database));
        self.waiting = wanted.into_iter().filter(new).collect();
        let begun = self.waiting.len();
        self.set_observers(clock::instant());
        error::say(format_args!("bakelite: reload: {kept} stay, {left} end, {begun} begin\n"));
    }

    /// Lets go of those that have ended for good, and takes up those that waited for that.
    pub(super) fn replace(&mut self) {
        self.trackers.retain(|_, tracker| {
            let gone = tracker.is_retired() && tracker.is_over();
            if gone && let Some(error) = tracker.take_error() {
                error::say(error::lines(&error.message, error.hint.as_deref()));
            }
            !gone
        });
        if self.waiting.is_empty() {
            return;
        }
        let now = clock::instant();
        let retired = || self.trackers.values().filter(|tracker| tracker.is_retired());
        let (wait, free) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|database| retired().any(|tracker| tracker.is_in_the_way_of(database)));
        self.waiting = wait;
        let free: Vec<Database> = free;
        free.iter().for_each(|database| self.watch(Tracker::new(database, false, now)));
    }
}
