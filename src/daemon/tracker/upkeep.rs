//! When a round of upkeep is due. It is a job like any other, on the threads that may be slow, and
//! nothing waits for it: told to leave off, it does so after the object at hand.

use super::{Done, Job, Phase, Tracker};
use crate::commit::Timeline;
use crate::daemon::upkeep::{self as rounds, Task};
use crate::error::{Result, Status};
use crate::upkeep as round;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Bounds of the time between two rounds, which else is the first window of `compaction`.
const LEAST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub(super) struct Upkeep {
    busy: bool,
    /// Tells the round that is at work to leave off.
    stop: Arc<AtomicBool>,
    last: Instant,
    /// Something was shipped since the last one.
    news: bool,
    failing: bool,
}

impl Upkeep {
    pub(super) fn new(now: Instant) -> Self {
        Self { busy: false, stop: Arc::default(), last: now, news: true, failing: false }
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn note_news(&mut self) {
        self.news = true;
    }

    pub(super) fn end(&mut self) {
        self.busy = false;
    }
}

impl Tracker {
    /// A round of upkeep, once one is due. Old points become fewer even if nothing new comes.
    pub fn next_upkeep(&mut self, now: Instant) -> Option<Job> {
        let since = now.duration_since(self.upkeep.last);
        let every = self.database.settings.compaction.first().copied().unwrap_or(MOST);
        let due = since >= MOST || (self.upkeep.news && since >= every.clamp(LEAST, MOST));
        let idle = !self.upkeep.busy && !self.leaving && !self.draining && self.healing.is_none();
        let stores = self.stores.as_ref().filter(|_| due && idle)?;
        if matches!(self.phase, Phase::Closed | Phase::Ended) {
            return None;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (database, stores) = (Arc::clone(&self.database), Arc::clone(stores));
        let timeline = Timeline(self.claimed.load(Ordering::Relaxed));
        let flag = Arc::clone(&stop);
        let last = self.upkeep.failing;
        self.upkeep = Upkeep { busy: true, stop, last: now, news: false, failing: last };
        self.jobs += 1;
        Some(Box::new(move || {
            let stop = || flag.load(Ordering::Relaxed);
            Done::Kept(rounds::beside(&database, &stores, timeline, Task::All, &stop))
        }))
    }

    pub(super) fn kept(&mut self, result: Result<round::Done>, now: Instant) {
        self.upkeep.end();
        self.upkeep.last = now;
        let error = match result {
            // The next shipment finds out for itself.
            Err(error) if error.status == Status::Locked => return,
            Err(error) => Some(error),
            Ok(done) => done.errors.into_iter().next(),
        };
        if let Some(error) = error.as_ref().filter(|_| !self.upkeep.failing) {
            self.log(&error.to_string());
        }
        self.upkeep.failing = error.is_some();
    }
}
