//! One database as the daemon's loop sees it: what it is doing, what is due, what went wrong.
//!
//! Decides when to capture, ship, roll a snapshot, checkpoint and try again; does none of it. Every
//! method returns at once: what blocks is handed out as a job.

use super::open::{self, Live, Purpose};
use crate::capture::{Batch, Capture, Finish, RawPart};
use crate::clock;
use crate::config::Database;
use crate::error::{Error, Result, Status};
use crate::ship::{Parcel, Shipper, Stores};
use crate::source::{Caught, Look, Pin, Seen, Trouble};
use crate::sqlite::Session;
use crate::status;
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub type Job = Box<dyn FnOnce() -> Done + Send>;

/// A database that nobody has written to for this long is looked at less often.
const BUSY: Duration = Duration::from_secs(2);
const IDLE_POLL: Duration = Duration::from_millis(50);
/// How often the wal-index is looked at while nothing is pinned, or many frames come.
const FAST_POLL: Duration = Duration::from_millis(1);
/// Frames a second that make a writer a fast one: it fills a usual WAL in half a second.
const FAST_RATE: f64 = 2000.0;
/// Frames left in a pinned WAL before they are captured without waiting for the next shipment.
const PENDING_FRAMES: u32 = 1000;
/// Parts of a snapshot in memory at the same time.
const PARTS: usize = 3;
const SHIP_FILE: Duration = Duration::from_millis(200);
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(5);
/// After commits were missed while nothing was pinned, the WAL is pinned all the time for so long.
const CAREFUL: Duration = Duration::from_secs(3600);
/// How long a WAL past `checkpoint_pages` is left to others to checkpoint.
const CHECKPOINT_AFTER: Duration = Duration::from_secs(1);
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// What a job brings back.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a handful of them are on their way at a time")]
pub enum Done {
    Opened(Result<Box<Live>>),
    Captured(Box<Capture>, Captured),
    Shipped(Box<Shipper>, Box<Parcel>, Result<()>),
    LargeShipped(Box<Capture>, Box<Shipper>, Result<()>),
    Stored(RawPart, Result<()>),
    Checkpointed(Result<()>),
}

/// What one pass of capture gave.
#[derive(Debug)]
pub struct Captured {
    batch: Option<Batch>,
    part: Option<RawPart>,
    /// A snapshot was begun.
    began: bool,
    part_is_due: bool,
    /// Everything published when it began was captured.
    complete: bool,
    drain: bool,
    result: std::result::Result<(), Trouble>,
}

/// What a pass of capture is asked for.
#[derive(Clone, Copy, Debug, Default)]
struct Orders {
    begin_snapshot: bool,
    begin_roll: bool,
    capture: bool,
    drain: bool,
    cut: bool,
    part: bool,
    finish: bool,
    /// Whether the WAL may be left unpinned, and whether it should be even before a checkpoint.
    free: bool,
    soon: bool,
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
    phase: Phase,
    lock: Option<File>,
    stores: Option<Arc<Stores>>,
    /// Not here while it ships.
    shipper: Option<Box<Shipper>>,
    parcel: Option<Box<Parcel>>,
    /// Parts of a snapshot being stored, and those to be stored again.
    parts: usize,
    again: Vec<RawPart>,
    /// Every part was read before the last complete pass of capture.
    snapshot_ready: bool,
    /// A shipment ended while the capture was away.
    shipped_meanwhile: bool,
    begin_snapshot: bool,
    /// Commits were missed: what was captured is shipped, then the database taken up anew.
    lost: bool,
    /// No new jobs; taken up anew once the last one is back.
    leaving: bool,
    draining: bool,
    /// A complete pass of capture began after the order to drain.
    drained: bool,
    checkpointing: bool,
    /// Handed out, and not back yet.
    jobs: usize,
    opened_once: bool,
    /// The only database: if it cannot be opened, there is nothing to run for.
    alone: bool,
    retries: u32,
    retry_at: Instant,
    next_look: Instant,
    last_news: Instant,
    last_ship: Option<Instant>,
    last_frames: u32,
    last_look: Instant,
    /// How many frames the WAL had when it was last reset, and whether it is being filled fast: what
    /// is pinned then is let go of before the next reset is due, so that no writer ever waits for it.
    cycle: u32,
    fast: bool,
    careful_until: Option<Instant>,
    unchecked_since: Option<Instant>,
    error: Option<Error>,
    rolling: Option<(u32, u32)>,
    status: status::Record,
    status_due: bool,
    status_at: Instant,
}

impl Tracker {
    pub fn new(database: &Database, alone: bool, now: Instant) -> Self {
        Self {
            database: Arc::new(database.clone()),
            phase: Phase::Closed,
            lock: None,
            stores: None,
            shipper: None,
            parcel: None,
            parts: 0,
            again: Vec::new(),
            snapshot_ready: false,
            shipped_meanwhile: false,
            begin_snapshot: false,
            lost: false,
            leaving: false,
            draining: false,
            drained: false,
            checkpointing: false,
            jobs: 0,
            opened_once: false,
            alone,
            retries: 0,
            retry_at: now,
            next_look: now,
            last_news: now,
            last_ship: None,
            last_frames: 0,
            last_look: now,
            cycle: u32::MAX,
            fast: false,
            careful_until: None,
            unchecked_since: None,
            error: None,
            rolling: None,
            status: status::Record::default(),
            status_due: false,
            status_at: now,
        }
    }

    /// Asks for one more complete pass, and the end.
    pub fn drain(&mut self) {
        self.draining = true;
        self.next_look = clock::instant();
        // What waits for another try has it now, and if that fails, the end is a failure.
        self.retry_at = self.next_look;
    }

    pub fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    pub fn take_error(&mut self) -> Option<Error> {
        self.error.take()
    }

    /// Pages done and in all of the snapshot under way.
    pub fn rolling(&self) -> Option<(u64, u64)> {
        self.rolling.map(|(done, total)| (done.into(), total.into()))
    }

    pub fn due(&self, now: Instant) -> bool {
        self.next_turn() <= now
    }

    pub fn next_turn(&self) -> Instant {
        match self.phase {
            Phase::Closed if self.jobs == 0 => self.retry_at,
            Phase::Here(_) => self.next_look,
            Phase::Closed | Phase::Away | Phase::Ended => self.next_look.max(self.retry_at),
        }
    }

    /// Looks at the database, and says what there is to do.
    pub fn turn(&mut self, now: Instant) -> Option<Job> {
        self.write_status(now);
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
                Some(Box::new(move || Done::Opened(open::open(&database, purpose).map(Box::new))))
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
        let look = capture.source.look();
        let seen = capture.source.seen(look.as_ref());
        if let Some(look) = &look {
            capture.note(look, clock::now());
            self.pace(look, seen, capture.source.pin(), now);
        } else {
            self.next_look = now + FAST_POLL;
        }
        if self.is_finished(&capture) {
            self.end(*capture);
            return None;
        }
        self.leaving |= self.lost && capture.is_drained() && self.parcel.is_none();
        if self.leaving {
            self.leave(capture);
            return None;
        }
        let mut capture = match self.large(capture, now) {
            Ok(job) => return Some(job),
            Err(capture) => capture,
        };
        let orders = self.orders(&capture, look.as_ref(), seen, now);
        let Some(orders) = orders else {
            self.rest(&mut capture, look.as_ref(), seen, now);
            self.phase = Phase::Here(capture);
            return self.checkpoint(look.as_ref(), now);
        };
        Some(Box::new(move || {
            let captured = pass(&mut capture, orders);
            Done::Captured(capture, captured)
        }))
    }

    /// When to look again.
    fn pace(&mut self, look: &Look, seen: Seen, pin: Pin, now: Instant) {
        if !matches!(seen, Seen::Nothing | Seen::Torn) {
            self.last_news = now;
            self.status_due = true;
        }
        if seen == Seen::Reset {
            self.cycle = self.last_frames;
            self.fast |= self.cycle > look.frames;
        } else {
            let seconds = now.duration_since(self.last_look).as_secs_f64().max(1e-4);
            let rate = f64::from(look.frames.saturating_sub(self.last_frames)) / seconds;
            self.fast = rate > FAST_RATE;
        }
        self.last_frames = look.frames;
        self.last_look = now;
        self.status.wal_frames = look.frames.into();
        let pause = match now.duration_since(self.last_news) {
            _ if self.fast || pin == Pin::Free => FAST_POLL,
            quiet if quiet < BUSY => self.database.settings.poll_interval,
            _ => self.database.settings.poll_interval.max(IDLE_POLL),
        };
        self.next_look = now + pause;
    }

    fn ship_is_due(&self, now: Instant) -> bool {
        let interval = self.database.settings.ship_interval.unwrap_or(SHIP_FILE);
        self.shipper.is_some()
            && self.parcel.is_none()
            && (self.draining || self.last_ship.is_none_or(|last| now >= last + interval))
    }

    /// Whether the last snapshot is old, and something was committed since.
    fn snapshot_is_due(&self, capture: &Capture) -> bool {
        let (snapshot, last) = (capture.snapshot(), capture.last());
        let interval = self.database.settings.snapshot_interval.as_millis();
        snapshot.0 > 0
            && last.time > snapshot
            && u128::from(clock::now().0.saturating_sub(snapshot.0)) >= interval
    }

    /// What the next pass of capture has to do; `None` if there is nothing to do yet.
    fn orders(
        &mut self,
        capture: &Capture,
        look: Option<&Look>,
        seen: Seen,
        now: Instant,
    ) -> Option<Orders> {
        let due = self.ship_is_due(now);
        let rolling = capture.rolling().is_some();
        // Once drained, what comes later is left to the next run: a fast writer never ends.
        let last = self.drained && !rolling && !self.begin_snapshot;
        let idle = last || self.lost;
        let news = !idle && !matches!(seen, Seen::Nothing | Seen::Torn);
        let begin_snapshot = self.begin_snapshot && due && capture.is_drained();
        let begin_roll = !rolling && !idle && !self.draining && self.snapshot_is_due(capture);
        let finish = rolling
            && !self.lost
            && due
            && self.snapshot_ready
            && self.parts == 0
            && self.again.is_empty();
        let free = self.careful_until.is_none_or(|until| now >= until);
        let near = self.cycle.saturating_sub(self.cycle / 4);
        let soon = self.fast && look.is_some_and(|look| look.frames >= near);
        let orders = Orders {
            begin_snapshot,
            begin_roll,
            capture: !idle && (begin_snapshot || !self.begin_snapshot),
            drain: self.draining,
            cut: due && ((news && !self.begin_snapshot) || capture.has_batch() || finish),
            part: rolling
                && !self.begin_snapshot
                && !self.lost
                && !capture.parts_are_read()
                && self.parts + self.again.len() < PARTS,
            finish,
            free,
            soon,
        };
        let captured = capture.source.mark().position.frame;
        let pinned = matches!(capture.source.pin(), Pin::Hold(_));
        let pending = look.is_some_and(|look| {
            look.backfilled > captured
                || (soon && free)
                || look.frames.abs_diff(captured) >= PENDING_FRAMES
        });
        let urgent = news
            && !self.begin_snapshot
            && !capture.is_full()
            && (!pinned || pending || seen != Seen::Commits);
        let settle = rolling && !self.lost && capture.parts_are_read() && !self.snapshot_ready;
        let drain = self.draining && !self.drained && !self.begin_snapshot && !self.lost;
        let drain = drain && !capture.is_full();
        let begin = begin_snapshot || begin_roll;
        let wanted = urgent || orders.cut || begin || orders.part || settle || drain;
        wanted.then_some(orders)
    }

    /// Nothing to capture: lets go of the WAL if it can be reset without a loss, and of one that has
    /// grown too long behind a destination that does not take anything.
    fn rest(&mut self, capture: &mut Capture, look: Option<&Look>, seen: Seen, now: Instant) {
        let Some(look) = look else { return };
        let held = matches!(capture.source.pin(), Pin::Hold(_));
        let quiet = seen == Seen::Nothing && look.backfilled == look.frames;
        let result = if held && quiet && capture.rolling().is_none() && capture.large().is_none() {
            capture.source.zero().map(drop)
        } else if held && capture.is_full() && self.wal_bytes(capture, look) > self.wal_max() {
            self.careful_until = Some(now + CAREFUL);
            capture.source.release()
        } else {
            Ok(())
        };
        if let Err(error) = result {
            self.log(&format!("pin: {error}"));
        }
    }

    fn wal_max(&self) -> u64 {
        self.database.settings.wal_max
    }

    fn wal_bytes(&self, capture: &Capture, look: &Look) -> u64 {
        u64::from(look.frames) * capture.state().page_size.bytes() as u64
    }

    /// A checkpoint of our own, if the WAL is long and nobody else does one.
    fn checkpoint(&mut self, look: Option<&Look>, now: Instant) -> Option<Job> {
        let pages = self.database.settings.checkpoint_pages;
        let long = look.is_some_and(|look| look.frames - look.backfilled.min(look.frames) >= pages);
        if !long || self.checkpointing {
            self.unchecked_since = None;
            return None;
        }
        let since = *self.unchecked_since.get_or_insert(now);
        if now.duration_since(since) < CHECKPOINT_AFTER {
            return None;
        }
        self.checkpointing = true;
        let path = self.database.path.clone();
        Some(Box::new(move || {
            let done = Session::open(&path).and_then(|session| session.checkpoint());
            Done::Checkpointed(
                done.map_err(|error| {
                    Error::new(Status::Failed, "checkpoint", path.display(), error)
                }),
            )
        }))
    }

    /// The job for a transaction too large to be held, once its turn has come.
    fn large(
        &mut self,
        mut capture: Box<Capture>,
        now: Instant,
    ) -> std::result::Result<Job, Box<Capture>> {
        let due = capture.large().is_some() && self.parcel.is_none() && now >= self.retry_at;
        let Some(mut shipper) = self.shipper.take_if(|_| due) else { return Err(capture) };
        Ok(Box::new(move || {
            let before = capture.state();
            let result = shipper.ship_large(&mut capture, &before).map(drop);
            Done::LargeShipped(capture, shipper, result)
        }))
    }

    /// What is to be shipped next: a batch, or a part of a snapshot that failed before.
    pub fn next_shipment(&mut self, now: Instant) -> Option<Job> {
        let job = self.shipment(now);
        self.jobs += usize::from(job.is_some());
        job
    }

    fn shipment(&mut self, now: Instant) -> Option<Job> {
        if now < self.retry_at {
            return None;
        }
        if let Some(raw) = self.again.pop() {
            return self.store(raw);
        }
        self.shipper.as_ref()?;
        let mut parcel = self.parcel.take()?;
        let mut shipper = self.shipper.take()?;
        self.last_ship = Some(now);
        Some(Box::new(move || {
            let result = shipper.ship(&mut parcel);
            Done::Shipped(shipper, parcel, result)
        }))
    }

    fn store(&mut self, raw: RawPart) -> Option<Job> {
        let stores = Arc::clone(self.stores.as_ref()?);
        self.parts += 1;
        Some(Box::new(move || {
            let result = stores.put_part(&raw);
            Done::Stored(raw, result)
        }))
    }

    /// Takes in what a job brought back.
    pub fn done(&mut self, done: Done, now: Instant) {
        self.jobs -= 1;
        if let Phase::Closed | Phase::Ended = self.phase {
            self.next_look = now;
            self.too_late(&done);
            return;
        }
        let idle = matches!(&done, Done::Captured(_, Captured { batch: None, part: None, .. }));
        if !idle || self.draining {
            self.next_look = now;
        }
        match done {
            Done::Opened(result) => self.opened(result, now),
            Done::Captured(capture, captured) => self.captured(capture, captured, now),
            Done::Shipped(shipper, parcel, result) => {
                self.shipper = Some(shipper);
                match result {
                    Ok(()) => self.shipped(&parcel.batch),
                    Err(error) => {
                        self.parcel = Some(parcel);
                        self.put_failed(error, now);
                    }
                }
            }
            Done::LargeShipped(capture, shipper, result) => {
                self.shipper = Some(shipper);
                if result.is_ok() {
                    self.all_is_well(&capture);
                }
                self.phase = Phase::Here(capture);
                match result {
                    Ok(()) => {}
                    Err(error) if error.status == Status::Integrity => {
                        self.leaving = true;
                        self.put_failed(error, now);
                    }
                    Err(error) => self.put_failed(error, now),
                }
            }
            Done::Stored(raw, result) => {
                self.parts -= 1;
                if let Err(error) = result {
                    self.again.push(raw);
                    self.put_failed(error, now);
                }
            }
            Done::Checkpointed(result) => {
                self.checkpointing = false;
                self.unchecked_since = None;
                if let Err(error) = result {
                    self.log(&error.to_string());
                }
            }
        }
    }

    /// A job of a life that has ended: nothing of it counts. The next life begins, and the lock is
    /// given back, when the last one is in.
    fn too_late(&mut self, done: &Done) {
        match done {
            Done::Stored(..) => self.parts -= 1,
            Done::Checkpointed(_) => self.checkpointing = false,
            Done::Opened(_) | Done::Captured(..) | Done::Shipped(..) | Done::LargeShipped(..) => {}
        }
        if self.jobs == 0 {
            self.lock = None;
        }
    }

    fn opened(&mut self, result: Result<Box<Live>>, now: Instant) {
        match result {
            Ok(live) => {
                let Live { capture, shipper, snapshot, lock } = *live;
                self.lock = Some(lock);
                self.stores = Some(Arc::clone(&shipper.stores));
                self.shipper = Some(Box::new(shipper));
                self.begin_snapshot = snapshot.is_some();
                if let Some(why) = snapshot.filter(|_| capture.last().number.0 > 0) {
                    self.status.resyncs += 1;
                    self.log(&format!("begins a new snapshot: {why}"));
                }
                self.opened_once = true;
                // One that opens, and fails each time, waits longer each time.
                let retries = self.retries;
                self.all_is_well(&capture);
                self.retries = retries;
                self.phase = Phase::Here(Box::new(capture));
            }
            Err(error) if (self.alone && !self.opened_once) || self.draining => self.fail(error),
            Err(error) => {
                self.phase = Phase::Closed;
                self.put_failed(Error { status: Status::Failed, ..error }, now);
            }
        }
    }

    /// The end, for a reason.
    fn fail(&mut self, error: Error) {
        self.status.fail(&error);
        self.status_due = true;
        self.write_status(self.status_at);
        self.error.get_or_insert(error);
        self.close();
        self.phase = Phase::Ended;
    }

    fn close(&mut self) {
        self.begin_snapshot = false;
        self.lost = false;
        self.leaving = false;
        self.drained = false;
        self.rolling = None;
        self.shipper = None;
        self.stores = None;
        self.parcel = None;
        self.again.clear();
        self.snapshot_ready = false;
        self.shipped_meanwhile = false;
        if self.jobs == 0 {
            self.lock = None;
        }
    }

    fn captured(&mut self, capture: Box<Capture>, captured: Captured, now: Instant) {
        let Captured { batch, part, began, complete, part_is_due, drain, result } = captured;
        let mut capture = capture;
        if batch.is_none() && part.is_none() && (part_is_due || !complete) {
            // Whatever is in the way, asking at once would not find it gone.
            self.next_look = now + self.database.settings.poll_interval;
        }
        if std::mem::take(&mut self.shipped_meanwhile) {
            capture.shipped();
        }
        self.rolling = capture.rolling();
        if let Some(batch) = batch {
            self.parcel = Some(Box::new(Parcel::new(batch)));
        }
        // Only a pass that began after the last part was read has captured all that it may hold.
        self.snapshot_ready = complete && part.is_none() && capture.parts_are_read();
        self.drained |= complete && drain;
        self.again.extend(part);
        self.begin_snapshot &= !began;
        self.phase = Phase::Here(capture);
        if let Err(trouble) = result {
            self.trouble(trouble, now);
        }
    }

    fn trouble(&mut self, trouble: Trouble, now: Instant) {
        self.log(&trouble.to_string());
        self.next_look = now + self.database.settings.poll_interval;
        match trouble {
            Trouble::Lost(_) => {
                self.status.missed += 1;
                self.status.resyncs += 1;
                self.careful_until = Some(now + CAREFUL);
                self.lost = true;
                self.again.clear();
            }
            Trouble::Corrupt(..) | Trouble::Io(_) => {
                let path = self.database.path.display();
                let error = Error::new(Status::Integrity, "capture", path, &trouble);
                // Taken up again from the cursor: what is in memory may be half done.
                self.leaving = true;
                self.put_failed(error, now);
            }
        }
    }

    /// Lets go of the database once every job is back, to take it up again.
    fn leave(&mut self, capture: Box<Capture>) {
        if self.jobs == 0 {
            drop(capture);
            self.close();
            self.phase = Phase::Closed;
        } else {
            self.phase = Phase::Here(capture);
        }
    }

    fn shipped(&mut self, batch: &Batch) {
        match &mut self.phase {
            Phase::Here(capture) => capture.shipped(),
            _ => self.shipped_meanwhile = true,
        }
        self.status.ship(&batch.state);
        self.retries = 0;
        self.status.recover();
        self.status_due = true;
    }

    fn all_is_well(&mut self, capture: &Capture) {
        self.retries = 0;
        self.status.recover();
        if capture.state().snapshot.0 > 0 {
            self.status.ship(&capture.state());
        }
        self.status_due = true;
    }

    /// A destination or a local disk did not take something. It is tried again, unless somebody else
    /// writes the replica, or the daemon is to end.
    fn put_failed(&mut self, error: Error, now: Instant) {
        self.status.fail(&error);
        self.status_due = true;
        if self.retries == 0 {
            self.log(&error.to_string());
        }
        let pause = RETRY_FIRST * 2u32.pow(self.retries.min(10));
        self.retries += 1;
        self.retry_at = now + pause.min(RETRY_LAST);
        if error.status == Status::Locked || self.draining {
            self.fail(error);
        }
    }

    fn is_finished(&self, capture: &Capture) -> bool {
        self.draining
            && self.drained
            && capture.is_drained()
            && capture.rolling().is_none()
            && !self.begin_snapshot
            && !self.lost
            && self.parcel.is_none()
            && self.shipper.is_some()
    }

    fn end(&mut self, capture: Capture) {
        self.status.ship(&capture.state());
        self.status.stop();
        self.status_due = true;
        self.write_status(self.status_at);
        drop(capture);
        self.close();
        self.phase = Phase::Ended;
    }

    fn write_status(&mut self, now: Instant) {
        if self.status_due && now >= self.status_at {
            self.status_due = false;
            self.status_at = now + STATUS_EVERY;
            self.status.write(&self.database);
        }
    }

    fn log(&self, event: &str) {
        eprintln!("bakelite: {}: {event}", self.database.name);
    }
}

/// One pass of capture, on a worker.
fn pass(capture: &mut Capture, orders: Orders) -> Captured {
    let mut captured = Captured {
        batch: None,
        part: None,
        began: false,
        complete: false,
        part_is_due: orders.part,
        drain: orders.drain,
        result: Ok(()),
    };
    captured.result = try_pass(capture, orders, &mut captured);
    captured
}

fn try_pass(
    capture: &mut Capture,
    orders: Orders,
    captured: &mut Captured,
) -> std::result::Result<(), Trouble> {
    if orders.begin_snapshot {
        capture.begin_snapshot()?;
        captured.began = true;
    }
    if orders.begin_roll {
        capture.begin_roll()?;
    }
    let look = capture.source.look().filter(|_| orders.capture);
    if let Some(look) = &look {
        capture.note(look, clock::now());
    }
    let caught = look.as_ref().map_or(Ok(Caught::Behind), |look| capture.capture(look));
    captured.complete = matches!(caught, Ok(Caught::Up));
    if caught.is_ok() && orders.part {
        captured.part = capture.next_part()?;
    }
    let finish = orders.finish && captured.complete;
    if orders.cut {
        captured.batch = capture.batch(if finish { Finish::Snapshot } else { Finish::Nothing })?;
    }
    caught?;
    settle(capture, orders)
}

/// Moves the pin to where it belongs after a pass.
fn settle(capture: &mut Capture, orders: Orders) -> std::result::Result<(), Trouble> {
    let needed = capture.is_full() || capture.large().is_some() || capture.rolling().is_some();
    if needed {
        capture.source.hold()?;
        return Ok(());
    }
    if capture.source.zero()? {
        return Ok(());
    }
    let backfilling = capture.source.look().is_some_and(|look| look.backfilled > 0);
    if orders.free && (backfilling || orders.soon) {
        capture.source.release()?;
    } else {
        capture.source.hold()?;
    }
    Ok(())
}
