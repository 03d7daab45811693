//! Lost continuity: whatever happened while nobody watched, the replica comes to hold what the
//! database holds now, at the price of what changed, and what it held before stays.

use super::*;
use crate::commit::{PageHash, PageNo};
use crate::index::Index;
use crate::list;
use crate::replica::{Replica, read_change};
use crate::source::Pin;
use crate::testkit::damage;
use rusqlite::Connection;

mod hosts;
mod power;
mod replaced;

/// What each commit was, by number, as the database showed it.
type History = Vec<(CommitNo, Vec<u8>)>;

fn note(db: &Db, history: &mut History) {
    history.push((on_disk(db).unwrap().commit.number, db.image()));
}

/// Every commit of `history` can still be restored, just as it was.
#[track_caller]
fn holds(db: &Db, history: &History) {
    for (number, image) in history {
        let back = restored(&replica(db), Target::Commit(*number)).unwrap();
        assert!(back == *image, "commit {number} has changed");
    }
}

/// Bytes of change-sets.
fn change_bytes(db: &Db) -> u64 {
    let objects = list::objects(&*replica(db)).unwrap();
    let changes =
        objects.iter().filter(|object| matches!(object.name, crate::name::Name::Change(_)));
    changes.map(|object| object.bytes).sum()
}

/// How many commits stand for what was not seen.
fn resyncs(db: &Db) -> usize {
    let replica = replica(db);
    let listed = Replica::list(&*replica).unwrap();
    let ends = listed.changes.values().filter_map(|parts| parts.iter().find(|part| part.end));
    let commits = ends.flat_map(|end| read_change(&*replica, end).unwrap().commits);
    commits.filter(|commit| commit.resync).count()
}

/// Stopped after having shipped everything, with a megabyte that will not change.
fn stopped() -> (Db, Connection, History) {
    let db = Db::new(1024);
    let writer = db.open();
    writer.execute_batch("INSERT INTO t(x) VALUES (randomblob(1000000))").unwrap();
    commits(&writer, 5);
    let mut history = History::new();
    Sim::current(&db).drain();
    note(&db, &mut history);
    commits(&writer, 2);
    Sim::current(&db).drain();
    note(&db, &mut history);
    (db, writer, history)
}

fn sql(connection: &Connection, sql: &str) {
    connection.execute_batch(sql).unwrap();
}

/// Starts again: the database as it is now is what the replica holds, without a new snapshot.
#[track_caller]
fn heals(db: &Db, mut history: History) -> Sim {
    let (snapshots_before, bytes) = (snapshots(db), change_bytes(db));
    let mut sim = Sim::current(db);
    agrees(db);
    assert_eq!(snapshots(db), snapshots_before, "healed by difference");
    let put = change_bytes(db) - bytes;
    assert!(put < 200_000, "{put} bytes for a few rows");
    note(db, &mut history);
    commits(&db.open(), 2);
    sim.until(|sim| !sim.is_current());
    sim.until(|sim| sim.is_current());
    agrees(db);
    holds(db, &history);
    let index = crate::index::Index::open(&db.config().state_dir.join("index")).unwrap();
    assert_eq!(Some(index.digest().unwrap()), on_disk(db).unwrap().commit.digest);
    sim
}

/// Every way in which a WAL goes on without the daemon. The first one is the one that loses rows
/// silently where only the salts are looked at: the old generation grows, is checkpointed, and the
/// new one is shorter than what was captured.
#[test]
fn trap_25_reset_while_the_daemon_is_down() {
    let ways: [fn(Connection, &Db) -> Option<Connection>; 6] = [
        |writer, _| {
            commits(&writer, 30);
            assert_eq!(checkpoint(&writer, "RESTART").0, 0);
            commits(&writer, 1);
            Some(writer)
        },
        |writer, _| {
            assert_eq!(checkpoint(&writer, "TRUNCATE").0, 0);
            commits(&writer, 1);
            Some(writer)
        },
        |writer, _| {
            for _ in 0..3 {
                commits(&writer, 4);
                assert_eq!(checkpoint(&writer, "RESTART").0, 0);
            }
            commits(&writer, 1);
            Some(writer)
        },
        |writer, _| {
            sql(&writer, "PRAGMA journal_size_limit = 0");
            commits(&writer, 3);
            assert_eq!(checkpoint(&writer, "RESTART").0, 0);
            commits(&writer, 3);
            Some(writer)
        },
        |writer, _| {
            commits(&writer, 3);
            assert_eq!(checkpoint(&writer, "TRUNCATE").0, 0);
            None
        },
        |writer, _| {
            sql(&writer, "DELETE FROM t WHERE id < 3; PRAGMA incremental_vacuum");
            sql(&writer, "CREATE TABLE u(x); INSERT INTO u SELECT x FROM t");
            assert_eq!(checkpoint(&writer, "TRUNCATE").0, 0);
            sql(&writer, "DROP TABLE u");
            Some(writer)
        },
    ];
    for way in ways {
        let (db, writer, history) = stopped();
        let _writer = way(writer, &db);
        let mut sim = heals(&db, history);
        assert_eq!(resyncs(&db), 1);
        assert_eq!(sim.tracker.status.counts.resyncs, 1);
        assert!(sim.drain().is_none());
    }
}

/// A reset leaves the file as long as it was: only the salts tell.
#[test]
fn trap_26_reset_with_the_same_file_size_while_down() {
    let (db, writer, history) = stopped();
    let bytes = db.wal_bytes();
    assert_eq!(checkpoint(&writer, "RESTART").0, 0);
    commits(&writer, 3);
    assert_eq!(db.wal_bytes(), bytes);
    heals(&db, history);
}

#[test]
fn trap_33_the_last_close_deletes_the_wal_while_down() {
    let (db, writer, history) = stopped();
    commits(&writer, 3);
    drop(writer);
    assert!(!db.beside("-wal").exists());
    heals(&db, history);
}

#[test]
fn trap_36_the_application_leaves_wal_mode_and_returns() {
    let (db, writer, history) = stopped();
    sql(&writer, "PRAGMA journal_mode = DELETE");
    commits(&writer, 3);
    sql(&writer, "PRAGMA journal_mode = WAL");
    heals(&db, history);
    // And while it stays away, the daemon says so and comes back by itself.
    let (db, writer, history) = stopped();
    sql(&writer, "PRAGMA journal_mode = DELETE");
    let mut sim = Sim::new(&db);
    sim.for_ms(3000);
    let status = serde_json::to_string(&sim.tracker.status).unwrap();
    assert!(status.contains("not in WAL mode"), "{status}");
    commits(&writer, 3);
    sql(&writer, "PRAGMA journal_mode = WAL");
    sim.until(|sim| sim.is_current());
    agrees(&db);
    holds(&db, &history);
}

#[test]
fn trap_37_the_page_size_changes_while_down() {
    let (db, writer, history) = stopped();
    sql(&writer, "PRAGMA journal_mode = DELETE; PRAGMA page_size = 4096; VACUUM");
    sql(&writer, "PRAGMA journal_mode = WAL");
    commits(&writer, 2);
    let mut sim = Sim::current(&db);
    agrees(&db);
    assert_eq!(snapshots(&db), 2, "a page of another size is never mixed in");
    holds(&db, &history);
    commits(&writer, 2);
    assert!(sim.drain().is_none());
    agrees(&db);
}

/// Found by a long run of the harness, with a store that lies: a `sync` that had failed was still writing
/// the page index when the next daemon had read it. It found nothing that differed, and acknowledged
/// commits that it had never seen.
#[test]
fn trap_64_a_page_index_that_somebody_else_has_moved_is_seen() {
    let (db, writer, history) = stopped();
    commits(&writer, 3);
    checkpoint(&writer, "TRUNCATE");
    let mut sim = Sim::new(&db);
    sim.until(|sim| sim.tracker.healing.is_some());
    let index = Index::open(&db.config().state_dir.join("index")).unwrap();
    for (page, bytes) in (1..).map(PageNo).zip(fs::read(&db.path).unwrap().chunks(1024)) {
        index.set(page, PageHash::of(page, bytes)).unwrap();
    }
    sim.until(|sim| sim.is_current());
    agrees(&db);
    assert!(sim.drain().is_none());
    holds(&db, &history);
}

/// VACUUM, and a database that got shorter: pages past the end are gone.
#[test]
fn a_database_that_shrank_while_the_daemon_was_down() {
    let (db, writer, history) = stopped();
    sql(&writer, "DELETE FROM t WHERE length(x) > 1000; VACUUM");
    drop(writer);
    heals(&db, history);
}

/// A container starts anew with a copied volume: the same bytes, another inode.
#[test]
fn trap_50_a_new_inode_with_the_same_bytes() {
    let (db, writer, history) = stopped();
    drop(writer);
    let commit = on_disk(&db).unwrap().commit;
    let copy = db.dir.path().join("copy.db");
    fs::copy(&db.path, &copy).unwrap();
    fs::rename(&copy, &db.path).unwrap();
    let bytes = change_bytes(&db);
    let mut sim = Sim::current(&db);
    assert_eq!(on_disk(&db).unwrap().commit, commit, "nothing differs, nothing is shipped");
    assert_eq!((change_bytes(&db), snapshots(&db)), (bytes, 1));
    assert!(sim.drain().is_none());
    heals(&db, history);
}

/// A power cut took commits that were shipped: the source lost them, the replica holds them. The next
/// start sees it by the checksum at the cursor's frame, or by the WAL's length. Both histories stay.
#[test]
fn trap_52_a_power_cut_takes_shipped_commits() {
    for others in [0, 1, 20] {
        let (db, writer, mut history) = stopped();
        let before = db.copy();
        commits(&writer, 4);
        let mut sim = Sim::current(&db);
        note(&db, &mut history);
        drop(sim.drain());
        drop(writer);
        // What was on the disk. With more commits, the WAL is as long as it was, or longer.
        fs::write(&db.path, fs::read(&before.path).unwrap()).unwrap();
        fs::copy(before.beside("-wal"), db.beside("-wal")).unwrap();
        let writer = db.open();
        commits(&writer, others);
        heals(&db, history);
        drop(writer);
    }
}

/// A cursor of the life before may seem to be further than the WAL that a power cut has shortened:
/// nobody is told that what is committed now is durable, before it is.
#[test]
fn trap_52_a_cursor_of_another_history_acknowledges_nothing() {
    let (db, writer, history) = stopped();
    let before = db.copy();
    commits(&writer, 4);
    drop(Sim::current(&db));
    drop(writer);
    fs::write(&db.path, fs::read(&before.path).unwrap()).unwrap();
    fs::copy(before.beside("-wal"), db.beside("-wal")).unwrap();
    let writer = db.open();
    commits(&writer, 1);
    let durable = |sim: &Sim| {
        let Phase::Here(capture) = &sim.tracker.phase else { return false };
        let wanted = capture.source.steady_look().unwrap();
        crate::daemon::sync::is_durable(&db.config(), &wanted, &[]).unwrap()
    };
    let mut sim = Sim::new(&db);
    sim.until(|sim| matches!(sim.tracker.phase, Phase::Here(_)));
    assert!(sim.tracker.healing.is_some() && !durable(&sim));
    sim.until(|sim| sim.is_current());
    assert!(durable(&sim));
    holds(&db, &history);
    // A start that goes on from the cursor counts it at once.
    drop(sim);
    let mut sim = Sim::new(&db);
    sim.until(|sim| matches!(sim.tracker.phase, Phase::Here(_)));
    assert!(durable(&sim));
}

/// The same with nothing committed since: the WAL ends before the cursor.
#[test]
fn trap_54_the_cursor_is_ahead_of_the_wal() {
    let (db, writer, mut history) = stopped();
    commits(&writer, 4);
    drop(Sim::current(&db));
    note(&db, &mut history);
    drop(writer);
    let wal = fs::File::options().write(true).create(true).truncate(false).open(db.beside("-wal"));
    wal.unwrap().set_len(32 + 24 + 1024).unwrap();
    heals(&db, history);
}

/// A reset wrote frames, and a power cut came before its header lasted: the old header is back, with
/// the salts of frames that are overwritten.
#[test]
fn trap_53_a_power_cut_between_a_reset_and_its_header() {
    let (db, writer, history) = stopped();
    let header = fs::read(db.beside("-wal")).unwrap()[..32].to_vec();
    assert_eq!(checkpoint(&writer, "RESTART").0, 0);
    commits(&writer, 2);
    let torn = db.copy();
    drop(writer);
    fs::write(&db.path, fs::read(&torn.path).unwrap()).unwrap();
    let mut wal = fs::read(torn.beside("-wal")).unwrap();
    wal[..32].copy_from_slice(&header);
    fs::write(db.beside("-wal"), wal).unwrap();
    heals(&db, history);
}

/// A cursor or index that is torn, missing, older or another database's.
#[test]
fn trap_55_a_cursor_that_cannot_be_believed() {
    let (other, _writer) = new_db();
    Sim::current(&other).drain();
    type Damage = fn(&std::path::Path, &Db);
    // Which damage, and whether the page index still gives the replica's newest commit.
    let damages: [(Damage, bool); 5] = [
        (|state, _| fs::remove_file(state.join("cursor")).unwrap(), true),
        (|state, _| fs::write(state.join("cursor"), b"bakelite cursor\x01torn").unwrap(), true),
        (|state, _| fs::remove_file(state.join("index")).unwrap(), false),
        (|state, _| fs::write(state.join("index"), [7; 64]).unwrap(), false),
        (
            |state, other| {
                for file in ["cursor", "index"] {
                    fs::copy(other.config().state_dir.join(file), state.join(file)).unwrap();
                }
            },
            false,
        ),
    ];
    for (damage, known) in damages {
        let (db, writer, history) = stopped();
        commits(&writer, 2);
        damage(&db.config().state_dir, &other);
        assert!(Sim::current(&db).drain().is_none());
        assert_eq!((snapshots(&db), resyncs(&db)), if known { (1, 1) } else { (2, 0) });
        agrees(&db);
        holds(&db, &history);
    }
}

/// An older one is believed as far as it goes; what was stored after it is adopted, and numbers go on.
#[test]
fn trap_55_an_older_cursor() {
    for lost in [false, true] {
        let (db, writer, mut history) = stopped();
        let state = db.config().state_dir;
        let old = |file: &str| state.join(format!("{file}.old"));
        for file in ["cursor", "index"] {
            fs::copy(state.join(file), old(file)).unwrap();
        }
        for _ in 0..3 {
            commits(&writer, 3);
            Sim::current(&db).drain();
            note(&db, &mut history);
        }
        for file in ["cursor", "index"] {
            fs::rename(old(file), state.join(file)).unwrap();
        }
        if lost {
            assert_eq!(checkpoint(&writer, "TRUNCATE").0, 0);
        }
        commits(&writer, 1);
        assert!(Sim::current(&db).drain().is_none());
        agrees(&db);
        holds(&db, &history);
        assert_eq!((snapshots(&db), resyncs(&db)), (1, usize::from(lost)));
        let last = history.last().unwrap().0;
        assert_eq!(on_disk(&db).unwrap().commit.number, last.next(), "nothing was shipped twice");
    }
}

/// A change-set was stored, and the machine died before the cursor said so: it is adopted, and not
/// left behind as a branch; whether its commits are still in the WAL or not.
#[test]
fn what_was_stored_beyond_the_cursor_is_adopted() {
    for lost in [false, true] {
        let (db, writer, mut history) = stopped();
        let mut sim = Sim::current(&db);
        commits(&writer, 3);
        // The parcel's cursor record is its last sync.
        let fault = fault::fail_below(&db.config().state_dir, Step::Sync, 5);
        sim.until(|sim| sim.tracker.retries > 0);
        drop(fault);
        drop(sim);
        let before = on_disk(&db).unwrap();
        history.push((CommitNo(before.commit.number.0 + 3), db.image()));
        let objects = Replica::list(&*replica(&db)).unwrap().changes.len();
        if lost {
            assert_eq!(checkpoint(&writer, "TRUNCATE").0, 0);
        }
        let mut sim = Sim::current(&db);
        holds(&db, &history);
        assert_eq!(Replica::list(&*replica(&db)).unwrap().changes.len(), objects, "nothing anew");
        commits(&writer, 1);
        assert!(sim.drain().is_none());
        agrees(&db);
        holds(&db, &history);
        assert_eq!((snapshots(&db), resyncs(&db)), (1, 0));
    }
}

/// The disk lost what the application had committed, and what was stored of it beyond the cursor is
/// another history than the one that the WAL now tells. Both stay.
#[test]
fn what_was_stored_beyond_the_cursor_and_lost_at_the_source() {
    let (db, writer, mut history) = stopped();
    let disk = db.copy();
    let mut sim = Sim::current(&db);
    commits(&writer, 3);
    let fault = fault::fail_below(&db.config().state_dir, Step::Sync, 5);
    sim.until(|sim| sim.tracker.retries > 0);
    drop(fault);
    drop(sim);
    history.push((CommitNo(on_disk(&db).unwrap().commit.number.0 + 3), db.image()));
    drop(writer);
    fs::write(&db.path, fs::read(&disk.path).unwrap()).unwrap();
    fs::copy(disk.beside("-wal"), db.beside("-wal")).unwrap();
    let writer = db.open();
    commits(&writer, 3);
    heals(&db, history);
    drop(writer);
}

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

/// A frame that SQLite published is damaged while nobody watches: a resync does not take it for good.
#[test]
fn trap_22_a_corrupt_wal_is_not_resynced() {
    let (db, writer, history) = stopped();
    assert_eq!(checkpoint(&writer, "TRUNCATE").0, 0);
    commits(&writer, 5);
    let at = db.wal_bytes() - 100;
    let wal = db.beside("-wal");
    let whole = fs::read(&wal).unwrap()[at as usize..][..16].to_vec();
    damage(&wal, at, &[0x55; 16]);
    let mut sim = Sim::new(&db);
    sim.for_ms(10_000);
    let status = serde_json::to_string(&sim.tracker.status).unwrap();
    assert!(status.contains("corrupt") && !sim.is_current(), "{status}");
    assert_eq!(resyncs(&db), 0);
    damage(&wal, at, &whole);
    sim.until(|sim| sim.is_current());
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
