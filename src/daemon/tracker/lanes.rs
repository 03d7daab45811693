//! What waits for destinations: the listing that a snapshot begins with, and those that are behind,
//! when each one is tried again, and what that came to.

use super::life::pause_after;
use super::{Done, Job, RETRY_FIRST, Tracker};
use crate::daemon::open;
use crate::daemon::pool::Route;
use crate::error::{Error, Result, Status};
use crate::fanout::{Fanout, Inspection, Stock};
use crate::name::{Name, Part};
use crate::upkeep as round;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Whether it is known which parts of snapshots are there, which a snapshot begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Survey {
    None,
    Wanted,
    /// A job asks.
    Away,
    Done(Stock),
}

/// How long a mirror that was brought up to date is left alone. What it lacks then goes there at once;
/// and while a snapshot is stored, what it lacks is found out by listings.
pub(super) const MIRRORED: Duration = Duration::from_secs(5);
/// How long an end waits for mirrors: what they lack then they get after the next start.
pub(super) const MIRRORS: Duration = Duration::from_secs(5);
/// How often a destination waits in vain for another one to have all that it lacks.
const TRIES: u32 = 5;
/// How long after something was put one that takes everything is asked whether it still holds what was
/// acknowledged there; and how often it is asked while nothing is put: a bucket charges for it.
const LOOK: Duration = Duration::from_secs(60);
const LOOK_AT_REST: Duration = Duration::from_secs(3600);

/// What comes back from destinations that may be slow to answer. The next life does not wait for it,
/// and forgets what is of an earlier one.
#[derive(Debug)]
pub enum Abroad {
    /// Listed the parts of snapshots that there are.
    Surveyed(Result<Stock>),
    Renewed(Vec<Part>, Result<()>),
    /// Tried to bring one destination up to date; what it cannot be restored without, if it is.
    Paid(usize, Result<Option<Name>>),
    /// Looked whether one destination still holds what it did.
    Looked(usize),
    Kept(Result<round::Done>),
}

/// A job before it is counted.
pub(super) struct Journey {
    route: Route,
    work: Box<dyn FnOnce() -> Abroad + Send>,
}

impl Journey {
    pub(super) fn new(route: &Route, work: impl FnOnce() -> Abroad + Send + 'static) -> Self {
        Self { route: Arc::clone(route), work: Box::new(work) }
    }
}

/// Where one destination is with what it lacks.
#[derive(Clone, Copy, Debug)]
pub struct Lane {
    /// A job brings it up to date.
    busy: bool,
    tries: u32,
    retry_at: Instant,
    look_at: Instant,
    look: Inspection,
    /// It failed once all was to end: what it lacks is for the next start.
    given_up: bool,
}

/// Until when an end waits for mirrors, and whether that is over.
#[derive(Debug, Default)]
pub(super) struct Mirrors {
    until: Option<Instant>,
    are_left: bool,
    /// Somebody waits to take the database up: whatever is behind is for the next life, like a mirror.
    all: bool,
}

impl Tracker {
    pub(super) fn set_lanes(&mut self, count: usize, now: Instant) {
        let (busy, tries, look, given_up) = (false, 0, Inspection::Glance, false);
        let lane = Lane { busy, tries, retry_at: now, look_at: now + LOOK, look, given_up };
        self.lanes = vec![lane; count];
    }

    /// Jobs for what a destination may be slow to answer: the listing before a snapshot, those that
    /// are behind, and due, and upkeep.
    pub fn journeys(&mut self, now: Instant) -> Vec<Job> {
        let mut journeys = self.payments(now);
        journeys.extend(self.next_upkeep(now));
        journeys.into_iter().map(|journey| self.sent_out(journey)).collect()
    }

    pub(super) fn sent_out(&mut self, journey: Journey) -> Job {
        self.abroad += 1;
        let (life, Journey { route, work }) = (self.life, journey);
        Job::new(&route, move || Done::Abroad(life, work()))
    }

    /// Takes in what one of them brought back.
    pub(super) fn back(&mut self, life: u32, abroad: Abroad, now: Instant) {
        self.abroad -= 1;
        self.moved(now);
        self.next_look = now;
        match abroad {
            // Two rounds are never under way at once, whosever they are.
            Abroad::Kept(result) => self.kept(result, now),
            // A mirror that was left to itself is not waited for, nor left to itself any more.
            Abroad::Paid(at, _) | Abroad::Looked(at) if self.is_ended() => {
                self.lanes[at].busy = false;
            }
            _ if life != self.life => {}
            Abroad::Surveyed(result) => self.surveyed(result, now),
            Abroad::Renewed(parts, result) => self.renewed(parts, result, now),
            Abroad::Paid(at, result) => self.paid(at, result, now),
            Abroad::Looked(at) => self.lanes[at].busy = false,
        }
        self.leave();
        self.unlock();
    }

    pub(super) fn payments(&mut self, now: Instant) -> Vec<Journey> {
        let Some(stores) = self.stores.as_ref().filter(|_| !self.leaving) else {
            return Vec::new();
        };
        let mut jobs: Vec<Journey> = Vec::new();
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            let behind = stores.is_behind(at);
            if lane.busy || lane.given_up || now < if behind { lane.retry_at } else { lane.look_at }
            {
                continue;
            }
            (lane.busy, lane.look_at) = (true, now + LOOK_AT_REST);
            let how = std::mem::replace(&mut lane.look, Inspection::Glance);
            let (stores, database) = (Arc::clone(stores), Arc::clone(&self.database));
            jobs.push(Journey::new(&self.routes.each[at], move || {
                if !behind {
                    // One that could not be asked is no matter: the next put shows what is wrong.
                    drop(stores.look_at(at, how));
                    return Abroad::Looked(at);
                }
                let told = |error| open::tell_if_absent(error, &database.destinations[at]);
                Abroad::Paid(at, stores.pay(at).map_err(told))
            }));
        }
        if self.survey == Survey::Wanted && now >= self.retry_at {
            self.survey = Survey::Away;
            let (stores, snapshot) = (Arc::clone(stores), self.snapshot);
            let survey = move || Abroad::Surveyed(stores.survey(snapshot));
            jobs.push(Journey::new(&self.routes.all, survey));
        }
        if !self.renew.is_empty() && !self.renewing && now >= self.retry_at {
            self.renewing = true;
            let (stores, parts) = (Arc::clone(stores), std::mem::take(&mut self.renew));
            jobs.push(Journey::new(&self.routes.all, move || {
                let result = stores.renew(&parts);
                Abroad::Renewed(parts, result)
            }));
        }
        jobs
    }

    pub(super) fn surveyed(&mut self, result: Result<Stock>, now: Instant) {
        match result {
            Ok(stock) => self.survey = Survey::Done(stock),
            Err(error) => {
                self.survey = Survey::Wanted;
                self.put_failed(error, now);
            }
        }
    }

    pub(super) fn renewed(&mut self, parts: Vec<Part>, result: Result<()>, now: Instant) {
        self.renewing = false;
        if let Err(error) = result {
            self.renew.extend(parts);
            self.put_failed(error, now);
        }
    }

    pub(super) fn paid(&mut self, at: usize, result: Result<Option<Name>>, now: Instant) {
        self.status_due = true;
        self.lanes[at].busy = false;
        let may_be_filled = self.may_be_filled(at);
        let is_mirror = self.stores.as_ref().is_some_and(|stores| stores.is_mirror(at));
        let lane = &mut self.lanes[at];
        match result {
            Ok(lacking) => {
                let was_away = std::mem::take(&mut lane.tries) > 0;
                let Some(stores) = &self.stores else { return };
                let (is_mirror, place) = (stores.is_mirror(at), stores.destination(at).to_string());
                if is_mirror && !self.draining {
                    lane.retry_at = now + MIRRORED;
                }
                match lacking {
                    Some(object) => self.wants_a_snapshot(&place, &object),
                    None if was_away || !is_mirror => self.log(&format!("{place}: up to date")),
                    None => {}
                }
            }
            // Who can fill it may be brought up to date right now.
            Err(error) if error.status == Status::Integrity && may_be_filled => {
                lane.retry_at = now + RETRY_FIRST;
                lane.tries += 1;
            }
            // It is there, and nobody can fill it: the database is taken up anew, from itself. That is of
            // no use to a mirror.
            Err(error)
                if error.status == Status::Integrity && lane.tries >= TRIES && !is_mirror =>
            {
                self.reopen(error, now);
            }
            Err(error) => {
                let first = lane.tries == 0;
                lane.retry_at = now + pause_after(lane.tries);
                lane.tries += 1;
                self.behind(at, error, first);
            }
        }
    }

    /// What a destination was to be filled from is damaged: the database itself is whole.
    fn wants_a_snapshot(&mut self, place: &str, object: &Name) {
        self.snapshot_wanted.is = true;
        let cause = format!("{object} is damaged where it would be copied from");
        let error = Error::new(Status::Integrity, "copy to", place, cause);
        self.shown.tally.count(error.status);
        self.complain(&error.hint("the next snapshot makes it whole; run: bakelite repair"));
    }

    /// Whether an end has to wait for one that is behind, since another one is at it, or has just been.
    fn may_be_filled(&self, at: usize) -> bool {
        let Some(stores) = self.stores.as_ref().filter(|_| self.draining) else { return false };
        let mut others = self.lanes.iter().enumerate().filter(|(other, _)| *other != at);
        let tried = self.lanes[at].tries >= TRIES;
        others.any(|(other, lane)| lane.busy || !tried && !stores.is_behind(other))
    }

    fn behind(&mut self, at: usize, error: Error, first: bool) {
        self.shown.tally.count(error.status);
        if first {
            self.complain(&error);
        }
        let is_mirror = self.stores.as_ref().is_some_and(|stores| stores.is_mirror(at));
        if error.status == Status::Locked {
            self.status.count_fence(&error);
            self.fail(error);
        } else if self.draining && !is_mirror {
            // The end is a failure, once the others have everything.
            self.lanes[at].given_up = true;
            self.error.get_or_insert(error);
        }
    }

    /// Whether a destination lacks anything. Of a mirror that cannot have it nothing is asked.
    pub(super) fn owes(&self) -> bool {
        let waits = |lane: &Lane| !self.mirrors.are_left && (lane.tries == 0 || lane.busy);
        let owes = |stores: &Arc<Fanout>| {
            let mut lanes = self.lanes.iter().enumerate();
            let may_trail = |at| self.mirrors.all || stores.is_mirror(at);
            lanes.any(|(at, lane)| {
                stores.is_behind(at) && !lane.given_up && (!may_trail(at) || waits(lane))
            })
        };
        self.stores.as_ref().is_some_and(owes)
    }

    /// Another one waits for the place of this one, which is to end.
    pub fn make_way(&mut self) {
        self.mirrors.all = true;
    }

    /// An end leaves mirrors behind that have not got everything in a while.
    pub(super) fn leave_mirrors(&mut self, now: Instant) {
        if self.draining && now >= *self.mirrors.until.get_or_insert(now + MIRRORS) {
            self.mirrors.are_left = true;
            self.stores.iter().for_each(|stores| stores.leave(self.mirrors.all));
        }
    }

    /// Jobs that are left to themselves: those that bring a mirror up to date, and where another one waits to
    /// take the database up, a round of upkeep, which leaves off after the object at hand.
    pub(super) fn left(&self) -> usize {
        let is_mirror = |at: usize| {
            let destination = self.database.destinations.get(at);
            self.mirrors.all || destination.is_some_and(|it| self.database.mirrors.contains(it))
        };
        if !self.mirrors.are_left {
            return 0;
        }
        let lanes = self.lanes.iter().enumerate();
        let lanes = lanes.filter(|(at, lane)| lane.busy && is_mirror(*at)).count();
        lanes + usize::from(self.mirrors.all && self.upkeep.is_busy())
    }

    /// What was put may have been put beside nothing.
    pub(super) fn look_soon(&mut self, now: Instant) {
        self.lanes.iter_mut().for_each(|lane| lane.look_at = lane.look_at.min(now + LOOK));
    }

    pub(super) fn look_at_once(&mut self, now: Instant) {
        for lane in &mut self.lanes {
            (lane.look_at, lane.look) = (now, Inspection::Listing);
        }
    }

    /// All are tried at once: what waits for another try has it now.
    pub(super) fn hurry_lanes(&mut self, now: Instant) {
        for lane in &mut self.lanes {
            (lane.retry_at, lane.tries) = (now, 0);
        }
    }
}
