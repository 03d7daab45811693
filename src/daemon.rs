//! The daemon: watches every database from one thread, and leaves what blocks to a few others.
//!
//! ```text
//!   look (memory only) --> capture, on a worker --> batch --> ship, on a worker --> cursor
//!        ^                      |                                  |
//!        +----------------------+----------------------------------+   results, one channel
//! ```
//!
//! The loop owns all state. A job takes what it works on along and brings it back. What a shipment and
//! those that pay a debt have in common, a destination's spool and standing, is locked for moments. A
//! database has at most one capture and one shipment at a time; while a shipment waits for a
//! destination, capture goes on until the next change-set is full, and then the WAL is pinned as it is.

mod gather;
mod listen;
mod observe;
mod open;
mod owed;
mod pool;
mod proof;
mod reload;
mod room;
mod sync;
mod tracker;
mod upkeep;

pub use open::{
    Signed, open_bare, open_database, open_source, open_to_read, tell_if_absent, tell_if_away,
    try_lock,
};
pub use reload::Reload;
pub use sync::{Published, ask_for_snapshot, daemon_runs, sync, sync_within};
pub use tracker::SHIP_FILE;
pub use upkeep::{Task, parts_to_collect, upkeep, wait as hold_off_upkeep};

use crate::clock;
use crate::config::{Config, Database};
use crate::error::{Error, Result};
use crate::fanout::Host;
use crate::notify::Notify;
use crate::restore::Progress;
use gather::{Gatherer, Roll};
use observe::Watch;
use pool::{Pool, Route};
use room::Room;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use tracker::{Done, Job, Tracker};

/// Longest sleep of the loop: how late a signal may be noticed.
const NAP: Duration = Duration::from_millis(50);

/// Set once to ask a running daemon to drain and end.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// What a signal handler sets.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

/// Watches and ships what `config` names until `stop` is set; then everything committed by then is
/// durable.
pub fn run(
    config: &Config,
    stop: &Stop,
    reload: Option<&Reload>,
    progress: &dyn Progress,
) -> Result<()> {
    Daemon::begin(config, stop)?.run(stop, reload, None, progress)
}

/// The same, beside an application that is started when `ready` is called: every database was taken up,
/// or is not there yet, and is waited for.
pub fn run_beside(
    config: &Config,
    stop: &Stop,
    ready: &dyn Fn(),
    progress: &dyn Progress,
) -> Result<()> {
    let mut daemon = Daemon::begin(config, stop)?;
    daemon.trackers.values_mut().for_each(Tracker::await_database);
    daemon.run(stop, None, Some(ready), progress)
}

/// What databases that go to the same places share.
#[derive(Debug, Default)]
struct Shared {
    rooms: BTreeMap<Route, Room>,
    hosts: BTreeMap<String, Arc<Host>>,
}

#[derive(Debug)]
struct Daemon {
    /// By numbers that are never used again, which jobs carry along.
    trackers: BTreeMap<usize, Tracker>,
    newest: usize,
    /// To be watched as soon as what is in their way has ended.
    waiting: Vec<Database>,
    /// Where there are directories.
    gatherer: Option<Gatherer>,
    pool: Pool<(usize, Done)>,
    shared: Shared,
    results: Receiver<(usize, Done)>,
    draining: bool,
    watch: Watch,
}

impl Daemon {
    fn begin(config: &Config, stop: &Stop) -> Result<Self> {
        crate::sqlite::version()
            .map_err(|cause| Error::new(crate::error::Status::Failed, "start", "SQLite", cause))?;
        let now = clock::instant();
        // One that drains at once has nobody to tell.
        let told = !stop.is_set();
        let notify = Notify::of_environment().filter(|_| told).transpose();
        let notify = notify.map_err(|error| Error::io("start", "NOTIFY_SOCKET", &error))?;
        let (done, results) = channel();
        let mut daemon = Daemon {
            trackers: BTreeMap::new(),
            newest: 0,
            waiting: Vec::new(),
            gatherer: None,
            pool: Pool::new(&done),
            shared: Shared::default(),
            results,
            draining: false,
            watch: Watch::new(notify, now),
        };
        let databases = daemon.look_into(config);
        let alone = databases.len() == 1 && config.directories.is_empty();
        databases.iter().for_each(|each| daemon.watch(Tracker::new(each, alone, now)));
        if told {
            daemon.set_observers(now);
        }
        Ok(daemon)
    }

    /// The databases that there are by now; others are looked for from now on.
    fn look_into(&mut self, config: &Config) -> Vec<Database> {
        let mut roll = Roll::default();
        let found = roll.call(config, clock::instant()).unwrap_or_default();
        self.gatherer = Gatherer::new(config, roll);
        found
    }

    fn watch(&mut self, mut tracker: Tracker) {
        self.newest += 1;
        tracker.share(&mut self.shared);
        if self.draining {
            tracker.drain();
        }
        self.trackers.insert(self.newest, tracker);
    }

    fn run(
        &mut self,
        stop: &Stop,
        reload: Option<&Reload>,
        mut ready: Option<&dyn Fn()>,
        progress: &dyn Progress,
    ) -> Result<()> {
        loop {
            if stop.is_set() && !self.draining {
                self.drain();
            }
            self.reload(reload.filter(|_| !self.draining));
            self.gather();
            self.replace();
            let now = clock::instant();
            let wake = self.turn(now);
            self.report(progress);
            self.leave_what_others_watch();
            self.observe(now);
            if let Some(ended) = self.ended() {
                return ended;
            }
            let begun = self.trackers.values().all(Tracker::has_begun);
            if let Some(ready) = ready.take_if(|_| begun) {
                match self.trackers.values().any(Tracker::is_ended) {
                    // It would run without a backup from its first commit on.
                    true => self.drain(),
                    false => ready(),
                }
            }
            self.wait(wake.saturating_duration_since(now).min(NAP));
        }
    }

    /// Gives every database its turn. When the next one is due.
    fn turn(&mut self, now: Instant) -> Instant {
        let mut wake = now + NAP;
        for (&at, tracker) in &mut self.trackers {
            if tracker.due(now) {
                let jobs = tracker.turn(now).into_iter().chain(tracker.next_shipment(now));
                for Job { route, work } in jobs.chain(tracker.journeys(now)) {
                    self.pool.run(&route, move || (at, work()));
                }
            }
            wake = wake.min(tracker.next_turn());
        }
        wake
    }

    /// Takes in what the workers have done; returns after the first results or `nap`.
    fn wait(&mut self, nap: Duration) {
        let first = match self.results.recv_timeout(nap) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => return,
            Err(RecvTimeoutError::Disconnected) => unreachable!("the pool lives as long as this"),
        };
        let now = clock::instant();
        for (at, done) in std::iter::once(first).chain(self.results.try_iter()) {
            // A mirror that was left to itself may come to its end after its database was let go of.
            if let Some(tracker) = self.trackers.get_mut(&at) {
                tracker.done(done, now);
            }
        }
    }

    /// How the run ended, once it has: when all is drained, or when nothing is left to watch, nor can be.
    /// What is under way even then may write where the next daemon reads, and is waited for.
    fn ended(&mut self) -> Option<Result<()>> {
        let all = self.trackers.values().all(Tracker::is_over);
        (all && self.waiting.is_empty() && self.gatherer.is_none()).then(|| {
            let errors = self.trackers.values_mut().filter_map(Tracker::take_error);
            errors.into_iter().next().map_or(Ok(()), Err)
        })
    }

    /// Where another daemon watches every database, there is nothing to run for. One that watches some of
    /// them may yet end, or be told to let go of one.
    fn leave_what_others_watch(&mut self) {
        let new_ones = !self.waiting.is_empty() || self.gatherer.is_some();
        if !new_ones && self.trackers.values().all(Tracker::is_watched_elsewhere) {
            self.trackers.values_mut().for_each(Tracker::leave_it);
        }
    }

    fn drain(&mut self) {
        self.draining = true;
        self.gatherer = None;
        self.tell_stopping();
        self.trackers.values_mut().for_each(Tracker::drain);
    }

    fn report(&self, progress: &dyn Progress) {
        let rolling = self.trackers.values().filter_map(Tracker::rolling);
        let (done, total) =
            rolling.fold((0, 0), |sum, (done, total)| (sum.0 + done, sum.1 + total));
        if total > 0 {
            progress.pages(done, total);
        }
    }
}

#[cfg(test)]
mod tests;
