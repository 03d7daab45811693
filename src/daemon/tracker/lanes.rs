//! Destinations that are behind: when each one is tried again, and what that came to.

use super::{Done, Job, RETRY_FIRST, RETRY_LAST, Tracker};
use crate::error::{Error, Result, Status};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a destination waits in vain for another one to have all that it lacks.
const TRIES: u32 = 5;
/// How often one that takes everything is asked whether it still holds what was acknowledged there.
const LOOK: Duration = Duration::from_secs(60);

/// Where one destination is with what it lacks.
#[derive(Clone, Copy, Debug)]
pub struct Lane {
    /// A job brings it up to date.
    busy: bool,
    tries: u32,
    retry_at: Instant,
    look_at: Instant,
}

impl Tracker {
    pub(super) fn set_lanes(&mut self, count: usize, now: Instant) {
        let lane = Lane { busy: false, tries: 0, retry_at: now, look_at: now + LOOK };
        self.lanes = vec![lane; count];
    }

    /// Jobs for the destinations that are behind, and due.
    pub fn payments(&mut self, now: Instant) -> Vec<Job> {
        let Some(stores) = self.stores.as_ref().filter(|_| !self.leaving) else {
            return Vec::new();
        };
        let mut jobs: Vec<Job> = Vec::new();
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            let behind = stores.is_behind(at);
            if lane.busy || now < if behind { lane.retry_at } else { lane.look_at } {
                continue;
            }
            (lane.busy, lane.look_at) = (true, now + LOOK);
            let stores = Arc::clone(stores);
            jobs.push(match behind {
                true => Box::new(move || Done::Paid(at, stores.pay(at))),
                false => Box::new(move || {
                    // One that could not be asked is no matter: the next put shows what is wrong.
                    drop(stores.look_at(at));
                    Done::Looked(at)
                }),
            });
        }
        self.jobs += jobs.len();
        jobs
    }

    pub(super) fn paid(&mut self, at: usize, result: Result<()>, now: Instant) {
        self.status_due = true;
        let Some(lane) = self.lanes.get_mut(at) else { return };
        lane.busy = false;
        match result {
            Ok(()) => {
                lane.tries = 0;
                if let Some(stores) = &self.stores {
                    self.log(&format!("{}: up to date", stores.destination(at)));
                }
            }
            // It is there, and nobody can fill it: the database is taken up anew, from itself.
            Err(error) if error.status == Status::Integrity && lane.tries >= TRIES => {
                self.reopen(error, now);
            }
            Err(error) => {
                let first = lane.tries == 0;
                lane.retry_at = now + (RETRY_FIRST * 2u32.pow(lane.tries.min(10))).min(RETRY_LAST);
                lane.tries += 1;
                self.behind(error, first);
            }
        }
    }

    pub(super) fn looked(&mut self, at: usize) {
        if let Some(lane) = self.lanes.get_mut(at) {
            lane.busy = false;
        }
    }

    fn behind(&mut self, error: Error, first: bool) {
        if first {
            self.log(&error.to_string());
        }
        if error.status == Status::Locked || self.draining {
            self.status.counts.fences += u64::from(error.status == Status::Locked);
            self.fail(error);
        }
    }

    /// Whether a destination lacks anything.
    pub(super) fn owes(&self) -> bool {
        self.stores.as_ref().is_some_and(|stores| stores.any_behind())
    }

    /// All are tried at once: what waits for another try has it now.
    pub(super) fn hurry_lanes(&mut self, now: Instant) {
        self.lanes.iter_mut().for_each(|lane| lane.retry_at = now);
    }
}
