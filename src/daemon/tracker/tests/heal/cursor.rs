//! What the cursor or the page index says is not what the database and the replica hold.

use super::*;

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
