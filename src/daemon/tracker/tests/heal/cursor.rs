//! What the cursor or the page index says is not what the database and the replica hold.

use super::*;
use crate::cursor;
use crate::daemon::sync::Wanted;

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
        Wanted::new(wanted).is_durable(&db.config()).unwrap()
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

/// A failed sync of the page index was tried again on the same descriptor, where it succeeds and means
/// nothing, and what could have made its changes again was thrown away. Once the kernel had let go of the
/// pages that it had not written, each commit was shipped with a wrong digest.
#[test]
fn trap_57_a_failed_sync_of_the_page_index_is_final() {
    let (db, writer, mut history) = stopped();
    let index = db.config().state_dir.join("index");
    let mut sim = Sim::current(&db);
    ship(&mut sim, &writer, "INSERT INTO t(x) VALUES (1)");
    let synced = fs::read(&index).unwrap();
    let watch = fault::fail_below(&index, Step::Sync, 5);
    while syncs(&watch, &index) == 0 {
        commits(&writer, 1);
        sim.until(|sim| !sim.is_current());
        sim.until(|sim| sim.is_current() || syncs(&watch, &index) > 0);
    }
    let (state, changes) = redo(&db);
    assert!(changes.len() > 50, "what is to be done again is there: {}", changes.len());
    fs::write(&index, synced).unwrap();
    sim.until(|sim| sim.is_current());
    note(&db, &mut history);
    assert!(syncs(&watch, &index) > 1 && on_disk(&db).unwrap().commit.number > state.commit.number);
    // Every page that was changed is changed again: what it was before counts.
    ship(&mut sim, &writer, "UPDATE t SET x = x || 1 WHERE length(x) < 100");
    agrees(&db);
    holds(&db, &history);
    index_agrees(&db);
    let counts = (sim.opened, snapshots(&db), resyncs(&db));
    assert_eq!(counts, (2, 1, 0), "taken up anew, and the changes made again");
}

/// The hashes of a first snapshot are in no cursor: what can be read of them is written again, and synced
/// then. If they are gone, another snapshot is made.
#[test]
fn trap_57_a_failed_sync_at_the_end_of_a_first_snapshot() {
    for gone in [false, true] {
        let (db, writer) = new_db();
        let index = db.config().state_dir.join("index");
        let watch = fault::fail_below(&index, Step::Sync, 5);
        let mut sim = Sim::new(&db);
        sim.until(|_| syncs(&watch, &index) > 0);
        assert_eq!((snapshots(&db), on_disk(&db)), (1, None));
        let file = fs::File::options().write(true).open(&index).unwrap();
        file.set_len(if gone { 0 } else { file.metadata().unwrap().len() }).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        sim.until(|sim| sim.is_current());
        let written = file.metadata().unwrap().modified().unwrap();
        assert!(written > std::time::SystemTime::UNIX_EPOCH && syncs(&watch, &index) > 1);
        ship(&mut sim, &writer, "UPDATE t SET x = x || 1");
        agrees(&db);
        index_agrees(&db);
        assert_eq!((sim.opened, snapshots(&db)), (2, 1 + usize::from(gone)));
    }
}

fn syncs(watch: &fault::Watch, file: &std::path::Path) -> usize {
    watch.steps().iter().filter(|(_, path)| path == file).count()
}

fn ship(sim: &mut Sim, writer: &Connection, commit: &str) {
    sql(writer, commit);
    sim.until(|sim| !sim.is_current());
    sim.until(|sim| sim.is_current());
}

/// The cursor's state, and what it holds to be done again.
fn redo(db: &Db) -> (State, Vec<cursor::Change>) {
    let mut all = Vec::new();
    let state = cursor::load(&cursor_path(&db.config().state_dir), |changes| {
        all.extend_from_slice(changes);
        Ok(())
    });
    (state.unwrap().unwrap(), all)
}

#[track_caller]
fn index_agrees(db: &Db) {
    let index = Index::open(&db.config().state_dir.join("index")).unwrap();
    assert_eq!(Some(index.digest().unwrap()), on_disk(db).unwrap().commit.digest);
}
