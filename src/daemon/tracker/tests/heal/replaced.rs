//! Other files take the place of the database's.

use super::*;

/// Replaces the database under a running daemon as SQLite demands it: everybody else has closed it,
/// and its WAL goes with it.
fn replace(db: &Db, by: &std::path::Path) {
    for suffix in ["-wal", "-shm"] {
        fs::remove_file(db.beside(suffix)).ok();
    }
    fs::rename(by, &db.path).unwrap();
}

/// As a file beside the database, without a WAL.
fn other_database(db: &Db) -> std::path::PathBuf {
    let path = db.dir.path().join("other.db");
    let other = Connection::open(&path).unwrap();
    sql(&other, "PRAGMA page_size = 1024; PRAGMA journal_mode = WAL");
    sql(&other, "CREATE TABLE t(id INTEGER PRIMARY KEY, x); INSERT INTO t(x) VALUES ('other')");
    path
}

#[test]
fn trap_47_the_database_is_replaced_by_rename() {
    let (db, writer, mut history) = stopped();
    let mut sim = Sim::current(&db);
    commits(&writer, 3);
    sim.until(|sim| !sim.is_current());
    drop(writer);
    let last = db.image();
    replace(&db, &other_database(&db));
    sim.until(|sim| sim.opened == 2 && sim.is_current());
    agrees(&db);
    history.push((CommitNo(on_disk(&db).unwrap().commit.number.0 - 1), last));
    holds(&db, &history);
    let writer = db.open();
    commits(&writer, 3);
    assert!(sim.drain().is_none());
    agrees(&db);
}

/// A new file is moved over the old one before the old one's WAL is removed. Whoever opened it then
/// would play the old WAL into it.
#[test]
fn trap_47_an_old_wal_is_not_played_into_a_new_file() {
    let (db, writer, history) = stopped();
    let mut sim = Sim::current(&db);
    commits(&writer, 3);
    sim.until(|sim| !sim.is_current());
    sim.until(|sim| sim.is_current());
    drop(writer);
    let new = other_database(&db);
    let bytes = fs::read(&new).unwrap();
    fs::rename(&new, &db.path).unwrap();
    sim.for_ms(5000);
    assert_eq!(sim.opened, 1, "not with that WAL");
    let status = serde_json::to_string(&sim.tracker.status).unwrap();
    assert!(status.contains("belongs to the file that it has replaced"), "{status}");
    for suffix in ["-wal", "-shm"] {
        fs::remove_file(db.beside(suffix)).unwrap();
    }
    assert!(fs::read(&db.path).unwrap() == bytes, "nothing was written to it");
    sim.until(|sim| sim.opened == 2 && sim.is_current());
    agrees(&db);
    holds(&db, &history);
}

/// Somebody removes the WAL of an open database: what is committed from then on goes to another file
/// than the one that is watched.
#[test]
fn trap_47_the_wal_is_removed_under_the_daemon() {
    let (db, writer, history) = stopped();
    let mut sim = Sim::current(&db);
    drop(writer);
    for suffix in ["-wal", "-shm"] {
        fs::remove_file(db.beside(suffix)).unwrap();
    }
    // In another process: SQLite shares what this one has open.
    let mut writer = Process::new(&db.path);
    writer.sql("INSERT INTO t(x) VALUES ('one')");
    sim.until(|sim| sim.opened == 2 && sim.is_current());
    writer.sql("INSERT INTO t(x) VALUES ('two')");
    sim.until(|sim| !sim.is_current());
    sim.until(|sim| sim.is_current());
    agrees(&db);
    holds(&db, &history);
}

/// The old file is still there when its WAL goes, and a new one comes only then. A WAL made for the
/// old file in between would be found beside the new one.
#[test]
fn trap_47_the_wal_is_removed_before_the_file() {
    let (db, writer, history) = stopped();
    let mut sim = Sim::current(&db);
    drop(writer);
    for suffix in ["-wal", "-shm"] {
        fs::remove_file(db.beside(suffix)).unwrap();
    }
    sim.for_ms(60_000);
    assert_eq!(sim.opened, 1);
    assert!(!db.beside("-wal").exists() && !db.beside("-shm").exists());
    let status = serde_json::to_string(&sim.tracker.status).unwrap();
    assert!(status.contains("was removed while it was open"), "{status}");
    fs::rename(other_database(&db), &db.path).unwrap();
    sim.until(|sim| sim.opened == 2 && sim.is_current());
    agrees(&db);
    holds(&db, &history);
}

/// What a drain ends with is the file that is there, not the one that was.
#[test]
fn trap_47_replaced_just_before_the_drain() {
    let (db, writer, history) = stopped();
    let mut sim = Sim::current(&db);
    sim.for_ms(100);
    drop(writer);
    replace(&db, &other_database(&db));
    commits(&db.open(), 3);
    assert!(sim.drain().is_none());
    agrees(&db);
    holds(&db, &history);
}

#[test]
fn trap_48_the_database_is_deleted_and_created_anew() {
    let (db, writer, history) = stopped();
    let mut sim = Sim::current(&db);
    drop(writer);
    for suffix in ["-wal", "-shm", ""] {
        fs::remove_file(db.beside(suffix)).unwrap();
    }
    sim.for_ms(10_000);
    let status = serde_json::to_string(&sim.tracker.status).unwrap();
    assert!(status.contains("No such file") && !sim.is_current(), "{status}");
    fs::rename(other_database(&db), &db.path).unwrap();
    let writer = db.open();
    commits(&writer, 3);
    sim.until(|sim| sim.is_current());
    agrees(&db);
    holds(&db, &history);
}

/// An older copy takes the database's place: what is there now counts, and what was there stays.
#[test]
fn trap_51_restored_from_an_older_copy() {
    for running in [true, false] {
        let (db, writer, mut history) = stopped();
        let old = db.copy();
        drop(old.open());
        commits(&writer, 10);
        let mut sim = Sim::current(&db);
        note(&db, &mut history);
        drop(writer);
        if running {
            replace(&db, &old.path);
            sim.until(|sim| sim.opened == 2 && sim.is_current());
        } else {
            assert!(sim.drain().is_none());
            // In place: the inode stays.
            fs::write(&db.path, fs::read(&old.path).unwrap()).unwrap();
            sim = Sim::current(&db);
        }
        agrees(&db);
        holds(&db, &history);
        commits(&db.open(), 2);
        assert!(sim.drain().is_none());
        agrees(&db);
        holds(&db, &history);
    }
}

/// A checkpoint of our own was due just when another file had taken the database's place, and the WAL of the
/// old one still lay beside it: it was moved into the new file.
#[test]
fn trap_47_a_checkpoint_of_our_own_leaves_a_file_that_took_its_place_alone() {
    let (db, writer) = new_db();
    let new = other_database(&db);
    let mut config = db.config();
    config.settings.checkpoint_pages = 10;
    let mut sim = Sim::new(&db);
    sim.tracker = Tracker::new(&config, false, sim.now);
    sim.until(|sim| sim.is_current());
    sim.for_ms(2000);
    commits(&writer, 30);
    sim.until(|sim| sim.is_current() && sim.tracker.unchecked_since.is_some());
    // The application dies: the WAL stays, and nobody heeds it.
    let option = rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    writer.set_db_config(option, true).unwrap();
    drop(writer);
    fs::rename(&new, &db.path).unwrap();
    let before = fs::read(&db.path).unwrap();
    // The daemon looks whether it is the same file once in a second, and the checkpoint came before that.
    sim.tracker.identified_at = sim.now + Duration::from_secs(60);
    sim.keep = |done| matches!(done, Done::Checkpointed(..));
    sim.until(|sim| !sim.kept.is_empty());
    assert!(matches!(sim.kept[..], [Done::Checkpointed(Ok(()))]));
    assert!(fs::read(&db.path).unwrap() == before, "the new file was written to");
}

/// Found by a reviewer: that it had been gone once, for a moment, was never forgotten. A new file was then
/// opened at once beside the old one's WAL.
#[test]
fn a_file_that_was_gone_for_a_moment_is_as_any_other() {
    let (db, writer) = new_db();
    let mut sim = Sim::current(&db);
    sim.for_ms(2000);
    commits(&writer, 1);
    let away = db.dir.path().join("away.db");
    fs::rename(&db.path, &away).unwrap();
    sim.now += Duration::from_secs(2);
    sim.until(|sim| sim.tracker.gone_since.is_some());
    fs::rename(&away, &db.path).unwrap();
    sim.until(|sim| sim.is_current());
    sim.for_ms(30_000);
    assert_eq!((sim.opened, sim.tracker.gone_since), (1, None));
    commits(&writer, 3);
    sim.until(|sim| !sim.is_current());
    sim.until(|sim| sim.is_current());
    drop(writer);
    fs::rename(other_database(&db), &db.path).unwrap();
    sim.for_ms(5000);
    assert_eq!(sim.opened, 1, "not with that WAL");
}
