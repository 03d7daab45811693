//! What blocks is handed out as a job, with what it may have to wait for; and what comes back.

use super::Tracker;
use super::lanes::Abroad;
use super::pass::Captured;
use crate::capture::{Capture, RawPart};
use crate::config::{Database, Destination};
use crate::daemon::open::{Live, Lock};
use crate::daemon::pool::Route;
use crate::daemon::room::{Room, Seat};
use crate::error::Result;
use crate::name::Part;
use crate::ship::{Healed, Parcel, Resync, Shipper};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

pub struct Job {
    pub route: Route,
    pub work: Box<dyn FnOnce() -> Done + Send>,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Job({:?})", self.route)
    }
}

impl Job {
    pub(super) fn new(route: &Route, work: impl FnOnce() -> Done + Send + 'static) -> Self {
        Self { route: Arc::clone(route), work: Box::new(work) }
    }
}

/// What a job brings back.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a handful of them are on their way at a time")]
pub enum Done {
    /// And the lock, if that was to be had.
    Opened(Result<Box<Live>>, Option<Arc<Lock>>),
    /// And the place of the part that was to be read.
    Captured(Box<Capture>, Captured, Option<Seat>),
    Shipped(Box<Shipper>, Box<Parcel>, Result<()>),
    LargeShipped(Box<Capture>, Box<Shipper>, Result<()>),
    Compared(Box<Capture>, Box<Shipper>, Result<Compared>),
    Stored(Held, Result<()>),
    Checkpointed(Result<()>),
    /// With the number of the life that it was sent out in.
    Abroad(u32, Abroad),
}

/// A part of a snapshot in memory, and its place there.
#[derive(Debug)]
pub struct Held {
    pub(super) raw: RawPart,
    pub(super) _seat: Option<Seat>,
}

/// The parts of a snapshot that are in memory.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// To be stored, and being stored.
    pub next: Vec<Held>,
    pub storing: usize,
    /// Those that were refused since the capture was here. They are read again: what nobody takes is not
    /// kept in memory, nor in the way of others.
    pub refused: Vec<Part>,
    /// Since one was taken; and when the next one may be read.
    pub refusals: u32,
    pub retry_at: Option<Instant>,
    pub room: Room,
    /// There was no room for the next one.
    pub wait: bool,
}

impl Parts {
    /// Whether the next one may be read. Where one was refused, a single one is tried.
    pub fn have_room(&self) -> bool {
        let has = self.count();
        self.room.takes(has) && (has == 0 || self.refusals == 0)
    }

    /// Whether the snapshot does not go on for now: others have all the room, or nobody takes what it has.
    pub fn are_stalled(&self) -> bool {
        self.refusals > 0 || self.wait && self.count() == 0
    }

    fn count(&self) -> usize {
        self.next.len() + self.storing
    }

    pub fn are_stored(&self) -> bool {
        self.next.is_empty() && self.storing == 0 && self.refused.is_empty()
    }

    pub fn forget(&mut self) {
        self.next.clear();
        self.refused.clear();
        self.take_heart();
    }

    /// What was refused before says nothing any more.
    pub fn take_heart(&mut self) {
        (self.refusals, self.retry_at) = (0, None);
    }
}

/// How far a resync came.
#[derive(Debug)]
pub enum Compared {
    Some(Box<Resync>),
    All(Healed),
}

/// The ways of a database's jobs.
#[derive(Debug)]
pub(super) struct Routes {
    /// To the database, and no destination.
    pub local: Route,
    /// To all of its destinations.
    pub all: Route,
    /// To each of them, for what nobody waits for.
    pub each: Vec<Route>,
    pub upkeep: Route,
}

impl Routes {
    pub fn new(database: &Database) -> Self {
        let each = || database.destinations.iter().map(Destination::host);
        let all = each().collect::<Vec<_>>().join("\n");
        Self {
            local: "".into(),
            upkeep: format!("upkeep of {all}").into(),
            each: each().map(|host| format!("debts of {host}").into()).collect(),
            all: all.into(),
        }
    }
}

impl Tracker {
    /// The job for a transaction too large to be held, once its turn has come.
    pub(super) fn large(
        &mut self,
        mut capture: Box<Capture>,
        now: Instant,
    ) -> std::result::Result<Job, Box<Capture>> {
        let due = capture.large().is_some() && self.parcel.is_none() && now >= self.retry_at;
        let Some(mut shipper) = self.shipper.take_if(|_| due) else { return Err(capture) };
        Ok(Job::new(&self.routes.all, move || {
            let before = capture.state();
            let result = shipper.ship_large(&mut capture, &before).map(drop);
            Done::LargeShipped(capture, shipper, result)
        }))
    }

    /// What is to be shipped next: a batch, or else a part of a snapshot.
    pub fn next_shipment(&mut self, now: Instant) -> Option<Job> {
        let job = self.shipment(now);
        self.jobs += usize::from(job.is_some());
        job
    }

    fn shipment(&mut self, now: Instant) -> Option<Job> {
        let due = self.shipper.is_some() && self.parcel.is_some() && now >= self.retry_at;
        if !due {
            return self.parts.next.pop().and_then(|held| self.store(held));
        }
        if !self.parts.next.is_empty() {
            self.next_look = now;
        }
        let mut parcel = self.parcel.take()?;
        let mut shipper = self.shipper.take()?;
        self.last_ship = Some(now);
        let (status, database) = (self.take_status(now), Arc::clone(&self.database));
        self.asked.is = false;
        Some(Job::new(&self.routes.all, move || {
            let result = shipper.ship(&mut parcel);
            if let Some(status) = status {
                status.write(&database);
            }
            Done::Shipped(shipper, parcel, result)
        }))
    }

    fn store(&mut self, held: Held) -> Option<Job> {
        let stores = Arc::clone(self.stores.as_ref()?);
        self.parts.storing += 1;
        Some(Job::new(&self.routes.all, move || {
            let result = stores.put_part(&held.raw);
            Done::Stored(held, result)
        }))
    }

    pub(super) fn stored(&mut self, held: Held, result: Result<()>, now: Instant) {
        self.parts.storing -= 1;
        match result {
            Ok(()) => self.parts.take_heart(),
            Err(error) => {
                self.parts.refused.push(held.raw.part);
                self.part_failed(error, now);
            }
        }
    }
}
