//! What is due: when to look again, to capture, to ship, to let go of the WAL, to checkpoint.

use super::pass::Orders;
use super::{Done, FAST_POLL, IDLE_POLL, Job, Phase, Survey, Tracker};
use crate::capture::Capture;
use crate::clock;
use crate::commit::Time;
use crate::config::Destination;
use crate::daemon::sync;
use crate::error::{Error, Status};
use crate::fanout::Stock;
use crate::source::{Look, Pin, Seen};
use crate::sqlite::Session;
use std::time::{Duration, Instant};

/// A database that nobody has written to for this long is looked at less often.
const BUSY: Duration = Duration::from_secs(2);
/// Frames a second that make a writer a fast one: it fills a usual WAL in a quarter of a second.
const FAST_RATE: f64 = 4000.0;
/// Over how long that is measured: two commits that happen to follow each other are no rate.
const PACE: Duration = Duration::from_millis(10);
/// Frames left in a pinned WAL before they are captured without waiting for the next shipment.
const PENDING_FRAMES: u32 = 1000;
/// For how many intervals a snapshot is put off at most.
const PUT_OFF: u32 = 30;
/// Least time between two change-sets for a directory, unless `ship_interval` says otherwise.
pub const SHIP_FILE: Duration = Duration::from_millis(200);
/// The same where one of the destinations is a bucket: each put there costs money and a connection.
const SHIP_S3: Duration = Duration::from_secs(1);
/// How often it is looked whether a `sync` waits.
const LISTEN: Duration = Duration::from_secs(1);
/// How long a WAL past `checkpoint_pages` is left to others to checkpoint.
const CHECKPOINT_AFTER: Duration = Duration::from_secs(1);

/// Whether a `sync` waits for it, and when that is next looked for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub is: bool,
    /// It has found no daemon, and this is its own.
    pub by_pass: bool,
    next: Option<Instant>,
}

/// Whether a snapshot is wanted whether one is due or not, and was when the one under way began.
#[derive(Debug, Default)]
pub(super) struct Request {
    pub is: bool,
    pub begun: bool,
}

impl Tracker {
    /// When to look again.
    pub(super) fn pace(&mut self, look: &Look, seen: Seen, pin: Pin, now: Instant) {
        match seen {
            Seen::Torn => {}
            Seen::Nothing => self.news = false,
            // What is left for the next change-set is seen again at each look.
            Seen::Commits if self.news && look.frames == self.last_frames => {}
            Seen::Commits | Seen::Rebuilt | Seen::Reset | Seen::Shrunk => {
                (self.last_news, self.news, self.status_due) = (now, true, true);
            }
        }
        if seen == Seen::Reset {
            self.cycle = self.last_frames;
            self.fast |= self.cycle > look.frames;
            (self.paced_frames, self.paced_at) = (look.frames, now);
        } else if now.duration_since(self.paced_at) >= PACE {
            let seconds = now.duration_since(self.paced_at).as_secs_f64();
            let rate = f64::from(look.frames.saturating_sub(self.paced_frames)) / seconds;
            self.fast = rate > FAST_RATE;
            (self.paced_frames, self.paced_at) = (look.frames, now);
        }
        self.last_frames = look.frames;
        self.status.wal_frames = look.frames.into();
        let free = pin == Pin::Free;
        self.wait(if free { FAST_POLL } else { self.pause(now) }, now);
    }

    /// How long to wait for the next look.
    pub(super) fn pause(&self, now: Instant) -> Duration {
        match now.duration_since(self.last_news) {
            _ if self.fast => FAST_POLL,
            quiet if quiet < BUSY => self.database.settings.poll_interval,
            _ => self.database.settings.poll_interval.max(IDLE_POLL),
        }
    }

    /// Looks again after `pause`.
    pub(super) fn wait(&mut self, pause: Duration, now: Instant) {
        self.next_look = now + pause;
        if pause >= IDLE_POLL {
            // All that are idle at the same time: a thousand of them wake the daemon up once.
            let since = now.duration_since(self.epoch).as_nanos();
            let late = (since % pause.as_nanos()) as u64;
            self.next_look -= Duration::from_nanos(late);
        }
    }

    /// Whether there is nothing to do for this database, and has not been for a while.
    pub(super) fn is_idle(&self, capture: &Capture, now: Instant) -> bool {
        now.duration_since(self.last_news) >= BUSY
            && self.database.settings.poll_interval <= IDLE_POLL
            && self.shipper.is_some()
            && self.parcel.is_none()
            && capture.is_drained()
            && capture.rolling().is_none()
            && self.healing.is_none()
            && !self.owes()
            && !(self.begin_snapshot || self.lost || self.leaving || self.draining)
            && self.unchecked_since.is_none()
            && !self.checkpointing
    }

    pub(super) fn is_resting(&self, capture: &Capture, now: Instant) -> bool {
        self.resting.as_ref().is_some_and(|(look, until)| {
            now < *until && !self.status_due && capture.source.is_still(look)
        })
    }

    /// Who waits for a `sync` does not wait for the next change-set, nor for the next look at what the
    /// destinations hold.
    pub(super) fn listen(&mut self, now: Instant) {
        let due = self.asked.next.is_none_or(|next| now >= next);
        if !due || !matches!(self.phase, Phase::Here(_)) {
            return;
        }
        self.asked.next = Some(now + LISTEN);
        if sync::is_asked(&self.database.state_dir) {
            sync::hear(&self.database.state_dir);
            self.snapshot_wanted.is |= sync::is_snapshot_asked(&self.database.state_dir);
            self.asked.is = true;
            self.look_at_once(now);
        }
    }

    fn ship_is_due(&self, capture: &Capture, now: Instant) -> bool {
        let set = self.database.settings.ship_interval;
        let interval = set.unwrap_or_else(|| usual_interval(&self.database.destinations));
        self.shipper.is_some()
            && self.parcel.is_none()
            && (self.draining
                || capture.is_full()
                || self.last_ship.is_none_or(|last| now >= last + interval)
                || self.asked.is)
    }

    /// Whether something was committed since the last snapshot, and there is where to put another one.
    fn can_begin(&self, capture: &Capture) -> bool {
        let current = self.stores.as_ref().is_some_and(|stores| stores.any_current());
        current && capture.snapshot().0 > 0 && capture.has_news()
    }

    /// Whether the last snapshot is old, and something was committed since.
    fn snapshot_is_due(&self, capture: &Capture, now: Instant) -> bool {
        self.can_begin(capture)
            && (self.snapshot_wanted.is
                || self.put_off.is_none_or(|until| now >= until)
                    && self.snapshot_age(capture) >= self.database.settings.snapshot_interval)
    }

    /// Whether a `sync` without a daemon has to make the snapshot that somebody has asked for: there may never
    /// be a daemon. The end of one leaves it to the next.
    pub(super) fn owes_snapshot(&self, capture: &Capture) -> bool {
        let is_wanted =
            self.asked.by_pass && self.draining && self.snapshot_wanted.is && !self.lost;
        is_wanted && capture.rolling().is_none() && self.can_begin(capture)
    }

    fn snapshot_age(&self, capture: &Capture) -> Duration {
        age(capture.snapshot(), clock::now(), self.snapshot_since)
    }

    /// What the snapshot that is due has to be worth. Locks are renewed by snapshots, and a cap lets go of
    /// what a newer snapshot stands for: there, none is put off.
    fn stock(&self, capture: &Capture) -> Option<Stock> {
        let Survey::Done(stock) = self.survey else { return None };
        let most = self.database.settings.snapshot_interval.saturating_mul(PUT_OFF);
        let waits = !self.snapshot_wanted.is
            && !self.database.has_locks_or_caps()
            && self.snapshot_age(capture) < most;
        Some(if waits { stock } else { Stock::default() })
    }

    /// Whether the snapshot under way lacks only its manifest.
    fn snapshot_is_whole(&self) -> bool {
        self.snapshot_ready && self.parts.are_stored() && self.renew.is_empty() && !self.renewing
    }

    /// What the next pass of capture has to do; `None` if there is nothing to do yet.
    pub(super) fn orders(
        &mut self,
        capture: &Capture,
        look: Option<&Look>,
        seen: Seen,
        now: Instant,
    ) -> Option<Orders> {
        let due = self.ship_is_due(capture, now);
        let rolling = capture.rolling().is_some();
        // Once drained, what comes later is left to the next run: a fast writer never ends.
        let owes_snapshot = self.owes_snapshot(capture);
        let last = self.drained && !rolling && !self.begin_snapshot && !owes_snapshot;
        let idle = last || self.lost;
        let news = !idle && !matches!(seen, Seen::Nothing | Seen::Torn);
        let begin_snapshot = self.begin_snapshot && due && capture.is_drained();
        let may_roll = !rolling && !idle && (!self.draining || owes_snapshot);
        let begin_roll = may_roll && self.snapshot_is_due(capture, now);
        let begins = (begin_snapshot || begin_roll) && self.survey == Survey::None;
        if begins && self.upkeep.makes_way() {
            self.survey = Survey::Wanted;
        }
        let stock = self.stock(capture);
        let begin_snapshot = begin_snapshot && stock.is_some();
        let begin_roll = stock.filter(|_| begin_roll);
        let finish = rolling && !self.lost && due && self.snapshot_is_whole();
        let long = look.is_some_and(|look| self.wal_bytes(capture, look) > self.wal_max());
        let part = rolling
            && !self.begin_snapshot
            && !self.lost
            && !capture.parts_are_read()
            && !self.paces(now)
            && self.parts.retry_at.is_none_or(|at| now >= at || self.draining);
        let has_room = self.parts.have_room();
        self.parts.wait = part && !has_room;
        let part = part && has_room;
        let first = rolling && capture.last().digest.is_none();
        let stalled = self.parts.are_stalled();
        let near = self.cycle.saturating_sub(self.cycle / 4);
        let soon = self.fast && look.is_some_and(|look| look.frames >= near);
        let orders = Orders {
            begin_snapshot,
            begin_roll,
            capture: !idle && (begin_snapshot || !self.begin_snapshot),
            drain: self.draining,
            cut: due && ((news && !self.begin_snapshot) || capture.has_batch() || finish),
            part,
            rolls: first && !stalled && !self.paces(now),
            finish,
            free: self.may_let_go(long, first, now),
            soon,
        };
        let captured = capture.source.mark().position.frame;
        let pinned = matches!(capture.source.pin(), Pin::Hold(_));
        let pending = look.is_some_and(|look| {
            look.backfilled > captured
                || (soon && orders.free)
                || look.frames.abs_diff(captured) >= PENDING_FRAMES
        });
        let urgent = news
            && !self.begin_snapshot
            && !capture.is_full()
            && (!pinned || pending || seen != Seen::Commits);
        let settle = rolling && !self.lost && capture.parts_are_read() && !self.snapshot_ready;
        let drain = self.draining && !self.drained && !self.begin_snapshot && !self.lost;
        let drain = drain && !capture.is_full() && look.is_some();
        let begin = begin_snapshot || begin_roll.is_some();
        let wanted = urgent || orders.cut || begin || orders.part || settle || drain;
        wanted.then_some(orders)
    }

    /// Whether a WAL may be left unpinned. While a `first` snapshot goes on, a loss would begin it again from
    /// its first page.
    fn may_let_go(&self, long: bool, first: bool, now: Instant) -> bool {
        match first {
            true => long && self.parts.are_stalled(),
            false => long || self.careful_until.is_none_or(|until| now >= until),
        }
    }

    /// The WAL was reset while nothing held it: what was left of it can be read until the new one is as
    /// long, and a worker may be late. Or its header is torn: whoever recovers it counts from 0 again.
    pub(super) fn pin_at_once(&mut self, capture: &mut Capture) {
        if self.captures()
            && capture.source.pin() == Pin::Free
            && let Err(error) = capture.source.hold()
        {
            self.log(&format!("pin: {error}"));
        }
    }

    /// Whether what is committed now is captured in this life, or as soon as there is room.
    fn captures(&self) -> bool {
        !(self.begin_snapshot || self.drained || self.lost || self.leaving)
    }

    /// Nothing more is captured in this life: what is lost need not be there, and all else only up to
    /// `wal_max`, however long the life takes to end.
    pub(super) fn let_go(&self, capture: &mut Capture, look: Option<&Look>) {
        let long = look.is_some_and(|look| self.wal_bytes(capture, look) > self.wal_max());
        if (self.lost || long)
            && let Err(error) = capture.source.release()
        {
            self.log(&format!("pin: {error}"));
        }
    }

    /// Nothing to capture: lets go of the WAL if it can be reset without a loss, and of one that has
    /// grown too long behind a destination that does not take anything.
    pub(super) fn rest(
        &mut self,
        capture: &mut Capture,
        look: Option<&Look>,
        seen: Seen,
        now: Instant,
    ) {
        if !self.captures() {
            self.let_go(capture, look);
        }
        let Some(look) = look else { return };
        let pin = capture.source.pin();
        let quiet = seen == Seen::Nothing && look.backfilled == look.frames;
        let needed = capture.has_large();
        // A large transaction makes it long by itself, and is about to be read again.
        let waits = capture.has_large() && self.retries == 0;
        let long = capture.is_full() && !waits && self.wal_bytes(capture, look) > self.wal_max();
        let result = match pin {
            Pin::Hold(_) if quiet && !needed => capture.source.zero().map(drop),
            Pin::Hold(_) if long => {
                self.be_careful(now);
                capture.source.release()
            }
            // Nothing captures while everything is full, and no checkpoint gets on under this one.
            Pin::Zero if !quiet => capture.source.hold().map(drop),
            Pin::Hold(_) | Pin::Zero | Pin::Free => Ok(()),
        };
        if let Err(error) = result {
            self.log(&format!("pin: {error}"));
        }
    }

    /// Whether a snapshot under way rests now: it must not keep the WAL from being reset.
    fn paces(&self, now: Instant) -> bool {
        now < self.part_at && !self.draining
    }

    /// A part of so many bytes was read.
    pub(super) fn pace_parts(&mut self, bytes: usize, now: Instant) {
        if let Some(rate) = self.database.settings.snapshot_rate {
            self.part_at = now + Duration::from_secs_f64(bytes as f64 / rate as f64);
        }
    }

    fn wal_max(&self) -> u64 {
        self.database.settings.wal_max
    }

    fn wal_bytes(&self, capture: &Capture, look: &Look) -> u64 {
        u64::from(look.frames) * capture.state().page_size.bytes() as u64
    }

    /// A checkpoint of our own, if the WAL is long and nobody else does one. It recovers a wal-index as well
    /// that its writer has left torn: there may be nobody else who ever opens the database.
    pub(super) fn checkpoint(&mut self, look: Option<&Look>, now: Instant) -> Option<Job> {
        let pages = self.database.settings.checkpoint_pages;
        let wanted = look.is_none_or(|look| look.frames.saturating_sub(look.backfilled) > pages);
        if !wanted || self.checkpointing {
            self.unchecked_since = None;
            return None;
        }
        let since = *self.unchecked_since.get_or_insert(now);
        if now.duration_since(since) < CHECKPOINT_AFTER {
            return None;
        }
        self.checkpointing = true;
        let (path, files) = (self.database.path.clone(), self.files);
        Some(Job::new(&self.routes.local, move || {
            let is_it = || files.is_some_and(|files| files.are_still_at(&path));
            // What was opened between two looks is what was there at both.
            let session = is_it().then(|| Session::open(&path)).transpose();
            let session = session.map(|session| session.filter(|_| is_it()));
            let done = session.and_then(|it| it.map_or(Ok(()), |session| session.checkpoint()));
            Done::Checkpointed(
                done.map_err(|error| {
                    Error::new(Status::Failed, "checkpoint", path.display(), error)
                }),
            )
        }))
    }
}

/// How old the last snapshot is. One that is stamped in the future, since the clock was set back, is as
/// old as this run knows it to be; if it knows nothing, too old.
fn age(snapshot: Time, clock: Time, finished: Option<Instant>) -> Duration {
    let known = || finished.map_or(Duration::MAX, |at| clock::instant().duration_since(at));
    clock.0.checked_sub(snapshot.0).map_or_else(known, Duration::from_millis)
}

/// What goes to one destination goes to all of them at once.
fn usual_interval(destinations: &[Destination]) -> Duration {
    let bucket = destinations.iter().any(|each| matches!(each, Destination::S3(_)));
    if bucket { SHIP_S3 } else { SHIP_FILE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trap_67_a_snapshot_of_the_future_does_not_keep_others_from_being_made() {
        let known = clock::instant();
        assert_eq!(age(Time(1000), Time(61_000), Some(known)), Duration::from_secs(60));
        assert_eq!(age(Time(1000), Time(1000), None), Duration::ZERO);
        assert_eq!(age(Time(1001), Time(1000), None), Duration::MAX, "and nobody knows since when");
        assert!(age(Time(u64::MAX), Time(1000), Some(known)) <= known.elapsed());
    }

    #[test]
    fn a_bucket_among_the_destinations_is_shipped_to_less_often() {
        let of = |urls: &[&str]| {
            let destinations = urls.iter().map(|url| Destination::parse(url).unwrap());
            usual_interval(&destinations.collect::<Vec<_>>())
        };
        assert_eq!(of(&["/m", "/n"]), Duration::from_millis(200));
        assert_eq!(of(&["/m", "s3://backups/app"]), Duration::from_secs(1));
        assert_eq!(of(&["s3://backups/app"]), Duration::from_secs(1));
    }
}
