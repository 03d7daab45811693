//! Beginnings and ends: what a job's result means for the database's life, what is tried again and
//! when, what `status` is told.

use super::FAST_POLL;
use super::jobs::Held;
use super::pass::Captured;
use super::{
    CAREFUL_FIRST, CAREFUL_LAST, Done, Healing, Phase, RETRY_FIRST, RETRY_LAST, STATUS_EVERY,
    Survey, Tracker,
};
use crate::capture::Capture;
use crate::clock;
use crate::commit::{CommitNo, Time};
use crate::daemon::open::{self, Begin, Live, Lock};
use crate::daemon::owed::Owed;
use crate::daemon::room::Seat;
use crate::daemon::sync;
use crate::error::{Error, Result, Status};
use crate::fanout::Standing;
use crate::log::{self, Level};
use crate::sabotage;
use crate::ship::Parcel;
use crate::source::{Pin, Trouble};
use crate::status::{LaneRecord, Record};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the only database is taken up in vain before the daemon ends.
const OPENINGS: u32 = 5;

/// Who watches the database: whoever does says how it stands, and nobody else.
#[derive(Debug)]
pub(super) enum Watched {
    Unknown,
    /// This one, or nobody.
    Here,
    Elsewhere(Error),
}

impl Tracker {
    /// Has it tried again if the database is not there yet, or no destination is; and whatever it is,
    /// once that was so.
    pub fn await_database(&mut self) {
        self.awaited = true;
    }

    /// A job of a life that has ended: nothing of it counts.
    pub(super) fn too_late(&mut self, done: &Done) {
        match done {
            Done::Stored(..) => self.parts.storing -= 1,
            Done::Checkpointed(_) => self.checkpointing = false,
            Done::Opened(..)
            | Done::Captured(..)
            | Done::Shipped(..)
            | Done::LargeShipped(..)
            | Done::Compared(..)
            | Done::Abroad(..) => {}
        }
        self.unlock();
    }

    /// Gives the lock back once all is over. Between two lives it is kept: a `sync` would take the
    /// database up, and fence the next one.
    pub(super) fn unlock(&mut self) {
        if self.is_over() {
            self.lock = None;
        }
    }

    pub(super) fn opened(
        &mut self,
        result: Result<Box<Live>>,
        lock: Option<Arc<Lock>>,
        now: Instant,
    ) {
        self.lock = lock;
        self.watched = self.watched_by(&result);
        match result {
            Ok(live) => {
                let Live { capture, shipper, begin, files, key } = *live;
                self.files = Some(files);
                self.set_lanes(shipper.stores.count(), now);
                self.stores = Some(Arc::clone(&shipper.stores));
                self.shipper = Some(Box::new(shipper));
                self.status.counts.timelines += 1;
                self.status.fenced = None;
                self.status.key = key.map(|id| id.to_string());
                (self.identified_at, self.gone_since) = (now, None);
                self.begin(begin, &capture);
                self.snapshot_wanted.is |= sync::is_snapshot_wanted(&self.database.state_dir);
                self.opened_once = true;
                // One that opens, and fails each time, waits longer each time.
                let retries = self.retries;
                self.all_is_well(capture.last().number);
                self.retries = retries;
                self.phase = Phase::Here(Box::new(capture));
            }
            Err(error) if self.draining => self.fail(error),
            Err(error)
                if (self.alone || self.awaited) && !self.opened_once && !self.may_pass(&error) =>
            {
                self.fail(error);
            }
            Err(error) if self.opened_once && error.status == Status::Locked => {
                self.status.count_fence(&error);
                self.fail(error);
            }
            Err(error) => {
                self.phase = Phase::Closed;
                self.shown.tally.count(error.status);
                self.try_later(Error { status: Status::Failed, ..error }, now);
            }
        }
    }

    fn watched_by(&self, result: &Result<Box<Live>>) -> Watched {
        let is_taken = || matches!(open::try_lock(&self.database.state_dir), Ok(None));
        match result {
            Err(error) if self.lock.is_none() && error.status == Status::Locked && is_taken() => {
                Watched::Elsewhere(error.clone())
            }
            _ => Watched::Here,
        }
    }

    /// Ends if another one watches it, which it is not going to stop for.
    pub fn leave_it(&mut self) {
        if let Watched::Elsewhere(error) = &self.watched {
            let error = error.clone();
            self.fail(error);
        }
    }

    pub fn is_watched_elsewhere(&self) -> bool {
        matches!(self.watched, Watched::Elsewhere(_))
    }

    /// A destination that failed just then need not fail the next time, or is done without.
    fn may_pass(&self, error: &Error) -> bool {
        use Status::{Missing, Unreachable, Usage};
        if self.awaited {
            // Usage: it is empty, or not in WAL mode yet.
            return self.retries > 0 || matches!(error.status, Missing | Unreachable | Usage);
        }
        let others = self.database.destinations.len() > 1;
        others && error.status == Unreachable && self.retries < OPENINGS
    }

    fn begin(&mut self, begin: Begin, capture: &Capture) {
        match begin {
            Begin::Follow => {}
            Begin::Resync(base, why) => {
                self.log(&format!("compares all pages with commit {}: {why}", base.commit.number));
                self.healing = Some(Healing { base, resync: None });
            }
            Begin::Snapshot(why) => {
                self.begin_snapshot = true;
                if self.opened_once || capture.last().number.0 > 0 {
                    self.status.counts.resyncs += 1;
                    self.log(&format!("begins a new snapshot: {why}"));
                }
            }
        }
    }

    /// The end, for a reason.
    pub(super) fn fail(&mut self, error: Error) {
        self.status.fail(&error);
        self.status_due = true;
        self.write_status(self.status_at);
        self.error.get_or_insert(error);
        self.close();
        self.phase = Phase::Ended;
        self.unlock();
    }

    fn close(&mut self) {
        self.begin_snapshot = false;
        self.healing = None;
        self.status.comparing = None;
        self.lost = false;
        self.leaving = false;
        self.drained = false;
        self.rolling = None;
        self.shipper = None;
        self.life += 1;
        // What is on its way yet may arrive, like that of a daemon that was killed.
        self.stores.take().inspect(|stores| stores.retire());
        self.parcel = None;
        self.parts.forget();
        self.survey = Survey::None;
        self.renew.clear();
        self.renewing = false;
        self.snapshot_ready = false;
        self.shipped_meanwhile = false;
    }

    pub(super) fn captured(
        &mut self,
        capture: Box<Capture>,
        captured: Captured,
        seat: Option<Seat>,
        now: Instant,
    ) {
        let Captured {
            batch,
            part,
            unread,
            passed,
            began,
            put_off,
            complete,
            part_is_due,
            drain,
            result,
        } = captured;
        let mut capture = capture;
        let begins = self.rolling.is_none() && capture.rolling().is_some();
        if capture.source.pin() == Pin::Free {
            self.next_look = self.next_look.min(now + FAST_POLL);
        } else if begins || !passed.is_empty() {
            // The next part waits for nothing.
            self.next_look = now;
        } else if batch.is_none()
            && part.is_none()
            && (part_is_due || !complete && !capture.is_full())
        {
            // Whatever is in the way, asking at once would not find it gone.
            self.next_look = now + self.database.settings.poll_interval;
        }
        if std::mem::take(&mut self.shipped_meanwhile) {
            capture.shipped();
        }
        let rolled = self.rolling.is_some() && capture.rolling().is_none();
        self.snapshot_since = if rolled { Some(now) } else { self.snapshot_since };
        if begins {
            self.begins_to_roll();
        }
        if put_off {
            self.put_off(now);
        }
        self.rolling = capture.rolling();
        self.status.commit = capture.last().number.0;
        if let Some(batch) = batch {
            self.parcel = Some(Box::new(Parcel::new(batch)));
        }
        // Only a pass that began after the last part was read has captured all that it may hold.
        self.snapshot_ready = complete && part.is_none() && capture.parts_are_read();
        self.drained |= complete && drain;
        part.iter().for_each(|part| self.pace_parts(part.bytes.len(), now));
        self.parts.next.extend(part.map(|raw| Held { raw, _seat: seat }));
        self.renew.extend(passed);
        self.begin_snapshot &= !began;
        self.phase = Phase::Here(capture);
        if let Some(error) = unread {
            self.part_failed(Error::io("read", self.database.path.display(), &error), now);
        }
        if let Err(trouble) = result {
            self.trouble(trouble, now);
        }
    }

    fn trouble(&mut self, trouble: Trouble, now: Instant) {
        self.log(&trouble.to_string());
        self.next_look = now + self.database.settings.poll_interval;
        match trouble {
            Trouble::Lost(_) => {
                self.status.counts.missed += 1;
                self.be_careful(now);
                self.lost = true;
                self.parts.forget();
            }
            Trouble::Diverged(_) => {
                self.status.counts.divergences += 1;
                self.distrust = true;
                self.lost = true;
                self.parts.forget();
            }
            Trouble::Corrupt(..) | Trouble::Io(_) => {
                let path = self.database.path.display();
                let error = Error::new(Status::Integrity, "capture", path, &trouble);
                self.reopen(error, now);
            }
        }
    }

    /// Keeps the WAL pinned for a while, each time for longer.
    pub(super) fn be_careful(&mut self, now: Instant) {
        let pause = CAREFUL_FIRST * 4u32.pow(self.losses.min(8));
        self.losses += 1;
        self.careful_until = Some(now + pause.min(CAREFUL_LAST));
    }

    /// Has the database taken up again from the cursor: what is in memory may be half done.
    pub(super) fn reopen(&mut self, error: Error, now: Instant) {
        self.leaving = true;
        self.put_failed(error, now);
        self.leave();
    }

    /// Lets go of a database that is to be taken up again, once every job is back that has to do with
    /// the database itself.
    pub(super) fn leave(&mut self) {
        if self.leaving {
            self.upkeep.stop();
        }
        if self.leaving && self.jobs == 0 && matches!(self.phase, Phase::Here(_)) {
            self.close();
            self.phase = Phase::Closed;
        }
    }

    /// All that a snapshot needs is put, or its locks are renewed, from now on.
    pub(super) fn begins_to_roll(&mut self) {
        self.snapshot_wanted.begun = self.snapshot_wanted.is;
        if self.snapshot_wanted.begun {
            sync::snapshot_begins(&self.database.state_dir);
        }
        self.shown.began = Some(clock::now());
    }

    /// A snapshot would store more than it is worth: what was committed since the last one is little, and
    /// it is all over the database.
    fn put_off(&mut self, now: Instant) {
        let interval = self.database.settings.snapshot_interval;
        self.put_off = Some(now + interval);
        self.log("the snapshot that is due waits: it would store many times what was committed");
        self.end_survey();
    }

    fn end_survey(&mut self) {
        self.survey = Survey::None;
        self.stores.iter().for_each(|stores| stores.forget_parts());
    }

    /// A batch was shipped, and perhaps the manifest of a snapshot with it.
    pub(super) fn shipped(&mut self, manifest: bool, now: Instant) {
        self.look_soon(now);
        if manifest {
            self.parts.take_heart();
            if std::mem::take(&mut self.snapshot_wanted.begun) {
                sync::snapshot_stands(&self.database.state_dir);
                self.snapshot_wanted.is = sync::is_snapshot_asked(&self.database.state_dir);
            }
            let begun = self.shown.began.take().map(|began| began.min(clock::now()));
            self.status.snapshot_begun = begun.map(|time| time.0);
            self.end_survey();
        }
        match &mut self.phase {
            Phase::Here(capture) => capture.shipped(),
            _ => self.shipped_meanwhile = true,
        }
        self.retries = 0;
        self.upkeep.note_news();
        if self.parts.refusals == 0 {
            self.status.recover();
        }
        self.status_due = true;
    }

    pub(super) fn all_is_well(&mut self, commit: CommitNo) {
        self.retries = 0;
        self.status.recover();
        self.status.commit = commit.0;
        self.status_due = true;
    }

    /// A destination or a local disk did not take something. It is tried again, unless somebody else
    /// writes the replica, or the daemon is to end.
    pub(super) fn put_failed(&mut self, error: Error, now: Instant) {
        self.shown.tally.count(error.status);
        self.try_later(error, now);
    }

    /// A part of a snapshot could not be read, or is taken by nobody. Change-sets go on meanwhile.
    pub(super) fn part_failed(&mut self, error: Error, now: Instant) {
        self.parts.retry_at = Some(now + pause_after(self.parts.refusals));
        self.shown.tally.count(error.status);
        self.status.fail(&error);
        self.status_due = true;
        if self.parts.refusals == 0 {
            self.complain(&error);
        }
        self.parts.refusals += 1;
        self.fail_if_final(error);
    }

    /// Somebody else writes the replica, or there is no other time.
    fn fail_if_final(&mut self, error: Error) {
        self.status.count_fence(&error);
        if error.status == Status::Locked || self.draining {
            self.fail(error);
        }
    }

    fn try_later(&mut self, error: Error, now: Instant) {
        self.status.fail(&error);
        self.status_due = true;
        if self.retries == 0 {
            self.complain(&error);
        }
        self.retry_at = now + pause_after(self.retries);
        self.retries += 1;
        self.fail_if_final(error);
    }

    pub(super) fn is_finished(&self, capture: &Capture) -> bool {
        self.draining
            && !self.owes_snapshot(capture)
            && (self.drained || sabotage::is("drain-without-a-last-look"))
            && capture.is_drained()
            && capture.rolling().is_none()
            && !self.begin_snapshot
            && self.healing.is_none()
            && !self.lost
            && self.parcel.is_none()
            && self.shipper.is_some()
            && !self.owes()
    }

    pub(super) fn end(&mut self, capture: Capture) {
        self.status_due = true;
        self.write_status(self.status_at);
        drop(capture);
        self.close();
        self.phase = Phase::Ended;
        self.unlock();
    }

    pub(super) fn write_status(&mut self, now: Instant) {
        if let Some(status) = self.take_status(now) {
            status.write(&self.database);
        }
    }

    /// What `status` should be told, if it is time.
    pub(super) fn take_status(&mut self, now: Instant) -> Option<Record> {
        if !self.status_due || now < self.status_at || !matches!(self.watched, Watched::Here) {
            return None;
        }
        self.status_due = false;
        self.status_at = now + STATUS_EVERY;
        let standings = self.stores.as_ref().map(|stores| stores.standings());
        if let Some(standings) = &standings {
            let urls = self.database.destinations.iter().map(ToString::to_string);
            let lanes = urls.zip(standings).map(|(url, standing)| LaneRecord::new(url, standing));
            self.status.lanes = lanes.collect();
        }
        self.note_owed(&standings.unwrap_or_default());
        let since = |owed: &Owed| owed.since().map(|time| time.0);
        self.status.lacks_since = self.owed.iter().map(since).collect();
        Some(self.status.clone())
    }

    /// While it is not known what there is to ship, or nothing could be restored yet, all is owed.
    pub(super) fn note_owed(&mut self, standings: &[Standing]) {
        if let Phase::Here(capture) = &self.phase {
            self.snapshot = capture.snapshot();
        }
        let counted = self.snapshot > Time(0)
            && self.stores.is_some()
            && self.healing.is_none()
            && !self.lost
            && !self.begin_snapshot;
        // What was published and not captured yet is one commit at least.
        let last = counted.then_some(CommitNo(self.status.commit + u64::from(self.news)));
        let now = clock::uptime();
        for (at, owed) in self.owed.iter_mut().enumerate() {
            let floor = standings.get(at).and_then(|standing| standing.floor);
            owed.note(last, floor.map(|(commit, _)| commit), now);
        }
    }

    pub(super) fn log(&self, event: &str) {
        log::event(&self.database.name, event);
    }

    pub(super) fn complain(&self, error: &Error) {
        let message = format!("{}: {}", self.database.name, error.message);
        log::say(Level::Warning, &message, error.hint.as_deref());
    }
}

/// How long to wait for another try, after so many.
pub(super) fn pause_after(tries: u32) -> Duration {
    (RETRY_FIRST * 2u32.pow(tries.min(10))).min(RETRY_LAST)
}
