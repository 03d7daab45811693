//! Continuity is lost, or could be, while the daemon runs; and what happens during a resync.

use super::*;

/// The process ends at each step of a resync, and the next start goes on.
#[test]
fn a_crash_between_any_two_writes_of_a_resync() {
    let outage = || {
        let (db, writer, history) = stopped();
        sql(&writer, "INSERT INTO t(x) VALUES (randomblob(100000))");
        assert_eq!(checkpoint(&writer, "TRUNCATE").0, 0);
        commits(&writer, 1);
        (db, writer, history)
    };
    let steps = {
        let (db, _writer, _) = outage();
        let watch = fault::watch();
        Sim::current(&db);
        watch.steps().into_iter().map(|(step, _)| step).collect::<Vec<_>>()
    };
    assert!(steps.len() >= 10, "{steps:?}");
    for at in 0..steps.len() {
        let nth = steps[..=at].iter().filter(|step| **step == steps[at]).count();
        let (db, writer, history) = outage();
        let mut sim = Sim::new(&db);
        let fault = fault::fail(steps[at], nth as u64, 5);
        sim.until(|sim| sim.tracker.retries > 0 || sim.is_current());
        drop(fault);
        drop(sim);
        commits(&writer, 1);
        heals(&db, history);
        assert_eq!(resyncs(&db), 1, "{at} {steps:?}");
    }
}

/// A destination that fails during a resync: it begins again, and heals once only.
#[test]
fn a_resync_waits_for_its_destination() {
    for nth in 1u64..=6 {
        let (db, writer, history) = stopped();
        sql(&writer, "UPDATE t SET x = randomblob(6000000) WHERE id = 1");
        assert_eq!(checkpoint(&writer, "TRUNCATE").0, 0);
        commits(&writer, 1);
        let (mut sim, faulty) = Sim::faulty(&db);
        let fault = if nth % 2 == 0 { Fault::Full } else { Fault::ReplyLost };
        faulty.fail(Operation::Put, nth.div_ceil(2), fault);
        sim.until(|sim| sim.is_current());
        agrees(&db);
        holds(&db, &history);
        assert_eq!((snapshots(&db), resyncs(&db)), (1, 1));
        commits(&writer, 2);
        assert!(sim.drain().is_none());
        agrees(&db);
    }
}

/// While a resync reads, the application commits, checkpoints and closes; none of it gets lost.
#[test]
fn commits_during_a_resync_come_after_it() {
    let db = Db::new(1024);
    let writer = db.open();
    sql(&writer, "INSERT INTO t(x) VALUES (zeroblob(150000000))");
    assert_eq!(checkpoint(&writer, "TRUNCATE").0, 0);
    Sim::current(&db).drain();
    commits(&writer, 1);
    assert_eq!(checkpoint(&writer, "TRUNCATE").0, 0);
    let mut sim = Sim::new(&db);
    let mut under_way = 0;
    sim.until(|sim| {
        let healing = sim.tracker.healing.as_ref();
        if healing.is_some_and(|healing| healing.resync.is_some()) {
            under_way += 1;
            commits(&writer, 1);
            sql(&writer, "UPDATE t SET x = hex(randomblob(10)) WHERE id > 1");
            checkpoint(&writer, "PASSIVE");
        }
        under_way > 0 && sim.is_current()
    });
    assert!(under_way > 1, "it takes several steps");
    assert_eq!((snapshots(&db), resyncs(&db)), (1, 1));
    agrees(&db);
    let commit = on_disk(&db).unwrap().commit.number;
    assert_eq!(commit.0, 1 + 1 + 2 * under_way, "each one is a restore point");
    assert!(sim.drain().is_none());
}

/// A machine that slept through whole cycles of the WAL: pinned, it catches up; else it heals.
#[test]
fn trap_68_the_daemon_sleeps_for_long() {
    for pinned in [true, false] {
        let (db, writer, history) = stopped();
        let mut sim = Sim::current(&db);
        let Phase::Here(capture) = &mut sim.tracker.phase else { panic!("away") };
        if pinned {
            assert!(capture.source.hold().unwrap());
        } else {
            capture.source.release().unwrap();
        }
        for _ in 0..4 {
            commits(&writer, 10);
            let busy = checkpoint(&writer, "RESTART").0;
            assert_eq!(busy, i64::from(pinned));
        }
        commits(&writer, 1);
        sim.until(|sim| sim.is_current() && (pinned || sim.opened == 2));
        agrees(&db);
        holds(&db, &history);
        assert_eq!((snapshots(&db), resyncs(&db)), (1, usize::from(!pinned)));
        assert_eq!(sim.tracker.status.counts.missed, u64::from(!pinned));
        if pinned {
            let newest = on_disk(&db).unwrap().commit.number;
            assert_eq!(newest.0, history.last().unwrap().0.0 + 41, "each one is a restore point");
        }
    }
}

/// The application's SQLite loses commits that it had published (the WAL-reset bug of 3.7.0 to
/// 3.51.2), or something writes past SQLite: the next snapshot finds that the database is not what
/// was captured. It is told, and healed.
#[test]
fn trap_44_the_source_loses_what_the_replica_holds() {
    let (db, writer, mut history) = stopped();
    let mut config = db.config();
    config.settings.snapshot_interval = Duration::from_millis(1);
    // The page is in the file alone: SQLite reads it from there.
    assert_eq!(checkpoint(&writer, "TRUNCATE").0, 0);
    let mut sim = Sim::new(&db);
    sim.tracker = Tracker::new(&config, false, sim.now);
    commits(&writer, 3);
    sim.until(|sim| sim.is_current());
    note(&db, &mut history);
    damage(&db.path, 500 * 1024 + 500, b"not what was committed");
    commits(&writer, 1);
    sim.until(|sim| sim.opened == 2 && sim.is_current());
    agrees(&db);
    holds(&db, &history);
    assert_eq!((sim.tracker.status.counts.divergences, resyncs(&db)), (1, 2));
    // And it is healed for good: the next snapshot finds nothing.
    let before = snapshots(&db);
    for _ in 0..3 {
        commits(&writer, 1);
        sim.until(|sim| !sim.is_current());
        sim.until(|sim| sim.is_current());
    }
    assert!(snapshots(&db) > before);
    assert_eq!(sim.tracker.status.counts.divergences, 1);
    agrees(&db);
}

/// Snapshots under a writer that never rests: pages that come too new are no divergence.
#[test]
fn trap_44_a_busy_writer_is_no_divergence() {
    let (db, writer, _) = stopped();
    let mut config = db.config();
    config.settings.snapshot_interval = Duration::from_millis(1);
    let mut sim = Sim::new(&db);
    sim.tracker = Tracker::new(&config, false, sim.now);
    let wanted = snapshots(&db) + 3;
    sim.keep = |done| matches!(done, Done::Captured(..));
    sim.until(|sim| {
        // Each pass is over before the next commit, and none of them sees it.
        commits(&writer, 1);
        checkpoint(&writer, "PASSIVE");
        sim.kept.pop().into_iter().for_each(|done| sim.tracker.done(done, sim.now));
        snapshots(&db) >= wanted
    });
    sim.keep = |_| false;
    assert_eq!(sim.tracker.status.counts.divergences, 0);
    sim.until(|sim| sim.is_current());
    agrees(&db);
}

/// Slot 0 is held while nothing happens, and left when something does: checkpoints go on.
#[test]
fn trap_31_the_daemon_leaves_slot_0_for_another() {
    let (db, writer) = new_db();
    let mut sim = Sim::current(&db);
    for _ in 0..3 {
        checkpoint(&writer, "PASSIVE");
        sim.until(
            |sim| matches!(&sim.tracker.phase, Phase::Here(it) if it.source.pin() == Pin::Zero),
        );
        commits(&writer, 3);
        sim.until(|sim| {
            let (_, frames, moved) = checkpoint(&writer, "PASSIVE");
            sim.is_current() && frames == moved
        });
    }
    agrees(&db);
}

/// A worker takes up a reset when it comes to it; by then a fast writer would have reset the WAL again.
#[test]
fn trap_24_a_second_reset_before_a_worker_comes_to_the_first() {
    let (db, writer) = new_db();
    let mut sim = Sim::current(&db);
    let Phase::Here(capture) = &mut sim.tracker.phase else { panic!() };
    capture.source.release().unwrap();
    let reset = || {
        checkpoint(&writer, "PASSIVE");
        commits(&writer, 1);
    };
    commits(&writer, 3);
    reset();
    sim.now = sim.tracker.next_turn();
    let job = sim.tracker.turn(sim.now).unwrap();
    reset();
    let done = (job.work)();
    assert!(matches!(done, Done::Captured(..)));
    sim.tracker.done(done, sim.now);
    sim.until(|sim| sim.is_current());
    assert_eq!(sim.tracker.status.counts.missed, 0);
    agrees(&db);
}

/// A writer was killed in the middle of a publication, and nobody ever opens the database again.
#[test]
fn trap_23_a_wal_index_that_is_left_torn_does_not_keep_a_drain_from_its_end() {
    for lost in [false, true] {
        let (db, writer) = new_db();
        let mut sim = Sim::current(&db);
        let Phase::Here(capture) = &sim.tracker.phase else { panic!() };
        let byte = capture.source.look().unwrap().frames.to_ne_bytes()[0];
        commits(&writer, 3);
        Process::new(&db.path).poke(16, &[byte ^ 1]);
        sim.tracker.lost = lost;
        assert!(sim.drain().is_none());
        agrees(&db);
    }
}

/// A destination takes nothing, and the pinned WAL grows: past `wal_max` it is let go of. What was
/// missed then is healed by difference, and so is told.
#[test]
fn trap_32_a_pin_does_not_let_the_wal_grow_without_end() {
    let (db, writer, history) = stopped();
    let mut config = db.config();
    (config.settings.wal_max, config.settings.spool_max) = (8 << 20, 0);
    let (mut sim, faulty) = Sim::faulty(&db);
    sim.tracker = Tracker::new(&config, false, sim.now);
    sim.until(|sim| sim.is_current());
    faulty.fail_all(Operation::Put, Fault::Full);
    for _ in 0..40 {
        sql(&writer, "UPDATE t SET x = randomblob(1000000) WHERE id = 1");
        checkpoint(&writer, "RESTART");
        sim.for_ms(100);
    }
    assert!(db.wal_bytes() < 16 << 20, "{}", db.wal_bytes());
    faulty.heal();
    sim.until(|sim| sim.opened == 2 && sim.is_current());
    assert_eq!((sim.tracker.status.counts.missed, sim.tracker.status.counts.resyncs), (1, 1));
    assert_eq!(snapshots(&db), 1);
    agrees(&db);
    holds(&db, &history);
}

/// A resync reads the database at one commit, whatever a writer in another process commits, moves
/// into the file and cuts off meanwhile.
#[test]
fn a_resync_under_a_busy_writer_is_one_commit() {
    let db = Db::new(512);
    sql(&db.open(), "PRAGMA auto_vacuum = FULL; VACUUM");
    let mut writer = Process::new(&db.path);
    writer.sql("PRAGMA wal_autocheckpoint = 50");
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = std::sync::Arc::clone(&stop);
    let thread = std::thread::spawn(move || {
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            writer.sql("INSERT INTO t(x) VALUES (randomblob(20000))");
            writer.sql("UPDATE t SET x = randomblob(9000) WHERE id = (SELECT max(id) FROM t)");
            writer.sql("DELETE FROM t WHERE id < (SELECT max(id) FROM t) - 8");
        }
    });
    Sim::current(&db).drain();
    for round in 0..200 {
        let mut sim = Sim::new(&db);
        sim.tracker.distrust = true;
        sim.until(|sim| sim.opened == 1 && sim.tracker.healing.is_some());
        sim.until(|sim| sim.tracker.healing.is_none());
        let commit = on_disk(&db).unwrap().commit.number;
        let image = restored(&replica(&db), Target::Commit(commit)).unwrap();
        let file = db.dir.path().join("back.db");
        fs::write(&file, image).unwrap();
        let found = crate::sqlite::check(&file, "integrity_check").unwrap();
        assert_eq!(found, "ok", "round {round}");
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    thread.join().unwrap();
}

/// A resync that no destination takes is tried again and again: until it begins anew the WAL is the
/// application's, which may cut it off.
#[test]
fn trap_32_a_resync_that_waits_holds_no_wal() {
    let (db, writer, _) = stopped();
    sql(&writer, "UPDATE t SET x = randomblob(6000000) WHERE id = 1");
    assert_eq!(checkpoint(&writer, "TRUNCATE").0, 0);
    commits(&writer, 3);
    let (sim, faulty) = Sim::faulty(&db);
    let mut sim = sim.without_spool(&db);
    faulty.fail_all(Operation::Put, Fault::Refused);
    sim.until(|sim| sim.tracker.healing.is_some());
    for _ in 0..3 {
        sim.until(|sim| sim.tracker.retry_at > sim.now && sim.tracker.healing.is_some());
        sim.step();
        commits(&writer, 3);
        assert_eq!(checkpoint(&writer, "TRUNCATE").0, 0, "nothing holds it");
        sim.now = sim.tracker.retry_at;
        sim.step();
    }
    faulty.heal();
    sim.until(|sim| sim.is_current());
    agrees(&db);
}

/// A look into the page index failed: the commit was not numbered, and the mark was past it all the same. The
/// daemon left the database, but some other job was under way, and meanwhile what was cut in that pass was
/// shipped. It went on from there, without the commit, and no count of anything showed it.
#[test]
fn trap_58_nothing_is_shipped_of_a_pass_that_failed() {
    let (db, writer) = new_db();
    let mut sim = Sim::current(&db);
    sim.for_ms(1000);
    let before = on_disk(&db).unwrap();
    sim.tracker.jobs += 1;
    sql(&writer, "CREATE TABLE u AS SELECT 'not to be lost'");
    let blind = fs::File::create(db.dir.path().join("blind")).unwrap();
    let Phase::Here(capture) = &mut sim.tracker.phase else { panic!("away") };
    let index = capture.swap_index(Arc::new(Index::of_file(blind)));
    sim.until(|sim| sim.tracker.leaving);
    let Phase::Here(capture) = &mut sim.tracker.phase else { panic!("away") };
    capture.swap_index(index);
    sim.for_ms(1000);
    assert_eq!(on_disk(&db).unwrap(), before);
    sim.tracker.jobs -= 1;
    sim.tracker.leave();
    sim.until(|sim| sim.opened == 2 && sim.is_current());
    agrees(&db);
    commits(&writer, 1);
    assert!(sim.drain().is_none());
    agrees(&db);
}
