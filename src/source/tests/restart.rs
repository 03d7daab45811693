//! What a source finds after a time in which nothing was pinned, and what it leaves behind.

use super::*;

/// A database whose source went away when all was captured, and its mark.
fn left(page_size: u32) -> (Db, Connection, Mark, Replay) {
    let mut it = Watched::new(page_size);
    commits(&it.writer, 10);
    it.capture().unwrap();
    let Watched { source, replay, writer, db } = it;
    (db, writer, *source.mark(), replay)
}

fn continues(db: &Db, mark: Mark) -> bool {
    Watched::resume(db, mark).continues().unwrap()
}

#[test]
fn it_goes_on_from_its_mark() {
    let (db, writer, mark, replay) = left(512);
    commits(&writer, 3);
    let source = Watched::resume(&db, mark);
    assert!(source.continues().unwrap());
    let mut it = Watched { source, replay, writer, db };
    assert_eq!(it.capture().unwrap(), 3);
    it.agrees();
}

/// The application checkpoints while nobody watches, then writes: in any way that begins a new WAL,
/// nothing is spliced.
#[test]
fn trap_25_the_wal_began_anew_while_nobody_watched() {
    for (mode, commits_before, commits_after) in [
        ("RESTART", 0, 1),
        ("TRUNCATE", 0, 1),
        ("PASSIVE", 0, 1),
        ("PASSIVE", 5, 1),
        ("FULL", 3, 20),
    ] {
        let (db, writer, mark, _) = left(512);
        // To the old generation, which ends beyond the mark; then a shorter or a longer new one.
        commits(&writer, commits_before);
        assert!(continues(&db, mark));
        assert_eq!(checkpoint(&writer, mode).0, 0);
        commits(&writer, commits_after);
        assert!(!continues(&db, mark), "{mode} {commits_before} {commits_after}");
    }
}

#[test]
fn trap_33_the_last_close_deletes_the_wal() {
    let (db, writer, mark, _) = left(512);
    drop(writer);
    assert!(!db.beside("-wal").exists());
    assert!(!continues(&db, mark));
    let writer = db.open();
    commits(&writer, 10);
    assert!(!continues(&db, mark));
}

#[test]
fn trap_28_at_the_exact_end_when_the_wal_is_reset() {
    let (db, writer, mark, _) = left(512);
    assert!(continues(&db, mark), "nothing happened");
    assert_eq!(checkpoint(&writer, "PASSIVE").0, 0);
    assert!(continues(&db, mark), "backfilled, and not begun anew");
    commits(&writer, 1);
    assert!(!continues(&db, mark), "it cannot be proved that this was the first commit");
}

/// A generation begun without a frame has no header in the file yet: the wal-index knows its salts.
#[test]
fn trap_28_at_the_beginning_of_a_generation_without_frames() {
    let mut it = Watched::new(512);
    commits(&it.writer, 3);
    it.capture().unwrap();
    it.source.release().unwrap();
    assert_eq!(checkpoint(&it.writer, "TRUNCATE").0, 0);
    it.capture().unwrap();
    let Watched { source, replay, writer, db } = it;
    let mark = *source.mark();
    assert_eq!(mark.position.frame, 0);
    drop(source);
    assert!(continues(&db, mark));
    let source = Watched::resume(&db, mark);
    let mut it = Watched { source, replay, writer, db };
    commits(&it.writer, 2);
    assert_eq!(it.capture().unwrap(), 2);
    it.agrees();
}

/// Salts of zero are those of any new WAL.
#[test]
fn a_mark_in_an_empty_wal_proves_nothing() {
    let db = Db::new(512);
    let it = Watched::of(db);
    let mark = *it.source.mark();
    assert_eq!((mark.salts, mark.position.frame), (Salts::default(), 0));
    assert!(!it.source.continues().unwrap());
}

#[test]
fn trap_52_a_frame_at_the_mark_that_is_another_one() {
    let (db, _writer, mark, _) = left(512);
    let mut other = mark;
    other.position.checksum.0[1] ^= 1;
    assert!(continues(&db, mark) && !continues(&db, other));
    other = mark;
    other.position.frame += 1;
    assert!(!continues(&db, other), "past the end");
    other = mark;
    other.salts.0[7] ^= 1;
    assert!(!continues(&db, other));
}

/// Ours is the last connection: what is in the WAL may not be captured yet, so it stays.
#[test]
fn trap_34_the_last_close_neither_checkpoints_nor_unlinks() {
    let mut it = Watched::new(512);
    commits(&it.writer, 5);
    it.capture().unwrap();
    commits(&it.writer, 2);
    let Watched { source, mut replay, writer, db } = it;
    let (mark, wal) = (*source.mark(), db.wal_bytes());
    drop(writer);
    let file = fs::metadata(&db.path).unwrap();
    drop(source);
    assert_eq!(db.wal_bytes(), wal);
    let after = fs::metadata(&db.path).unwrap();
    assert_eq!((after.len(), after.modified().unwrap()), (file.len(), file.modified().unwrap()));
    let mut source = Watched::resume(&db, mark);
    assert!(source.continues().unwrap());
    let look = source.look().unwrap();
    source.capture(&look, &mut replay).unwrap();
    assert_eq!(replay.commits, 7);
    let writer = db.open();
    Watched { source, replay, writer, db }.agrees();
}

/// A read-only client that goes last cannot clean up: WAL and wal-index stay behind.
#[test]
fn trap_43_stale_files_of_a_read_only_last_client() {
    let (db, writer, mark, replay) = left(512);
    commits(&writer, 2);
    let mut other = Process::new(&db.path);
    let option = rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    writer.set_db_config(option, true).unwrap();
    assert_eq!(other.ask("read SELECT count(*) FROM t"), "Integer(12)");
    drop(writer);
    assert_eq!(other.ask("read SELECT count(*) FROM t"), "Integer(12)");
    assert!(db.beside("-wal").exists() && db.beside("-shm").exists(), "stale");
    let source = Watched::resume(&db, mark);
    assert!(source.continues().unwrap());
    let writer = db.open();
    let mut it = Watched { source, replay, writer, db };
    assert_eq!(it.capture().unwrap(), 2);
    it.agrees();
}
