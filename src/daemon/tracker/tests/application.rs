//! What an application may do to its database while the daemon watches: it is followed, or refused by
//! SQLite as the man page says, and never waits.

use super::*;
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

/// Rows of `t` in a restored database.
fn rows(bytes: &[u8]) -> i64 {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("restored.db");
    fs::write(&path, bytes).unwrap();
    let restored = Connection::open(&path).unwrap();
    restored.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

fn last(sim: &Sim) -> CommitNo {
    let Phase::Here(capture) = &sim.tracker.phase else { panic!("away") };
    capture.last().number
}

/// An application's close is not the last one, so the WAL stays; leaving WAL mode is refused. The
/// application never waits: it has no patience here at all.
#[test]
fn trap_35_closing_and_leaving_wal_mode_under_the_daemon() {
    let (db, writer) = new_db();
    drop(writer);
    let mut sim = Sim::current(&db);
    let mut app = Process::new(&db.path);
    for n in 0..20 {
        assert_eq!(app.sql("INSERT INTO t(x) VALUES (randomblob(200))"), "ok", "{n}");
        sim.step();
        if n % 5 == 0 {
            assert_eq!(app.ask("close"), "ok");
            assert!(db.wal_bytes() > 0, "neither checkpointed nor deleted");
        }
        let left = app.sql("PRAGMA journal_mode = DELETE");
        assert_eq!(left, "database is locked");
        sim.step();
    }
    assert_eq!(app.sql("PRAGMA journal_mode"), "Text(\"wal\")");
    sim.until(|sim| sim.is_current());
    agrees(&db);
    let last = last(&sim);
    assert_eq!(app.ask("close"), "ok");
    assert!(sim.drain().is_none());
    assert!(db.wal_bytes() > 0, "the daemon's own close leaves it too");
    assert_eq!((sim.opened, sim.tracker.status.counts.missed, last), (1, 0, CommitNo(21)));
    assert_eq!(app.sql("PRAGMA journal_mode = DELETE"), "Text(\"delete\")", "nobody has it open");
}

/// SQLite's backup interface, as `.restore` uses it, writes a whole other database into the live one:
/// one large transaction, of which nothing is seen before it is committed.
#[test]
fn trap_45_a_database_restored_over_the_live_one() {
    let (db, mut writer) = new_db();
    let mut sim = Sim::current(&db);
    let other = Db::new(1024);
    let rows_of = |rows: u32, bytes: u32| {
        let path = other.dir.path().join(format!("{rows}.db"));
        let source = other.open();
        commits(&source, 1);
        let sql = format!(
            "DELETE FROM t; WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c \
             WHERE n < {rows}) INSERT INTO t SELECT n, randomblob({bytes}) FROM c; \
             VACUUM INTO '{}'",
            path.display()
        );
        source.execute_batch(&sql).unwrap();
        path
    };
    let mut before = Vec::new();
    // Larger than all that one batch holds, then smaller than what there is.
    for (rows_now, bytes) in [(900, 10_000), (30, 50), (300, 1000)] {
        before.push((last(&sim), db.image()));
        let source = Connection::open(rows_of(rows_now, bytes)).unwrap();
        let backup = Backup::new(&source, &mut writer).unwrap();
        while backup.step(2000).unwrap() != StepResult::Done {
            sim.step();
            assert_eq!(last(&sim), before.last().unwrap().0, "nothing is seen of it");
        }
        drop(backup);
        sim.until(|sim| sim.is_current());
        agrees(&db);
        let now = restored(&replica(&db), Target::Latest).unwrap();
        assert_eq!(rows(&now), i64::from(rows_now));
        assert_eq!(last(&sim), before.last().unwrap().0.next(), "one commit");
        commits(&writer, 1);
        sim.until(|sim| sim.is_current() && last(sim).0 == before.last().unwrap().0.0 + 2);
    }
    for (commit, image) in before {
        assert!(restored(&replica(&db), Target::Commit(commit)).unwrap() == image, "{commit}");
    }
    assert_eq!(
        (sim.tracker.status.counts.missed, sim.tracker.status.counts.resyncs, snapshots(&db)),
        (0, 0, 1)
    );
}

/// A transaction over attached databases is whole in each of them. Which commit of the one goes with
/// which of the other is nobody's promise.
#[test]
fn trap_46_a_transaction_over_attached_databases() {
    let ((one, writer), (two, _)) = (new_db(), new_db());
    let mut sims = [Sim::current(&one), Sim::current(&two)];
    let first = sims.each_ref().map(last);
    let attach = format!("ATTACH '{}' AS two", two.path.display());
    writer.execute_batch(&attach).unwrap();
    for n in 0..6 {
        let both = "BEGIN; INSERT INTO main.t(x) VALUES (1); INSERT INTO two.t(x) VALUES (1), (2); \
                    INSERT INTO main.t(x) SELECT x FROM two.t LIMIT 2; COMMIT";
        writer.execute_batch(both).unwrap();
        sims[n % 2].step();
    }
    let whole = |db: &Db, first: CommitNo, each: i64| {
        for n in 0..=6 {
            let commit = CommitNo(first.0 + n);
            let bytes = restored(&replica(db), Target::Commit(commit)).unwrap();
            assert_eq!(rows(&bytes), 5 + n as i64 * each, "commit {commit}");
        }
    };
    // One is durable, the other behind: each is whole for itself.
    sims[0].until(|sim| sim.is_current());
    whole(&one, first[0], 3);
    assert!(!sims[1].is_current());
    sims[1].until(|sim| sim.is_current());
    whole(&two, first[1], 2);
    agrees(&one);
    agrees(&two);
    assert_eq!(sims.each_ref().map(|sim| last(sim).0), first.map(|first| first.0 + 6));
}

/// Whoever opens the wal-index with nobody else there truncates it, and a process that has it mapped
/// dies of SIGBUS, or reads a count that began anew. The daemon's lock is what keeps others from that:
/// they open, close and are killed, and the count goes on.
#[test]
fn trap_61_nobody_truncates_the_wal_index_that_is_mapped() {
    let (db, writer) = new_db();
    drop(writer);
    let mut sim = Sim::current(&db);
    let count = |sim: &Sim| {
        let Phase::Here(capture) = &sim.tracker.phase else { panic!("away") };
        capture.source.steady_look().unwrap().change
    };
    let start = count(&sim);
    for n in 1..=6 {
        let mut app = Process::new(&db.path);
        assert_eq!(app.sql("INSERT INTO t(x) VALUES (1)"), "ok");
        match n % 3 {
            0 => assert_eq!(app.ask("close"), "ok"),
            1 => assert_eq!(app.ask("read SELECT count(*) FROM t"), format!("Integer({})", 5 + n)),
            _ => {}
        }
        drop(app); // killed
        assert_eq!(count(&sim), start + n, "the index was not made anew");
        assert!(fs::metadata(db.beside("-shm")).unwrap().len() >= 32 * 1024);
        if n % 2 == 0 {
            sim.until(|sim| sim.is_current());
        }
    }
    sim.until(|sim| sim.is_current());
    assert_eq!(
        (sim.opened, sim.tracker.status.counts.missed, sim.tracker.status.counts.resyncs),
        (1, 0, 0)
    );
    agrees(&db);
}

/// However the path is spelled, it is the same lock and the same state: a second daemon is refused,
/// and a later one goes on.
#[test]
fn trap_49_a_daemon_by_another_name_of_the_database() {
    use crate::config::Database;
    let (db, writer) = new_db();
    let link = db.dir.path().join("link.db");
    std::os::unix::fs::symlink("app.db", &link).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let aside = folder.path().join("aside");
    std::os::unix::fs::symlink(db.dir.path(), &aside).unwrap();
    let destination = db.config().destinations[0].to_string();
    let named = |path: std::path::PathBuf| {
        Database::given(path.to_str().unwrap(), std::slice::from_ref(&destination)).unwrap()
    };
    let names = [named(db.path.clone()), named(link.clone()), named(aside.join("app.db"))];
    let sim_of = |database: &Database| {
        let mut sim = Sim::new(&db);
        sim.tracker = Tracker::new(database, false, sim.now);
        sim
    };
    for (n, name) in names.iter().enumerate() {
        commits(&writer, 1);
        let mut sim = sim_of(name);
        sim.until(|sim| sim.is_current());
        for other in &names {
            assert!(open::try_lock(&other.state_dir).unwrap().is_none(), "locked for all");
        }
        assert_eq!(last(&sim), CommitNo(n as u64 + 1), "it goes on");
        assert!(sim.drain().is_none());
    }
    assert_eq!(snapshots(&db), 1);
    agrees(&db);
    // A bind mount gives a directory another path that nothing resolves: the lock is the same file.
    let state_dir = names[0].state_dir.file_name().unwrap();
    let held = open::try_lock(&names[0].state_dir).unwrap();
    assert!(open::try_lock(&aside.join(state_dir)).unwrap().is_none());
    drop(held);
}

/// A writer that died in the middle of a publication leaves the header torn. A recovery and a reset before the
/// next look could not be told from commits that were counted.
#[test]
fn trap_109_a_wal_with_a_torn_header_is_pinned_at_once() {
    let (db, writer) = new_db();
    let mut sim = Sim::current(&db);
    commits(&writer, 5);
    sim.until(|sim| !sim.is_current());
    sim.until(|sim| sim.is_current());
    let mut vandal = Process::new(&db.path);
    let Phase::Here(capture) = &mut sim.tracker.phase else { panic!("away") };
    capture.source.release().unwrap();
    let byte = capture.source.look().unwrap().frames.to_ne_bytes()[0];
    vandal.poke(16, &[byte ^ 1]);
    (0..3).for_each(|_| sim.step());
    let Phase::Here(capture) = &sim.tracker.phase else { panic!("away") };
    assert!(matches!(capture.source.pin(), crate::source::Pin::Hold(_)));
    vandal.poke(16, &[byte]);
    assert!(sim.drain().is_none());
    agrees(&db);
}
