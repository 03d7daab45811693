//! One database's life, step by step, without threads and without waiting: jobs run here, time jumps
//! to whatever is due next, and results come late where a test keeps them.

use super::lanes::Abroad;
use super::*;
use crate::backend::faulty::{Fault, Faulty, Operation};
use crate::backend::{Backend, fs::Fs};
use crate::commit::CommitNo;
use crate::cursor::{self, State};
use crate::daemon::{Daemon, Stop};
use crate::durable::{Step, fault};
use crate::restore::Target;
use crate::ship::cursor_path;
use crate::testkit::rig::{fanout, restored};
use crate::testkit::{Db, Process, checkpoint, commits};
use std::fs;

mod application;
mod branch;
mod clock_steps;
mod crash;
mod heal;
mod lanes;
mod let_go;
mod pace;
mod robbed;
mod snapshot;
mod upkeep;

struct Sim {
    tracker: Tracker,
    now: Instant,
    start: Instant,
    jobs: u32,
    /// Whether a result is kept back, and those that are.
    keep: fn(&Done) -> bool,
    kept: Vec<Done>,
    faulty: Option<Arc<Faulty>>,
    opened: u32,
}

impl Sim {
    fn new(db: &Db) -> Self {
        let now = clock::instant();
        let tracker = Tracker::new(&db.config(), false, now);
        let keep = |_: &Done| false;
        Self { tracker, now, start: now, jobs: 0, keep, kept: Vec::new(), faulty: None, opened: 0 }
    }

    /// Taken up, with everything shipped.
    fn current(db: &Db) -> Self {
        let mut sim = Self::new(db);
        sim.until(|sim| sim.is_current());
        sim
    }

    /// The same without a spool: what a destination does not take waits in memory, and in the WAL.
    fn without_spool(mut self, db: &Db) -> Self {
        let mut config = db.config();
        config.settings.spool_max = 0;
        self.tracker = Tracker::new(&config, false, self.now);
        self
    }

    /// Behind a destination that fails when told to.
    fn faulty(db: &Db) -> (Self, Arc<Faulty>) {
        let config = db.config();
        let crate::config::Destination::File { root } = &config.destinations[0] else { panic!() };
        let faulty = Arc::new(Faulty::new(Arc::new(Fs::create(root).unwrap())));
        let mut sim = Self::new(db);
        sim.faulty = Some(Arc::clone(&faulty));
        (sim, faulty)
    }

    fn is_current(&self) -> bool {
        let Phase::Here(capture) = &self.tracker.phase else { return false };
        let seen = capture.source.seen(capture.source.look().as_ref());
        seen == Seen::Nothing
            && capture.is_drained()
            && capture.rolling().is_none()
            && !self.tracker.begin_snapshot
            && self.tracker.healing.is_none()
            && self.tracker.parcel.is_none()
            && self.tracker.shipper.is_some()
            && !self.tracker.owes()
    }

    fn step(&mut self) {
        self.now = self.now.max(self.tracker.next_turn());
        let turn = self.tracker.turn(self.now);
        let shipment = self.tracker.next_shipment(self.now);
        let payments = self.tracker.payments(self.now);
        let payments: Vec<_> = payments.into_iter().map(|it| self.tracker.sent_out(it)).collect();
        for job in turn.into_iter().chain(shipment).chain(payments) {
            self.jobs += 1;
            let mut done = (job.work)();
            if let Done::Opened(Ok(live), _) = &mut done {
                self.opened += 1;
                if let Some(faulty) = &self.faulty {
                    let state_dir = &self.tracker.database.state_dir;
                    let spool_max = self.tracker.database.settings.spool_max;
                    let stores = fanout(vec![faulty.clone()], state_dir, spool_max);
                    live.shipper.stores = Arc::new(stores);
                }
            }
            if (self.keep)(&done) {
                self.kept.push(done);
            } else {
                self.tracker.done(done, self.now);
            }
        }
    }

    /// A round of upkeep, if one is due.
    fn upkeep(&mut self, now: Instant) -> Option<Job> {
        let round = self.tracker.next_upkeep(now)?;
        Some(self.tracker.sent_out(round))
    }

    #[track_caller]
    fn until(&mut self, mut there: impl FnMut(&mut Self) -> bool) {
        for _ in 0..20_000 {
            if there(self) {
                return;
            }
            self.step();
        }
        let phase: String = format!("{:?}", self.tracker.phase).chars().take(600).collect();
        panic!("it never comes to that: {phase} {:?}", self.tracker.error);
    }

    fn for_ms(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        self.until(|sim| sim.now >= end);
    }

    /// Drains to the end.
    fn drain(&mut self) -> Option<Error> {
        self.tracker.drain();
        self.until(|sim| sim.tracker.is_ended());
        self.tracker.take_error()
    }
}

fn replica(db: &Db) -> Arc<dyn Backend> {
    let crate::config::Destination::File { root } = &db.config().destinations[0] else { panic!() };
    Arc::new(Fs::open(root).unwrap())
}

/// Whether nobody holds the lock any more. Between its fork and its exec, a child that another test
/// starts holds a copy of it.
fn is_unlocked(db: &Db) -> bool {
    let free = |_| {
        std::thread::yield_now();
        open::try_lock(&db.config().state_dir).unwrap().is_some()
    };
    (0..100_000).any(free)
}

fn on_disk(db: &Db) -> Option<State> {
    cursor::load(&cursor_path(&db.config().state_dir), |_| Ok(())).unwrap()
}

fn snapshots(db: &Db) -> usize {
    let dir = db.dir.path().join("replica/snapshot");
    fs::read_dir(dir).map_or(0, |entries| entries.count())
}

/// The newest commit of the replica is the database as it is now.
#[track_caller]
fn agrees(db: &Db) {
    assert!(restored(&replica(db), Target::Latest).unwrap() == db.image());
}

fn new_db() -> (Db, rusqlite::Connection) {
    let db = Db::new(1024);
    let writer = db.open();
    commits(&writer, 5);
    (db, writer)
}

/// `poll_interval` is how often it is looked at while something happens.
#[test]
fn a_database_at_rest_is_looked_at_every_50_ms() {
    let (db, writer) = new_db();
    let mut sim = Sim::current(&db);
    let longest = |sim: &mut Sim| {
        let pause = |_| {
            let before = sim.now;
            sim.step();
            (sim.now - before).as_millis()
        };
        (0..20).map(pause).max()
    };
    assert_eq!(longest(&mut sim), Some(10));
    sim.for_ms(10_000);
    assert_eq!(longest(&mut sim), Some(50));
    commits(&writer, 1);
    sim.until(|sim| sim.is_current());
    assert_eq!(longest(&mut sim), Some(10));
}

#[test]
fn it_ships_what_is_committed_and_drains() {
    let (db, writer) = new_db();
    let mut sim = Sim::current(&db);
    commits(&writer, 5);
    sim.until(|sim| !sim.is_current());
    sim.until(|sim| sim.is_current());
    agrees(&db);
    commits(&writer, 5);
    assert!(sim.drain().is_none());
    agrees(&db);
    assert_eq!(on_disk(&db).unwrap().commit.number, CommitNo(11));
}

/// A start claims a timeline, whether it ships anything or not.
#[test]
fn a_restart_takes_no_new_snapshot_where_the_wal_is_intact() {
    let (db, writer) = new_db();
    Sim::current(&db).drain();
    for n in [0, 0, 3, 0, 1] {
        commits(&writer, n);
        let mut sim = Sim::current(&db);
        assert!(sim.drain().is_none());
        assert_eq!(snapshots(&db), 1);
        agrees(&db);
    }
}

/// What a reset that nothing was lost in left behind is known to the next start.
#[test]
fn trap_28_a_reset_seen_by_the_daemon_is_in_the_cursor() {
    let (db, writer) = new_db();
    let mut sim = Sim::current(&db);
    let cut = |sim: &mut Sim| checkpoint(&writer, "TRUNCATE").0 == 0 && sim.now > sim.start;
    sim.until(cut);
    sim.for_ms(300);
    assert!(sim.drain().is_none());
    let mark = on_disk(&db).unwrap().mark;
    assert_eq!(mark.position.frame, 0);
    Sim::current(&db).drain();
    assert_eq!(snapshots(&db), 1);
}

/// The process ends after each step of making one batch durable, and the next start goes on.
#[test]
fn trap_63_a_crash_between_any_two_writes() {
    let steps = {
        let (db, writer) = new_db();
        let mut sim = Sim::current(&db);
        commits(&writer, 2);
        let watch = fault::watch();
        sim.until(|sim| !sim.is_current());
        sim.until(|sim| sim.is_current());
        watch.steps().into_iter().map(|(step, _)| step).collect::<Vec<_>>()
    };
    assert!(steps.len() >= 6, "{steps:?}");
    for at in 0..steps.len() {
        let nth = steps[..=at].iter().filter(|step| **step == steps[at]).count();
        let (db, writer) = new_db();
        let mut sim = Sim::new(&db).without_spool(&db);
        sim.until(|sim| sim.is_current());
        commits(&writer, 2);
        let fault = fault::fail(steps[at], nth as u64, 5);
        sim.until(|sim| sim.tracker.retries > 0);
        drop(fault);
        let acknowledged = on_disk(&db).expect("there is a cursor");
        drop(sim);
        commits(&writer, 1);
        let mut sim = Sim::current(&db);
        assert!(sim.drain().is_none(), "{at} {steps:?}");
        let state = on_disk(&db).unwrap();
        assert!(state.commit.number >= acknowledged.commit.number);
        agrees(&db);
        restored(&replica(&db), Target::Commit(acknowledged.commit.number)).unwrap();
        let index = crate::index::Index::open(&db.config().state_dir.join("index")).unwrap();
        assert_eq!(Some(index.digest().unwrap()), state.commit.digest);
        assert_eq!(snapshots(&db), 1, "{at} {steps:?}: what it had was believed");
    }
}

/// The same while it runs on: it says what is wrong, and resumes by itself.
#[test]
fn trap_58_errors_of_the_system_pass() {
    const ERRORS: [(i32, &str); 5] =
        [(12, "memory"), (13, "denied"), (24, "open files"), (28, "space"), (30, "Read-only")];
    let (db, writer) = new_db();
    let mut sim = Sim::new(&db).without_spool(&db);
    sim.until(|sim| sim.is_current());
    for (errno, words) in ERRORS {
        commits(&writer, 1);
        let before = on_disk(&db);
        let fault = fault::fail(Step::Create, 1, errno);
        sim.until(|sim| sim.tracker.retries > 0);
        drop(fault);
        let status = serde_json::to_string(&sim.tracker.status).unwrap();
        assert!(status.contains(words), "{status}");
        assert_eq!(on_disk(&db), before, "no ack");
        sim.until(|sim| sim.is_current());
        assert_eq!(sim.tracker.retries, 0);
    }
    agrees(&db);
    assert_eq!((snapshots(&db), sim.opened), (1, 1));
}

#[test]
fn a_destination_that_is_full_and_has_room_again() {
    let (db, writer) = new_db();
    let (mut sim, faulty) = Sim::faulty(&db);
    sim.until(|sim| sim.is_current());
    faulty.fail_all(Operation::Put, Fault::Full);
    commits(&writer, 3);
    sim.for_ms(60_000);
    assert!(sim.jobs < 300, "{} jobs in a minute", sim.jobs);
    commits(&writer, 3);
    faulty.heal();
    sim.until(|sim| sim.is_current());
    agrees(&db);
}

#[test]
fn trap_83_a_destination_that_goes_away_and_comes_back() {
    let (db, writer) = new_db();
    let mut sim = Sim::current(&db);
    let (here, gone) = (db.dir.path().join("replica"), db.dir.path().join("gone"));
    fs::rename(&here, &gone).unwrap();
    commits(&writer, 3);
    sim.for_ms(10_000);
    assert!(!here.exists(), "nothing is written into the mount point");
    assert!(!sim.is_current());
    fs::rename(&gone, &here).unwrap();
    sim.until(|sim| sim.is_current());
    agrees(&db);
    // The next start finds it gone: that is no reason for a new replica.
    drop(sim);
    fs::rename(&here, &gone).unwrap();
    let mut sim = Sim::new(&db);
    sim.for_ms(10_000);
    assert_eq!((here.exists(), sim.opened), (false, 0));
    fs::rename(&gone, &here).unwrap();
    sim.until(|sim| sim.is_current());
    assert_eq!(snapshots(&db), 1);
    agrees(&db);
}

/// What cannot be drained is told: the end is a failure.
#[test]
fn a_drain_that_fails_is_an_error() {
    let (db, writer) = new_db();
    let (mut sim, faulty) = Sim::faulty(&db);
    sim.until(|sim| sim.is_current());
    faulty.fail_all(Operation::Put, Fault::Full);
    commits(&writer, 3);
    sim.for_ms(1000);
    assert!(sim.drain().is_some());
    let (db, writer) = new_db();
    let mut sim = Sim::current(&db);
    commits(&writer, 1);
    sim.tracker.reopen(Error::new(Status::Failed, "test", "it", "closes"), sim.now);
    fs::rename(db.dir.path().join("replica"), db.dir.path().join("gone")).unwrap();
    assert!(sim.drain().is_some(), "closed, and it did not open again");
}

/// A writer that never rests: what is committed when the order comes is drained, not what follows.
#[test]
fn a_drain_under_a_writer_ends() {
    let (db, writer) = new_db();
    let mut sim = Sim::current(&db);
    sim.tracker.drain();
    sim.keep = |done| matches!(done, Done::Shipped(..));
    let mut steps = 0;
    sim.until(|sim| {
        // Backfilled, so that nothing is pinned, and more is captured while a shipment is under way.
        commits(&writer, 1);
        checkpoint(&writer, "PASSIVE");
        if steps % 4 == 3 {
            sim.kept.pop().into_iter().for_each(|done| sim.tracker.done(done, sim.now));
        }
        steps += 1;
        sim.tracker.is_ended()
    });
    assert!(steps < 100, "{steps}");
    assert!(sim.tracker.take_error().is_none());
}

/// While a destination fails, a large transaction waits in the WAL, and nothing spins.
#[test]
fn trap_19_a_large_transaction_waits_for_its_destination() {
    let (db, writer) = new_db();
    let (mut sim, faulty) = Sim::faulty(&db);
    sim = sim.without_spool(&db);
    sim.until(|sim| sim.is_current());
    faulty.fail_all(Operation::Put, Fault::Refused);
    writer.execute_batch("INSERT INTO t(x) VALUES (randomblob(9000000))").unwrap();
    let jobs = sim.jobs;
    sim.for_ms(30_000);
    assert!(sim.jobs - jobs < 100, "{} jobs in half a minute", sim.jobs - jobs);
    faulty.heal();
    sim.until(|sim| sim.is_current());
    agrees(&db);
}

/// It waited for the commits before it, which were on their way: once the application had checkpointed it,
/// the WAL was let go of, or since it was long, and the next commit was written over it.
#[test]
fn trap_19_a_large_transaction_is_kept_until_what_comes_before_it_is_shipped() {
    for wal_max in [1 << 20, 256 << 20] {
        let (db, writer) = new_db();
        let mut config = db.config();
        config.settings.wal_max = wal_max;
        let mut sim = Sim::new(&db);
        sim.tracker = Tracker::new(&config, false, sim.now);
        sim.until(|sim| sim.is_current());
        commits(&writer, 1);
        sim.keep = |done| matches!(done, Done::Shipped(..));
        sim.until(|sim| !sim.kept.is_empty());
        commits(&writer, 1);
        writer.execute_batch("INSERT INTO t(x) VALUES (randomblob(9000000))").unwrap();
        sim.for_ms(1000);
        checkpoint(&writer, "PASSIVE");
        sim.for_ms(1000);
        commits(&writer, 1);
        sim.keep = |_| false;
        let late = sim.kept.pop().unwrap();
        sim.tracker.done(late, sim.now);
        sim.until(|sim| sim.is_current());
        assert_eq!((sim.opened, sim.tracker.status.counts.missed), (1, 0));
        agrees(&db);
    }
}

/// Nothing was shipped that took it along, and the writer never rested: `status` went on saying that all was
/// well, and that nothing was late.
#[test]
fn trap_84_what_is_stuck_is_told_though_the_writer_never_rests() {
    let (db, writer) = new_db();
    let mut sim = Sim::current(&db);
    // It never comes back.
    sim.keep = |done| matches!(done, Done::Shipped(..));
    for _ in 0..30 {
        commits(&writer, 1);
        sim.for_ms(500);
    }
    let record = status::Record::load(&sim.tracker.database);
    assert_eq!(sim.kept.len(), 1);
    assert!(record.wal_frames > 20 && record.lacks_since[0].is_some(), "{record:?}");
}

/// A few frames cut off hundreds of thousands of pages: a hash of each was held in memory.
#[test]
fn trap_19_a_transaction_that_cuts_off_many_pages_is_a_large_one() {
    let db = Db::empty(512);
    let writer = db.open();
    let sql = |sql: &str| writer.execute_batch(sql).unwrap();
    sql("PRAGMA auto_vacuum = FULL; VACUUM; CREATE TABLE t(id INTEGER PRIMARY KEY, x)");
    sql("INSERT INTO t(x) VALUES (zeroblob(40000000))");
    assert_eq!(checkpoint(&writer, "TRUNCATE").0, 0);
    let mut sim = Sim::current(&db);
    let before = db.wal_bytes();
    sql("DELETE FROM t");
    assert!(db.wal_bytes() - before < 4_000_000, "it has few frames");
    let mut large = false;
    sim.until(|sim| {
        if let Phase::Here(capture) = &sim.tracker.phase {
            large |= capture.large().is_some();
        }
        large && sim.is_current()
    });
    agrees(&db);
    commits(&writer, 2);
    assert!(sim.drain().is_none());
    agrees(&db);
}

/// VACUUM of a database of which most was deleted wrote more than is held in memory, and cut off more
/// pages than that: the one made it forget the other, and none of what it had written was shipped.
#[test]
fn trap_19_a_large_transaction_that_cuts_off_many_pages_ships_what_it_wrote() {
    let db = Db::empty(512);
    let writer = db.open();
    let sql = |sql: &str| writer.execute_batch(sql).unwrap();
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, x)");
    sql("INSERT INTO t(x) VALUES (zeroblob(40000000)), (randomblob(10000000))");
    assert_eq!(checkpoint(&writer, "TRUNCATE").0, 0);
    let mut sim = Sim::current(&db);
    sql("DELETE FROM t WHERE id = 1");
    sim.until(|sim| sim.is_current());
    let before = db.wal_bytes();
    sql("VACUUM");
    assert!(db.wal_bytes() - before > 9_000_000, "it has many frames");
    sim.until(|sim| sim.is_current());
    agrees(&db);
}

#[test]
fn trap_19_a_large_transaction_whose_wal_is_lost_is_healed() {
    let (db, writer) = new_db();
    let (mut sim, faulty) = Sim::faulty(&db);
    sim = sim.without_spool(&db);
    sim.until(|sim| sim.is_current());
    faulty.fail_all(Operation::Put, Fault::Refused);
    writer.execute_batch("INSERT INTO t(x) VALUES (randomblob(9000000))").unwrap();
    sim.for_ms(1000);
    let Phase::Here(capture) = &mut sim.tracker.phase else { panic!("away") };
    capture.source.release().unwrap();
    assert_eq!(checkpoint(&writer, "TRUNCATE").0, 0);
    commits(&writer, 2);
    faulty.heal();
    sim.until(|sim| sim.opened == 2 && sim.is_current());
    agrees(&db);
}

/// Torture, a store that lies: a daemon took its database up again and again, and a `sync` between two
/// of its tries claimed a timeline. The daemon took it for another host's, and ended with status 6.
#[test]
fn a_daemon_that_cannot_begin_yet_keeps_its_lock() {
    let (db, writer) = new_db();
    let root = db.dir.path().join("replica");
    fs::write(&root, "in its way").unwrap();
    let mut sim = Sim::new(&db);
    sim.for_ms(3000);
    assert_eq!(sim.opened, 0);
    assert!(open::try_lock(&db.config().state_dir).unwrap().is_none(), "not locked");
    fs::remove_file(&root).unwrap();
    commits(&writer, 2);
    sim.until(|sim| sim.opened == 1 && sim.is_current());
    assert!(sim.drain().is_none());
    assert!(is_unlocked(&db));
    agrees(&db);
}

/// A shipment is under way when the database has to be taken up again. Its result must not be taken
/// for one of the new life, nor may the new life begin, or somebody else's, before it is in.
#[test]
fn results_of_an_earlier_life_come_late() {
    let (db, writer) = new_db();
    let mut sim = Sim::current(&db);
    sim.keep = |done| matches!(done, Done::Shipped(..));
    commits(&writer, 2);
    sim.until(|sim| !sim.kept.is_empty());
    sim.tracker.reopen(Error::new(Status::Failed, "test", "it", "closes"), sim.now);
    sim.for_ms(5000);
    assert_eq!(sim.opened, 1, "it waits");
    assert!(open::try_lock(&db.config().state_dir).unwrap().is_none(), "still locked");
    sim.keep = |_| false;
    let late = sim.kept.pop().unwrap();
    sim.tracker.done(late, sim.now);
    assert!(sim.tracker.shipper.is_none());
    assert!(open::try_lock(&db.config().state_dir).unwrap().is_none(), "between two lives too");
    sim.until(|sim| sim.opened == 2 && sim.is_current());
    commits(&writer, 2);
    assert!(sim.drain().is_none());
    agrees(&db);
    assert_eq!(snapshots(&db), 1);
}

/// The same long run: a `sync` gave up on one destination while its shipment to the other one was under
/// way, and let go of the lock. A daemon took the database up, and then the shipment wrote the page index.
#[test]
fn trap_64_a_daemon_that_ends_waits_for_what_is_under_way() {
    let (db, _writer) = new_db();
    let mut daemon = Daemon::begin(&vec![db.config()].into(), &Stop::default()).unwrap();
    let at = daemon.newest;
    while !daemon.trackers[&at].has_begun() {
        daemon.turn(clock::instant());
        daemon.wait(Duration::from_millis(1));
    }
    let (go, waits) = std::sync::mpsc::channel();
    let tracker = daemon.trackers.get_mut(&at).unwrap();
    let job = tracker.sent_out(super::lanes::Journey::new(&"".into(), move || {
        waits.recv().unwrap();
        Abroad::Looked(0)
    }));
    daemon.pool.run(&job.route, move || (at, (job.work)()));
    tracker.fail(Error::new(Status::Unreachable, "test", "it", "ends"));
    assert!(daemon.ended().is_none(), "a job is under way");
    assert!(open::try_lock(&db.config().state_dir).unwrap().is_none(), "still locked");
    go.send(()).unwrap();
    while daemon.ended().is_none() {
        daemon.wait(Duration::from_millis(1));
    }
    assert!(is_unlocked(&db));
}

/// Fenced while a pass of capture is away: the end is the end.
#[test]
fn results_that_come_after_the_end_change_nothing() {
    let (db, writer) = new_db();
    let mut sim = Sim::current(&db);
    sim.keep = |done| matches!(done, Done::Captured(..));
    commits(&writer, 2);
    sim.until(|sim| !sim.kept.is_empty());
    let fenced = Error::new(Status::Locked, "put", "it", "another daemon has stored other commits");
    sim.tracker.put_failed(fenced, sim.now);
    assert!(sim.tracker.is_ended());
    let late = sim.kept.pop().unwrap();
    sim.tracker.done(late, sim.now);
    assert!(sim.tracker.is_ended() && sim.tracker.take_error().is_some());
    assert!(is_unlocked(&db));
}

#[test]
fn commits_missed_during_a_snapshot_are_healed_by_another() {
    let (db, writer) = new_db();
    writer.execute_batch("INSERT INTO t(x) VALUES (randomblob(9000000))").unwrap();
    assert_eq!(checkpoint(&writer, "TRUNCATE").0, 0);
    let mut sim = Sim::new(&db);
    sim.until(|sim| match &sim.tracker.phase {
        Phase::Here(capture) => capture.rolling().is_some_and(|(done, _)| done > 0),
        _ => false,
    });
    let Phase::Here(capture) = &mut sim.tracker.phase else { panic!("away") };
    capture.source.release().unwrap();
    for _ in 0..2 {
        commits(&writer, 1);
        assert_eq!(checkpoint(&writer, "TRUNCATE").0, 0);
    }
    commits(&writer, 1);
    sim.until(|sim| sim.is_current());
    assert_eq!((sim.tracker.status.counts.missed, sim.tracker.status.counts.resyncs), (1, 1));
    assert!(sim.drain().is_none());
    agrees(&db);
}

/// Corruption is found again each time: it is tried less and less often, and heals when it is gone.
#[test]
fn trap_22_corruption_is_reported_and_not_hammered() {
    let (db, writer) = new_db();
    let mut sim = Sim::current(&db);
    let Phase::Here(capture) = &mut sim.tracker.phase else { panic!("away") };
    capture.source.hold().unwrap();
    commits(&writer, 3);
    let wal = fs::File::options().write(true).open(db.beside("-wal")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&wal, &[0x55; 16], db.wal_bytes() - 100).unwrap();
    sim.for_ms(60_000);
    assert!(sim.opened > 2 && sim.opened < 40, "taken up {} times in a minute", sim.opened);
    let status = serde_json::to_string(&sim.tracker.status).unwrap();
    assert!(status.contains("corrupt") || sim.tracker.retries > 3, "{status}");
    assert!(sim.drain().is_some());
}

#[test]
fn trap_64_two_daemons_on_one_database() {
    let (db, _writer) = new_db();
    let mut other = Process::new(&db.path);
    let sim = Sim::current(&db);
    assert_eq!(other.ask("daemon"), "Locked");
    assert_eq!(Status::Locked as i32, 6);
    drop(sim);
    assert_eq!(other.ask("daemon"), "ok");
    agrees(&db);
}

/// Commits that a destination does not take are counted, until it takes them.
#[test]
fn what_waits_for_a_destination_is_told() {
    let (db, writer) = new_db();
    let (mut sim, faulty) = Sim::faulty(&db);
    sim.until(|sim| sim.is_current());
    faulty.fail_all(Operation::Put, Fault::Full);
    commits(&writer, 3);
    sim.for_ms(5000);
    let told = || status::status(&db.config()).unwrap().destinations.remove(0);
    assert_eq!((told().behind_commits, &*told().standing), (3, "broken"));
    assert!(told().lag.is_some());
    assert!(told().error.is_some());
    faulty.heal();
    sim.until(|sim| sim.is_current());
    sim.for_ms(5000);
    assert_eq!((told().behind_commits, &*told().standing), (0, "current"));
    assert_eq!(told().lag, None);
}
