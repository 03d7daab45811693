//! One database as the daemon's loop sees it: what it is doing, what is due, what went wrong.
//!
//! Decides when to capture, ship, roll a snapshot, checkpoint and try again; does none of it. Every
//! method returns at once: what blocks is handed out as a job.

mod decide;
mod heal;
mod jobs;
mod lanes;
mod life;
mod pass;
mod shown;
mod upkeep;

use super::Shared;
use super::open::{self, Files, Lock, Order, Purpose};
use super::owed::Owed;
use crate::capture::Capture;
use crate::clock;
use crate::commit::Time;
use crate::config::{Database, Destination};
use crate::cursor::State;
use crate::error::{Error, Status};
use crate::fanout::{Fanout, Host};
use crate::name::Part;
use crate::ship::{Parcel, Resync, Shipper};
use crate::source::{Look, Seen};
use crate::status;
use jobs::{Compared, Parts, Routes};
pub use jobs::{Done, Job};
use lanes::Survey;
use life::Watched;
use pass::{Captured, pass};
use shown::Shown;
use upkeep::Upkeep;

pub use decide::SHIP_FILE;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

const IDLE_POLL: Duration = Duration::from_millis(50);
/// How often the wal-index is looked at while nothing is pinned, or many frames come.
const FAST_POLL: Duration = Duration::from_millis(1);
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(5);
/// After commits were missed while nothing was pinned, the WAL is pinned all the time for so long;
/// each time four times longer, since a writer that never rests is slowed down meanwhile.
const CAREFUL_FIRST: Duration = Duration::from_secs(10);
const CAREFUL_LAST: Duration = Duration::from_secs(3600);
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// How late it may be where nothing is shipped that would take it along.
const STATUS_LATE: Duration = Duration::from_secs(4);
/// How long a database that rests is only asked whether anything has changed.
const REST: Duration = Duration::from_secs(1);

/// A resync that is to be done, with the state that it begins at.
#[derive(Debug)]
struct Healing {
    base: State,
    /// `None`: not begun, or being worked on.
    resync: Option<Box<Resync>>,
}

#[derive(Debug)]
enum Phase {
    Closed,
    /// A job has it.
    Away,
    Here(Box<Capture>),
    Ended,
}

#[derive(Debug)]
pub struct Tracker {
    database: Arc<Database>,
    watched: Watched,
    routes: Routes,
    phase: Phase,
    lock: Option<Arc<Lock>>,
    /// Those of the database, as opened last.
    files: Option<Files>,
    stores: Option<Arc<Fanout>>,
    /// The places of its destinations.
    hosts: Vec<Arc<Host>>,
    lanes: Vec<lanes::Lane>,
    /// Not here while it ships.
    shipper: Option<Box<Shipper>>,
    parcel: Option<Box<Parcel>>,
    parts: Parts,
    survey: Survey,
    /// Parts that are stored and to be kept from being removed, and whether a job does so.
    renew: Vec<Part>,
    renewing: bool,
    /// When the next part may be read: a snapshot may be told to take its time.
    part_at: Instant,
    /// Every part was read before the last complete pass of capture.
    snapshot_ready: bool,
    /// A shipment ended while the capture was away.
    shipped_meanwhile: bool,
    begin_snapshot: bool,
    /// Nothing is captured until it is done.
    healing: Option<Healing>,
    /// Commits were missed: what was captured is shipped, then the database taken up anew.
    lost: bool,
    /// No new jobs; taken up anew once the last one is back.
    leaving: bool,
    draining: bool,
    mirrors: lanes::Mirrors,
    /// Not to be watched any more, or not like this.
    retired: bool,
    /// A complete pass of capture began after the order to drain.
    drained: bool,
    checkpointing: bool,
    upkeep: Upkeep,
    /// Counts how often the database was let go of.
    life: u32,
    /// Handed out, and not back yet; and those that no other life waits for.
    jobs: usize,
    abroad: usize,
    opened_once: bool,
    /// The only database: if it cannot be opened, there is nothing to run for.
    alone: bool,
    /// It may yet be made, by an application that waits until that is known.
    awaited: bool,
    retries: u32,
    retry_at: Instant,
    /// The same for all databases of the daemon.
    epoch: Instant,
    next_look: Instant,
    /// What was seen when there was nothing to do, and until when only a change of it is looked for.
    resting: Option<(Look, Instant)>,
    last_news: Instant,
    /// Something was published that is not captured yet.
    news: bool,
    asked: decide::Asked,
    last_ship: Option<Instant>,
    last_frames: u32,
    /// Where the rate of frames was last measured.
    paced_frames: u32,
    paced_at: Instant,
    /// How many frames the WAL had when it was last reset, and whether it is being filled fast: what
    /// is pinned then is let go of before the next reset is due, so that no writer ever waits for it.
    cycle: u32,
    fast: bool,
    careful_until: Option<Instant>,
    losses: u32,
    unchecked_since: Option<Instant>,
    error: Option<Error>,
    rolling: Option<(u32, u32)>,
    status: status::Record,
    status_due: bool,
    status_at: Instant,
    /// What each destination lacks, and since when.
    owed: Vec<Owed>,
    /// When the last snapshot was finished; 0: nothing can be restored.
    snapshot: Time,
    /// When this run has finished one.
    snapshot_since: Option<Instant>,
    /// When it is next asked whether a snapshot that is due is worth it.
    put_off: Option<Instant>,
    /// A destination cannot be restored before there is one.
    snapshot_wanted: decide::Request,
    shown: Shown,
    /// When the file is next asked whether it is still the one taken up.
    identified_at: Instant,
    gone_since: Option<Instant>,
    /// The timeline claimed last, or tried to: a later one is somebody else's.
    claimed: Arc<AtomicU32>,
    /// The database is not what was captured: the next life begins with a resync.
    distrust: bool,
}

impl Tracker {
    pub fn new(database: &Database, alone: bool, now: Instant) -> Self {
        Self {
            database: Arc::new(database.clone()),
            watched: Watched::Unknown,
            routes: Routes::new(database),
            phase: Phase::Closed,
            lock: None,
            files: None,
            stores: None,
            hosts: database.destinations.iter().map(|_| Arc::default()).collect(),
            lanes: Vec::new(),
            shipper: None,
            parcel: None,
            parts: Parts::default(),
            survey: Survey::None,
            renew: Vec::new(),
            renewing: false,
            part_at: now,
            snapshot_ready: false,
            shipped_meanwhile: false,
            begin_snapshot: false,
            healing: None,
            lost: false,
            leaving: false,
            draining: false,
            mirrors: lanes::Mirrors::default(),
            retired: false,
            drained: false,
            checkpointing: false,
            upkeep: Upkeep::new(now),
            life: 0,
            jobs: 0,
            abroad: 0,
            opened_once: false,
            alone,
            awaited: false,
            retries: 0,
            retry_at: now,
            epoch: now,
            next_look: now,
            resting: None,
            last_news: now,
            news: false,
            asked: decide::Asked::default(),
            last_ship: None,
            last_frames: 0,
            paced_frames: 0,
            paced_at: now,
            cycle: u32::MAX,
            fast: false,
            careful_until: None,
            losses: 0,
            unchecked_since: None,
            error: None,
            rolling: None,
            status: status::Record::of_next_life(database),
            status_due: true,
            status_at: now,
            owed: vec![Owed::default(); database.destinations.len()],
            snapshot: Time(0),
            snapshot_since: None,
            put_off: None,
            snapshot_wanted: decide::Request::default(),
            shown: Shown::new(now),
            identified_at: now,
            gone_since: None,
            claimed: Arc::default(),
            distrust: false,
        }
    }

    /// What is read of snapshots is bounded together with others that go the same way, and what all of them
    /// see of a place each of them knows.
    pub(super) fn share(&mut self, shared: &mut Shared) {
        let Shared { rooms, hosts } = shared;
        self.parts.room = rooms.entry(Arc::clone(&self.routes.all)).or_default().clone();
        let host = |it: &Destination| Arc::clone(hosts.entry(it.host()).or_default());
        self.hosts = self.database.destinations.iter().map(host).collect();
    }

    /// Asks for one more complete pass, and the end.
    pub fn drain(&mut self) {
        self.draining = true;
        self.upkeep.stop();
        self.resting = None;
        self.next_look = clock::instant();
        self.identified_at = self.next_look;
        // What waits for another try has it now, and if that fails, the end is a failure.
        self.retry_at = self.next_look;
        self.hurry_lanes(self.next_look);
    }

    pub fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    pub fn take_error(&mut self) -> Option<Error> {
        self.error.take()
    }

    pub fn due(&self, now: Instant) -> bool {
        self.next_turn() <= now
    }

    pub fn next_turn(&self) -> Instant {
        match self.phase {
            Phase::Closed if self.jobs == 0 => self.retry_at,
            Phase::Here(_) if self.parts.wait && self.parts.have_room() => self.epoch,
            Phase::Here(_) => self.next_look,
            Phase::Closed | Phase::Away | Phase::Ended => self.next_look.max(self.retry_at),
        }
    }

    /// Looks at the database, and says what there is to do.
    pub fn turn(&mut self, now: Instant) -> Option<Job> {
        let stuck = self.retries > 0 || self.parts.refusals > 0 || self.shipper.is_none();
        let late = stuck && now >= self.status_at + STATUS_LATE;
        if late || now.duration_since(self.last_news) >= STATUS_EVERY {
            // Else a shipment takes it along: a disk that is slow must not keep the loop from looking.
            self.write_status(now);
        }
        if !matches!(self.phase, Phase::Away) {
            self.moved(now);
        }
        self.leave_mirrors(now);
        self.listen(now);
        let job = self.next_job(now);
        self.jobs += usize::from(job.is_some());
        job
    }

    fn next_job(&mut self, now: Instant) -> Option<Job> {
        match std::mem::replace(&mut self.phase, Phase::Away) {
            Phase::Closed if self.jobs == 0 => {
                let database = Arc::clone(&self.database);
                self.next_look = now + IDLE_POLL;
                let purpose = if self.draining { Purpose::Sync } else { Purpose::Daemon };
                self.asked.by_pass = purpose == Purpose::Sync;
                let order = Order {
                    purpose,
                    claimed: Arc::clone(&self.claimed),
                    distrust: self.distrust,
                    replaced: self.replaced(now),
                    hosts: self.hosts.clone(),
                };
                let mut lock = self.lock.clone();
                Some(Job::new(&self.routes.all, move || {
                    let live = open::open(&database, order, &mut lock);
                    Done::Opened(live.map(Box::new), lock)
                }))
            }
            Phase::Here(capture) if self.is_resting(&capture, now) => {
                self.phase = Phase::Here(capture);
                self.wait(IDLE_POLL, now);
                None
            }
            Phase::Here(capture) => self.look(capture, now),
            other => {
                self.phase = other;
                self.next_look = now + IDLE_POLL;
                None
            }
        }
    }

    fn look(&mut self, mut capture: Box<Capture>, now: Instant) -> Option<Job> {
        self.parts.wait = false;
        let look = capture.source.look();
        let seen = capture.source.seen(look.as_ref());
        if matches!(seen, Seen::Reset | Seen::Torn) {
            self.pin_at_once(&mut capture);
        }
        if let Some(look) = &look {
            capture.note(look, clock::now());
            self.pace(look, seen, capture.source.pin(), now);
        } else {
            self.next_look = now + FAST_POLL;
        }
        self.notice_another_file(seen, now);
        if self.is_finished(&capture) {
            self.end(*capture);
            return None;
        }
        self.leaving |= self.lost && capture.is_drained() && self.parcel.is_none();
        if self.leaving {
            self.let_go(&mut capture, look.as_ref());
            self.phase = Phase::Here(capture);
            self.leave();
            return None;
        }
        let capture = match self.heal(capture, now) {
            Ok(job) => return job,
            Err(capture) => capture,
        };
        let mut capture = match self.large(capture, now) {
            Ok(job) => return Some(job),
            Err(capture) => capture,
        };
        for part in self.parts.refused.drain(..) {
            capture.go_back_to(&part);
            self.snapshot_ready = false;
        }
        let orders = self.orders(&capture, look.as_ref(), seen, now);
        let Some(orders) = orders else {
            self.rest(&mut capture, look.as_ref(), seen, now);
            let still = seen == Seen::Nothing && self.is_idle(&capture, now);
            self.resting = look.filter(|_| still).map(|look| (look, now + REST));
            self.phase = Phase::Here(capture);
            return self.checkpoint(look.as_ref(), now);
        };
        let stores = self.stores.clone();
        let seat = orders.part.then(|| self.parts.room.seat());
        Some(Job::new(&self.routes.local, move || {
            let stored = |part: &_| stores.as_ref().is_some_and(|stores| stores.has_part(part));
            let captured = pass(&mut capture, orders, &stored);
            Done::Captured(capture, captured, seat)
        }))
    }

    /// Takes in what a job brought back.
    pub fn done(&mut self, done: Done, now: Instant) {
        if let Done::Abroad(life, abroad) = done {
            return self.back(life, abroad, now);
        }
        self.jobs -= 1;
        self.moved(now);
        if let Phase::Closed | Phase::Ended = self.phase {
            self.next_look = now;
            self.too_late(&done);
            return;
        }
        let idle = matches!(&done, Done::Captured(_, Captured { batch: None, part: None, .. }, _));
        let idle = idle && !self.draining;
        self.next_look = if idle { now + self.pause(now) } else { now };
        match done {
            Done::Opened(result, lock) => self.opened(result, lock, now),
            Done::Captured(capture, captured, seat) => {
                self.captured(capture, captured, seat, now);
            }
            Done::Shipped(shipper, parcel, result) => {
                self.shipper = Some(shipper);
                match result {
                    Ok(()) => self.shipped(parcel.batch.manifest.is_some(), now),
                    Err(error) => {
                        self.parcel = Some(parcel);
                        self.failed(error, now);
                    }
                }
            }
            Done::LargeShipped(capture, shipper, result) => {
                self.shipper = Some(shipper);
                if result.is_ok() {
                    self.all_is_well(capture.last().number);
                }
                self.phase = Phase::Here(capture);
                if let Err(error) = result {
                    self.failed(error, now);
                }
            }
            Done::Compared(capture, shipper, result) => {
                self.shipper = Some(shipper);
                let commit = capture.last().number;
                self.phase = Phase::Here(capture);
                self.compared(commit, result, now);
            }
            Done::Stored(held, result) => self.stored(held, result, now),
            Done::Abroad(..) => unreachable!("taken in above"),
            Done::Checkpointed(result) => {
                self.checkpointing = false;
                self.unchecked_since = None;
                if let Err(error) = result {
                    self.shown.tally.count(error.status);
                    self.complain(&error);
                }
            }
        }
        self.leave();
    }

    /// What was to be shipped was not. It is tried again, unless what is known of the database is in doubt.
    fn failed(&mut self, error: Error, now: Instant) {
        match error.status {
            Status::Integrity => self.reopen(error, now),
            _ => self.put_failed(error, now),
        }
    }
}

#[cfg(test)]
mod tests;
