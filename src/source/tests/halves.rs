//! Where a pass ends, or fails, between what belongs together: a commit and its copies, a recovery and a
//! reset, what was handed on and the mark. All found by reading SQLite against the count.

use super::*;

/// Pages as long as a sector is not: without powersafe overwrite each commit frame has one copy.
fn padded() -> Watched {
    let db = Db::new(4096);
    let writer = db.open_uri("psow=0");
    writer.execute_batch("PRAGMA synchronous = FULL; CREATE TABLE u(x)").unwrap();
    commits(&writer, 3);
    Watched::with(db, writer)
}

/// Either nothing is missing, or it is known that something is.
#[track_caller]
fn is_right(it: &mut Watched) {
    match it.capture() {
        Err(trouble) => assert!(matches!(trouble, Trouble::Lost(_)), "{trouble}"),
        Ok(_) => it.agrees(),
    }
}

/// A pass stopped after a commit, and what came next was its copy: it counted as a commit of its own, at the
/// head of the next pass or of the old tail, and the last one that was published as one that never was.
#[test]
fn trap_13_a_copy_that_begins_a_pass_or_a_tail_is_no_commit() {
    for passes in [1, 2] {
        let mut it = padded();
        commits(&it.writer, 1);
        it.sql("INSERT INTO u VALUES ('lost')");
        for _ in 0..passes {
            it.replay.room = 1;
            it.capture().unwrap();
        }
        it.replay.room = u32::MAX;
        it.source.release().unwrap();
        it.backfill();
        commits(&it.writer, 1);
        is_right(&mut it);
    }
}

/// The limit was where a frame ends: nothing showed that a commit was cut off, and the copy of the first new
/// one stood in for it.
#[test]
fn trap_39_a_tail_that_was_cut_off_between_two_frames() {
    let mut it = padded();
    it.source.release().unwrap();
    let limit = 32 + it.source.look().unwrap().frames * 4120;
    it.sql("INSERT INTO u VALUES ('lost')");
    it.sql(&format!("PRAGMA journal_size_limit = {limit}"));
    it.backfill();
    it.sql("PRAGMA user_version = 7");
    assert_eq!(it.db.wal_bytes(), u64::from(limit));
    is_right(&mut it);
}

/// The wal-index was rebuilt while nothing was pinned, and the WAL reset before anybody looked: the count of
/// the new life passed for the one of the old.
#[test]
fn trap_109_a_recovery_and_a_reset_between_two_looks() {
    for after in 0..3 {
        let mut it = Watched::new(512);
        commits(&it.writer, 10);
        it.capture().unwrap();
        let mut vandal = Process::new(&it.db.path);
        let mut other = Process::new(&it.db.path);
        let mut recover = |rows: &str| {
            vandal.poke(16, &[0xff]);
            assert_eq!(other.sql("SELECT count(*) FROM t"), rows);
        };
        recover("Integer(10)");
        assert_eq!(it.capture().unwrap(), 0);
        assert_eq!(it.source.mark().change, 0);
        it.source.release().unwrap();
        commits(&it.writer, 1);
        recover("Integer(11)");
        assert_eq!(it.source.look().unwrap().change, 0);
        commits(&it.writer, after);
        it.backfill();
        commits(&it.writer, 1);
        is_right(&mut it);
    }
}
