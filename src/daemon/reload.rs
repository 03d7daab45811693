//! A configuration that changes under a running daemon.
//!
//! What is to be watched is compared with what is: a database that is not wanted any more, or not like
//! this, is drained, and what waits for its place takes that once it has ended. A database that stays
//! as it was is not touched, not even one whose watch has ended for a reason: a daemon that is fenced
//! must not take a replica back because some other part of its configuration has changed.

use super::Daemon;
use super::tracker::Tracker;
use crate::clock;
use crate::config::{Config, Database};
use crate::error::{Error, Result};
use crate::log;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

type Read<'a> = dyn Fn() -> Result<Config> + Send + 'a;

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
    pub fn new(read: impl Fn() -> Result<Config> + Send + 'a) -> Self {
        Self { asked: Arc::default(), read: Box::new(read) }
    }

    /// What a signal handler sets.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.asked)
    }

    /// What is to be watched from now on. A configuration that is wrong is told of, and the one
    /// before stays in force.
    fn take(&self) -> Option<Config> {
        let read = (self.read)();
        let tell = |error: &Error| {
            log::warn(error);
            log::event("reload", "the configuration that was read before stays in force");
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
        let Some(config) = reload.take() else { return };
        let wanted = self.look_into(&config);
        let (kept, left, begun) = self.watch_only(wanted);
        log::event("reload", format!("{kept} stay, {left} end, {begun} begin"));
    }

    /// Has those end that are not `wanted`, and those begin that are new. How many stay, end, begin.
    pub(super) fn watch_only(&mut self, wanted: Vec<Database>) -> (usize, usize, usize) {
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
        (kept, left, begun)
    }

    /// Lets go of those that have ended for good, and takes up those that waited for that.
    pub(super) fn replace(&mut self) {
        self.trackers.retain(|_, tracker| {
            let gone = tracker.is_retired() && tracker.is_over();
            if gone && let Some(error) = tracker.take_error() {
                log::warn(&error);
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
        let waiting = &self.waiting;
        for tracker in self.trackers.values_mut().filter(|tracker| tracker.is_retired()) {
            if waiting.iter().any(|database| tracker.is_in_the_way_of(database)) {
                tracker.make_way();
            }
        }
        let free: Vec<Database> = free;
        free.iter().for_each(|database| self.watch(Tracker::new(database, false, now)));
    }
}
