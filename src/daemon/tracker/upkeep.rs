//! When a round of upkeep is due. It is a job like any other, on the threads that may be slow, and
//! nothing waits for it: told to leave off, it does so after the object at hand.

use super::lanes::{Abroad, Journey};
use super::{Phase, Survey, Tracker};
use crate::clock;
use crate::commit::Timeline;
use crate::daemon::upkeep::{self as rounds, Task};
use crate::error::{Result, Status};
use crate::log::{self, Level};
use crate::retain::Over;
use crate::status::Note;
use crate::upkeep::{self as round, Parts};
use std::collections::{BTreeMap, BTreeSet};
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
    /// What was logged last, while it lasts.
    told: Option<String>,
    /// Destinations that did not let everything go, and when that was. They are kept up once in a
    /// while: what is merged there stays beside what it was made of, so it is best merged once.
    resting: BTreeMap<String, Instant>,
    /// When objects that are not needed any more were last deleted, and whether that goes on: no
    /// snapshot begins meanwhile, since it may name a part that is about to go.
    pruned: Option<Instant>,
    pruning: bool,
}

impl Upkeep {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            busy: false,
            stop: Arc::default(),
            last: now,
            news: true,
            told: None,
            resting: BTreeMap::new(),
            pruned: None,
            pruning: false,
        }
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    pub(super) fn note_news(&mut self) {
        self.news = true;
    }

    pub(super) fn end(&mut self) {
        (self.busy, self.pruning) = (false, false);
    }

    /// Whether a snapshot may begin. If not yet, what keeps it from that leaves off.
    pub(super) fn makes_way(&self) -> bool {
        if self.pruning {
            self.stop();
        }
        !self.pruning
    }
}

impl Tracker {
    /// A round of upkeep, once one is due. Old points become fewer even if nothing new comes.
    pub(super) fn next_upkeep(&mut self, now: Instant) -> Option<Journey> {
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
        let resting = self.upkeep.resting.len();
        self.upkeep.resting.retain(|_, since| now.duration_since(*since) < MOST);
        let rested = self.upkeep.resting.len() < resting;
        let long_ago = |last: Instant| now.duration_since(last) >= MOST;
        let pruning = rested || self.upkeep.pruned.is_none_or(long_ago);
        let snapshot =
            self.rolling.is_some() || self.survey != Survey::None || self.parts.storing > 0;
        let task = match (pruning, snapshot) {
            (false, _) => Task::Compact,
            (true, true) => Task::Both(Parts::Leave),
            (true, false) => Task::Both(Parts::Collect),
        };
        let it = &mut self.upkeep;
        (it.busy, it.stop, it.last, it.news, it.pruning) = (true, stop, now, false, pruning);
        it.pruned = if pruning { Some(now) } else { it.pruned };
        let rest: BTreeSet<String> = it.resting.keys().cloned().collect();
        Some(Journey::new(&self.routes.upkeep, move || {
            let stop = || flag.load(Ordering::Relaxed);
            Abroad::Kept(rounds::beside(&database, &stores, timeline, task, &rest, &stop))
        }))
    }

    pub(super) fn kept(&mut self, result: Result<round::Done>, now: Instant) {
        self.upkeep.end();
        self.upkeep.last = now;
        let error = match result {
            // The next shipment finds out for itself.
            Err(error) if error.status == Status::Locked => return,
            Err(error) => {
                self.shown.tally.count(error.status);
                Some(error)
            }
            Ok(done) => {
                self.upkeep.resting.extend(done.refusing.into_iter().map(|place| (place, now)));
                let tally = &mut self.shown.tally;
                tally.merged += done.merged;
                tally.deleted += done.deleted;
                done.errors.iter().for_each(|error| tally.count(error.status));
                if done.errors.is_empty() {
                    tally.upkeep = Some(clock::now());
                }
                self.note_caps(done.caps);
                done.errors.into_iter().next()
            }
        };
        let told = error.map(|error| error.to_string());
        if let Some(error) = told.as_ref().filter(|error| self.upkeep.told.as_ref() != Some(error))
        {
            self.log(error);
        }
        // One that rests may refuse the same again.
        if told.is_some() || self.upkeep.resting.is_empty() {
            self.upkeep.told = told;
        }
    }

    /// What is held past a cap is told once while it lasts, and is there to be asked for.
    pub(super) fn note_caps(&mut self, caps: BTreeMap<String, Option<Over>>) {
        for (place, over) in caps {
            let Some(over) = over else {
                self.status.over.remove(&place);
                continue;
            };
            let (what, remedy) = (over.to_string(), over.remedy().to_owned());
            if !self.status.over.contains_key(&place) {
                let message = format!("{}: {place}: {what}", self.database.name);
                log::say(Level::Warning, &message, Some(&remedy));
            }
            self.status.over.insert(place, Note { what, remedy });
        }
        self.status_due = true;
    }
}
