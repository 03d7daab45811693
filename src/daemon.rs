//! The daemon: watches every database from one thread, and leaves what blocks to a few others.
//!
//! ```text
//!   look (memory only) --> capture, on a worker --> batch --> ship, on a worker --> cursor
//!        ^                      |                                  |
//!        +----------------------+----------------------------------+   results, one channel
//! ```
//!
//! The loop owns all state. A job takes what it works on along and brings it back, so nothing is
//! shared and nothing locked. A database has at most one capture and one shipment at a time; while a
//! shipment waits for a destination, capture goes on until the next change-set is full, and then the
//! WAL is pinned as it is.

mod open;
mod owed;
mod pool;
mod sync;
mod tracker;
mod upkeep;

pub use open::{open_database, try_lock};
pub use sync::{Published, daemon_runs, sync};
pub use tracker::SHIP_FILE;
pub use upkeep::{Task, upkeep};

use crate::clock;
use crate::config::Database;
use crate::error::{Error, Result};
use crate::restore::Progress;
use pool::Pool;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use tracker::{Done, Tracker};

/// Threads for what blocks: two keep two cores busy with a first snapshot, the others wait for disks.
const WORKERS: usize = 4;
/// Those that wait for destinations which do not answer keep nobody else from working.
const SLOW_WORKERS: usize = 4;
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

/// Watches and ships `databases` until `stop` is set; then everything committed by then is durable.
pub fn run(databases: &[Database], stop: &Stop, progress: &dyn Progress) -> Result<()> {
    run_beside(None, databases, stop, progress)
}

/// The same, beside an application that is started when `ready` is called: every database was taken up,
/// or is not there yet, and is waited for.
pub fn run_beside(
    ready: Option<&dyn Fn()>,
    databases: &[Database],
    stop: &Stop,
    progress: &dyn Progress,
) -> Result<()> {
    crate::sqlite::version()
        .map_err(|cause| Error::new(crate::error::Status::Failed, "start", "SQLite", cause))?;
    let (done, results) = channel();
    let (pool, slow) = (Pool::new(WORKERS, &done), Pool::new(SLOW_WORKERS, &done));
    let mut daemon = Daemon { trackers: Vec::new(), pool, slow, results, draining: false };
    let now = clock::instant();
    daemon.trackers =
        databases.iter().map(|each| Tracker::new(each, databases.len() == 1, now)).collect();
    if ready.is_some() {
        daemon.trackers.iter_mut().for_each(Tracker::await_database);
    }
    daemon.run(ready, stop, progress)
}

#[derive(Debug)]
struct Daemon {
    trackers: Vec<Tracker>,
    pool: Pool<(usize, Done)>,
    /// For what waits for destinations that are behind.
    slow: Pool<(usize, Done)>,
    results: Receiver<(usize, Done)>,
    draining: bool,
}

impl Daemon {
    fn run(
        &mut self,
        mut ready: Option<&dyn Fn()>,
        stop: &Stop,
        progress: &dyn Progress,
    ) -> Result<()> {
        loop {
            if stop.is_set() && !self.draining {
                self.drain();
            }
            let now = clock::instant();
            let wake = self.turn(now);
            self.report(progress);
            if let Some(ended) = self.ended() {
                return ended;
            }
            if let Some(ready) = ready.take_if(|_| self.is_ready()) {
                match self.trackers.iter().any(Tracker::is_ended) {
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
        for (at, tracker) in self.trackers.iter_mut().enumerate() {
            if tracker.due(now) {
                if let Some(job) = tracker.turn(now) {
                    self.pool.run(move || (at, job()));
                }
                if let Some(job) = tracker.next_shipment(now) {
                    self.pool.run(move || (at, job()));
                }
                for job in tracker.payments(now).into_iter().chain(tracker.next_upkeep(now)) {
                    self.slow.run(move || (at, job()));
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
            self.trackers[at].done(done, now);
        }
    }

    /// How the run ended, once it has: when all is drained, or when nothing is left to watch.
    fn ended(&mut self) -> Option<Result<()>> {
        let all = self.trackers.iter().all(Tracker::is_ended);
        all.then(|| {
            let errors = self.trackers.iter_mut().filter_map(Tracker::take_error);
            errors.into_iter().next().map_or(Ok(()), Err)
        })
    }

    fn drain(&mut self) {
        self.draining = true;
        self.trackers.iter_mut().for_each(Tracker::drain);
    }

    /// Whether no database is still being taken up for the first time.
    fn is_ready(&self) -> bool {
        self.trackers.iter().all(Tracker::was_tried)
    }

    fn report(&self, progress: &dyn Progress) {
        let rolling = self.trackers.iter().filter_map(Tracker::rolling);
        let (done, total) =
            rolling.fold((0, 0), |sum, (done, total)| (sum.0 + done, sum.1 + total));
        if total > 0 {
            progress.at(done, total);
        }
    }
}

#[cfg(test)]
mod tests;
