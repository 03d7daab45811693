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

mod cursor;
mod hosts;
mod power;
mod replaced;
mod running;

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
