//! What a tracker shows of itself: to metrics, to whoever wants to know that it goes on, and to a
//! configuration that has changed.

use super::{Phase, Tracker};
use crate::clock;
use crate::commit::Time;
use crate::config::{Database, Destination, Observers};
use crate::fanout::Standing;
use crate::metrics::{Lane, Sample, Tally};
use crate::seal::Rule;
use crate::verified::Depths;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Shown {
    pub(super) tally: Tally,
    /// When the watch last went on, and how much destinations had answered by then.
    moved: Instant,
    answers: u64,
    /// As they were when they were last known.
    standings: Vec<Standing>,
    /// When the snapshot under way was begun.
    pub(super) began: Option<Time>,
}

impl Shown {
    pub(super) fn new(now: Instant) -> Self {
        Self { tally: Tally::default(), moved: now, answers: 0, standings: Vec::new(), began: None }
    }
}

impl Tracker {
    /// Its turn came and it could look, or a job is back.
    pub(super) fn moved(&mut self, now: Instant) {
        self.shown.moved = now;
    }

    /// When the watch last went on. A job that stores one object after the other goes on with each;
    /// and whoever takes a database up waits for nothing that does not end by itself.
    pub fn last_move(&mut self, now: Instant) -> Instant {
        let answers = self.stores.as_ref().map(|stores| stores.answers());
        let opening = answers.is_none() && !self.is_ended();
        if opening || answers.is_some_and(|answers| answers != self.shown.answers) {
            self.shown.moved = now;
        }
        self.shown.answers = answers.unwrap_or(0);
        self.shown.moved
    }

    /// Pages done and in all of the snapshot under way.
    pub fn rolling(&self) -> Option<(u64, u64)> {
        self.rolling.map(|(done, total)| (done.into(), total.into()))
    }

    /// Whether it was tried by now to take it up, with whatever result.
    pub fn has_begun(&self) -> bool {
        self.opened_once || self.is_ended() || self.status.error.is_some()
    }

    pub fn name(&self) -> &str {
        &self.database.name
    }

    pub fn observers(&self) -> &Observers {
        &self.database.settings.observers
    }

    /// What keeps it from going well.
    pub fn complaint(&self) -> Option<&str> {
        self.status.error.as_deref()
    }

    pub fn sample(&mut self, now: Instant) -> Sample {
        let moved = self.last_move(now);
        if let Some(stores) = &self.stores {
            self.shown.standings = stores.standings();
        }
        let standings = std::mem::take(&mut self.shown.standings);
        self.note_owed(&standings);
        self.shown.standings = standings;
        if let Phase::Here(capture) = &self.phase {
            self.snapshot = capture.snapshot();
        }
        let ago = u64::try_from(now.duration_since(moved).as_millis()).unwrap_or(u64::MAX);
        let snapshot = (self.snapshot > Time(0)).then_some(self.snapshot);
        let sealing = &self.database.settings.sealing;
        let places = self.database.destinations.iter().enumerate();
        Sample {
            database: self.database.name.clone(),
            state_dir: self.database.state_dir.clone(),
            watched: self.opened_once && !self.is_ended(),
            failing: self.status.error.is_some(),
            commit: self.status.commit,
            wal_frames: self.status.wal_frames,
            counts: self.status.counts,
            tally: self.shown.tally.clone(),
            sealed: sealing.rule != Rule::None && !sealing.key_files.is_empty(),
            snapshot,
            moved: Time(clock::now().0.saturating_sub(ago)),
            destinations: places.map(|(at, place)| self.lane(at, place, snapshot)).collect(),
        }
    }

    fn lane(&self, at: usize, place: &Destination, snapshot: Option<Time>) -> Lane {
        let standing = self.shown.standings.get(at);
        let floor = standing.and_then(|it| it.floor).filter(|_| self.snapshot > Time(0));
        let lock = match place {
            Destination::S3(s3) => s3.lock.as_ref().map(|lock| lock.period),
            Destination::File { .. } => None,
        };
        // A lock counts from when an object is put or renewed, whatever time its commits have: that may
        // be one of the future.
        let begun = self.status.snapshot_begun.map(Time);
        let from = snapshot.and_then(|time| begun.or(Some(time).filter(|it| *it <= clock::now())));
        let until = |period: Duration| {
            from.map(|Time(time)| Time(time.saturating_add(period.as_millis() as u64)))
        };
        Lane {
            url: place.to_string(),
            mirror: self.database.mirrors.contains(place),
            standing: standing.map(|it| it.kind),
            floor: floor.map(|(commit, time)| (commit.0, time)),
            owed_since: self.owed[at].since().map(wall),
            spooled: standing.map_or(0, |it| it.spooled),
            verified: Depths::default(),
            locked_until: lock.and_then(until),
        }
    }

    /// Has it end, and give its place to another one.
    pub fn retire(&mut self) {
        self.retired = true;
        self.drain();
    }

    pub fn is_retired(&self) -> bool {
        self.retired
    }

    /// Whether this is how it watches that database, now and later.
    pub fn watches(&self, database: &Database) -> bool {
        // Asked of every pair of two lists: nearly all of them differ in this.
        if self.retired || self.database.path != database.path {
            return false;
        }
        let mut other = database.clone();
        other.settings.observers = self.observers().clone();
        *self.database == other
    }

    /// Who is told of it may change while it is watched.
    pub fn tell(&mut self, observers: &Observers) {
        if self.observers() != observers {
            let mut database = (*self.database).clone();
            database.settings.observers = observers.clone();
            self.database = database.into();
        }
    }

    /// Whether both would work on the same file, or write the same replica.
    pub fn is_in_the_way_of(&self, database: &Database) -> bool {
        let own = &self.database;
        let places = || own.destinations.iter().map(ToString::to_string);
        let mut others = database.destinations.iter().map(ToString::to_string);
        own.path == database.path
            || own.state_dir == database.state_dir
            || others.any(|other| places().any(|place| place == other))
    }

    /// Ended, and all its jobs are back.
    pub fn is_over(&self) -> bool {
        self.is_ended() && self.jobs + self.abroad == self.left()
    }
}

/// A moment that the steady clock told, by the clock on the wall.
fn wall(Time(moment): Time) -> Time {
    Time(clock::now().0.saturating_sub(clock::uptime().0.saturating_sub(moment)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;
    use crate::backend::mem::Mem;
    use crate::commit::Timeline;
    use crate::config::{Lock, LockMode, S3};
    use crate::name::Name;
    use crate::testkit::Db;
    use crate::testkit::rig::fanout;
    use std::sync::Arc;

    /// After a clock that was half a year ahead was set, commits have later times than the present one,
    /// and so has each new snapshot of them.
    #[test]
    fn trap_67_a_lock_is_not_claimed_to_last_past_what_was_put() {
        let db = Db::new(512);
        let s3 = Destination::parse("s3://backups/app").unwrap();
        let Destination::S3(s3) = s3 else { unreachable!() };
        let lock = Some(Lock { period: Duration::from_secs(100), mode: LockMode::Governance });
        let locked = Destination::S3(S3 { lock, ..s3 });
        let config = Database { destinations: vec![locked.clone()], ..db.config() };
        let mut tracker = Tracker::new(&config, true, clock::instant());
        let now = clock::now();
        let until = |tracker: &Tracker, snapshot: Time| {
            tracker.lane(0, &locked, Some(snapshot)).locked_until.map(|it| it.0)
        };
        assert_eq!(until(&tracker, Time(5000)), Some(105_000));
        assert_eq!(until(&tracker, Time(now.0 << 1)), None, "nobody knows when that was put");
        tracker.begins_to_roll();
        tracker.shipped(true, clock::instant());
        let begun = tracker.status.snapshot_begun.unwrap();
        assert!((now.0..=clock::now().0).contains(&begun));
        assert_eq!(until(&tracker, Time(now.0 << 1)), Some(begun + 100_000));
        // The next life has not made one yet.
        std::fs::create_dir(&config.state_dir).unwrap();
        tracker.status.write(&config);
        let next = Tracker::new(&config, true, clock::instant());
        assert_eq!(until(&next, Time(now.0 << 1)), Some(begun + 100_000));
    }

    /// A destination that was away when a clock that ran ahead was set back was held to lack nothing old
    /// until the time came round again.
    #[test]
    fn trap_67_what_is_lacking_is_as_old_as_the_steady_clock_says() {
        let db = Db::new(512);
        let mut tracker = Tracker::new(&db.config(), true, clock::instant());
        let before = clock::uptime();
        tracker.note_owed(&[]);
        let since = tracker.owed[0].since().unwrap();
        assert!((before..=clock::uptime()).contains(&since), "{since:?}");
        let shown = tracker.lane(0, &db.config().destinations[0], None).owed_since.unwrap();
        assert!(
            clock::now().0.abs_diff(shown.0) < 3_600_000,
            "by the clock on the wall: {shown:?}"
        );
    }

    /// A job that has the database: it goes on while destinations answer, and no longer.
    #[test]
    fn a_job_that_stores_nothing_and_does_not_come_back_has_stopped() {
        let db = Db::new(512);
        let begun = clock::instant();
        let mut tracker = Tracker::new(&db.config(), true, begun);
        let mem: Arc<dyn Backend> = Arc::new(Mem::new());
        let stores = Arc::new(fanout(vec![mem], db.dir.path(), 1 << 20));
        (tracker.stores, tracker.phase) = (Some(Arc::clone(&stores)), Phase::Away);
        let after = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(tracker.last_move(after(9)), begun);
        assert!(tracker.turn(after(10)).is_none());
        assert_eq!(tracker.last_move(after(10)), begun, "a turn that cannot look is none");
        stores.put(&Name::Timeline(Timeline(1)), b"x").unwrap();
        assert_eq!(tracker.last_move(after(20)), after(20));
        assert_eq!(tracker.last_move(after(30)), after(20));
        tracker.stores = None;
        assert_eq!(tracker.last_move(after(40)), after(40), "it is taken up, which ends by itself");
    }
}
