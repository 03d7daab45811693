//! What holds a WAL still, seen from another process; and that nothing here lets go of it unasked.

use super::*;
use crate::sqlite::Slot;

/// Whether another process could not finish a checkpoint, or not reset the WAL after it.
fn is_busy(process: &mut Process, mode: &str) -> bool {
    process.sql(&format!("PRAGMA wal_checkpoint({mode})")) == "Integer(1)"
}

#[test]
fn hold_blocks_the_reset_and_no_checkpoint() {
    let mut it = Watched::new(512);
    let mut other = Process::new(&it.db.path);
    commits(&it.writer, 5);
    it.capture().unwrap();
    assert!(matches!(it.source.pin(), Pin::Hold(_)));
    assert!(!is_busy(&mut other, "FULL"), "all was moved");
    let look = it.source.look().unwrap();
    assert_eq!(look.backfilled, look.frames);
    assert!(is_busy(&mut other, "TRUNCATE"));
    commits(&it.writer, 1);
    let after = it.source.look().unwrap();
    assert_eq!((after.salts, after.frames), (look.salts, look.frames + 1), "it goes on");
    assert_eq!(it.capture().unwrap(), 1);
    it.agrees();
}

#[test]
fn trap_31_zero_allows_one_reset_and_no_checkpoint_after_it() {
    let mut it = Watched::new(512);
    let mut other = Process::new(&it.db.path);
    commits(&it.writer, 5);
    assert!(!it.source.zero().unwrap(), "not captured yet");
    it.capture().unwrap();
    assert!(!it.source.zero().unwrap(), "not backfilled yet");
    it.backfill();
    assert!(it.source.zero().unwrap() && it.source.zero().unwrap());
    assert_eq!(it.source.pin(), Pin::Zero);
    let salts = it.source.mark().salts;
    commits(&it.writer, 2);
    assert_ne!(it.source.look().unwrap().salts, salts, "reset");
    assert!(is_busy(&mut other, "FULL"));
    assert_eq!(it.source.look().unwrap().backfilled, 0);
    assert_eq!(it.capture().unwrap(), 2);
    assert!(matches!(it.source.pin(), Pin::Hold(_)), "held since it was read");
    assert!(!is_busy(&mut other, "FULL"));
    it.agrees();
}

/// Nobody who waits for a quiet moment waits for us: an application's TRUNCATE goes through.
#[test]
fn zero_lets_an_application_truncate() {
    let mut it = Watched::new(512);
    let mut other = Process::new(&it.db.path);
    commits(&it.writer, 5);
    it.capture().unwrap();
    assert!(is_busy(&mut other, "TRUNCATE"));
    assert!(it.source.zero().unwrap());
    assert!(!is_busy(&mut other, "TRUNCATE"));
    assert_eq!(it.db.wal_bytes(), 0);
    assert_eq!(it.capture().unwrap(), 0);
    commits(&it.writer, 1);
    assert_eq!(it.capture().unwrap(), 1);
    it.agrees();
}

/// While readers hold the lower marks, a writer goes on in the old generation, and nothing of that
/// may be lost under slot 0.
#[test]
fn zero_with_readers_that_keep_the_wal_from_being_reset() {
    let mut it = Watched::new(512);
    commits(&it.writer, 5);
    let reader = it.db.open();
    reader.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
    it.capture().unwrap();
    it.backfill();
    assert!(it.source.zero().unwrap());
    let salts = it.source.mark().salts;
    commits(&it.writer, 2);
    assert_eq!(it.source.look().unwrap().salts, salts, "not reset");
    reader.execute_batch("COMMIT").unwrap();
    commits(&it.writer, 1);
    assert_eq!(it.capture().unwrap(), 3);
    it.agrees();
}

#[test]
fn free_holds_nothing() {
    let mut it = Watched::new(512);
    let mut other = Process::new(&it.db.path);
    commits(&it.writer, 5);
    it.capture().unwrap();
    it.source.release().unwrap();
    assert_eq!(it.source.pin(), Pin::Free);
    assert!(!is_busy(&mut other, "TRUNCATE"));
    it.source.release().unwrap();
    assert!(it.source.hold().unwrap() && it.source.hold().unwrap());
    commits(&it.writer, 1);
    assert!(is_busy(&mut other, "TRUNCATE"));
}

/// SQLite does not release the locks of a connection that it closes, and would keep this one as long
/// as any other connection of the process has the wal-index open.
#[test]
fn a_source_that_is_dropped_lets_go() {
    for pin in [Source::hold, Source::zero] {
        let mut it = Watched::new(512);
        let mut other = Process::new(&it.db.path);
        commits(&it.writer, 5);
        it.capture().unwrap();
        it.backfill();
        assert!(pin(&mut it.source).unwrap());
        drop(it.source);
        assert!(!is_busy(&mut other, "TRUNCATE"));
        commits(&it.writer, 1);
        assert!(!is_busy(&mut other, "TRUNCATE"));
    }
}

/// Four readers at four commits use every mark. What was held is held on to.
#[test]
fn no_slot_is_free_for_a_pin() {
    let mut it = Watched::new(512);
    it.source.release().unwrap();
    let readers: Vec<_> = (0..4)
        .map(|_| {
            commits(&it.writer, 1);
            let reader = it.db.open();
            reader.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
            reader
        })
        .collect();
    assert!(Slot::pinning().all(|slot| it.source.handles.word(slot.mark_offset()) != UNUSED_MARK));
    assert!(!it.source.hold().unwrap());
    assert_eq!(it.source.pin(), Pin::Free);
    assert_eq!(it.capture().unwrap(), 4, "captured nevertheless");
    drop(readers);
    it.agrees();
}

/// Descriptors of this process on some file.
fn descriptors(path: &std::path::Path) -> usize {
    let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
    links.filter(|link| fs::read_link(link.path()).is_ok_and(|target| target == path)).count()
}

/// Closing a descriptor of our own would drop every lock that this process holds on the file. The
/// pin is still there after all that the source does, and would not be after a look at the file.
#[test]
fn trap_60_no_descriptor_of_our_own() {
    let mut it = Watched::new(512);
    let mut other = Process::new(&it.db.path);
    let files = |it: &Watched| [descriptors(&it.db.path), descriptors(&it.db.beside("-shm"))];
    // SQLite itself keeps a descriptor that it may not close yet.
    drop(crate::sqlite::Session::open(&it.db.path).unwrap());
    let before = files(&it);
    assert!(before[0] > 0 || !fs::exists("/proc/self/fd").unwrap());
    commits(&it.writer, 5);
    it.capture().unwrap();
    it.pages_agree();
    it.source.continues().unwrap();
    it.source.zero().unwrap();
    it.source.hold().unwrap();
    assert_eq!(files(&it), before);
    assert!(is_busy(&mut other, "TRUNCATE"), "still pinned");
}

/// The tests look at live databases too, through copies that another process makes.
#[test]
fn trap_105_looking_at_a_live_database_drops_no_lock() {
    let mut it = Watched::new(512);
    let mut other = Process::new(&it.db.path);
    commits(&it.writer, 5);
    it.capture().unwrap();
    it.agrees();
    assert!(is_busy(&mut other, "TRUNCATE"), "still pinned");
    drop(fs::read(it.db.beside("-shm")).unwrap());
    assert!(!is_busy(&mut other, "TRUNCATE"), "this is what a descriptor of our own does");
}
