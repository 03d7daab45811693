//! The order of writes, and what a failure between any two of them leaves.

use super::*;
use crate::backend::Backend;
use crate::backend::faulty::{Fault, Faulty, Operation};
use crate::backend::mem::Mem;
use crate::capture::Finish;
use crate::commit::{CommitNo, Time, Timeline};
use crate::cursor;
use crate::durable::{Step, fault};
use crate::fanout::StandingKind;
use crate::name::Span;
use crate::object::Compression;
use crate::seal::{Key, Keys, Rule};
use crate::testkit::rig::{Rig, claim, fanout};
use crate::testkit::{Db, commits};
use std::fs;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn rig() -> (Rig, rusqlite::Connection) {
    let db = Db::new(1024);
    let writer = db.open();
    commits(&writer, 3);
    (Rig::shipped(db), writer)
}

fn on_disk(rig: &Rig) -> Option<State> {
    cursor::load(&rig.shipper.state_dir.join("cursor"), |_| Ok(())).unwrap()
}

fn captured(rig: &mut Rig, writer: &rusqlite::Connection) -> Parcel {
    commits(writer, 2);
    rig.capture().unwrap();
    Parcel::new(rig.capture.batch(Finish::Nothing).unwrap().unwrap())
}

/// Object, cursor, index: whatever fails, what the cursor says is stored, and trying again succeeds.
#[test]
fn trap_56_disk_full_on_the_cursor() {
    for long in [false, true] {
        for (step, errno) in [
            (Step::Create, ENOSPC),
            (Step::Write, ENOSPC),
            (Step::Sync, ENOSPC),
            (Step::Rename, EIO),
        ] {
            if !long && step != Step::Sync {
                continue; // an append does nothing else
            }
            let (mut rig, writer) = rig();
            if long {
                rig.shipper.cursor = Cursor::new(cursor_path(&rig.shipper.state_dir));
            }
            let before = on_disk(&rig).unwrap();
            let mut parcel = captured(&mut rig, &writer);
            // The first sync of a new cursor is the page index's.
            let failing = fault::fail(step, 1 + u64::from(long && step == Step::Sync), errno);
            let error = rig.shipper.ship(&mut parcel).unwrap_err();
            drop(failing);
            assert!(error.message.contains("cursor"), "{error}");
            if long || step != Step::Sync {
                assert_eq!(on_disk(&rig), Some(before), "no ack");
            }
            assert_ne!(Some(rig.index.digest().unwrap()), parcel.batch.state.commit.digest);
            rig.shipper.ship(&mut parcel).unwrap();
            rig.capture.shipped();
            assert_eq!(on_disk(&rig), Some(parcel.batch.state));
            rig.index_agrees();
        }
    }
}

/// After a failed sync the file's descriptor is not trusted: a new file is written.
#[test]
fn trap_57_a_failed_sync_of_the_cursor_is_final() {
    let (mut rig, writer) = rig();
    let mut parcel = captured(&mut rig, &writer);
    let failing = fault::fail(Step::Sync, 1, EIO);
    rig.shipper.ship(&mut parcel).unwrap_err();
    drop(failing);
    assert!(rig.shipper.cursor.is_long(), "to be replaced");
    let watch = fault::watch();
    rig.shipper.ship(&mut parcel).unwrap();
    let steps: Vec<_> = watch.steps().into_iter().map(|(step, _)| step).collect();
    // The page index, then a new cursor.
    assert_eq!(
        steps,
        [Step::Sync, Step::Create, Step::Write, Step::Sync, Step::Rename, Step::SyncDir]
    );
}

/// What needs the page index to last fails however often it is tried, nothing is asked of the disk again,
/// and the cursor keeps what is to be made again.
#[test]
fn trap_57_a_failed_sync_of_the_page_index_keeps_the_cursor() {
    let tries: [fn(&mut Rig, &mut Parcel) -> Result<()>; 2] = [
        |rig, parcel| rig.shipper.ship(parcel),
        |Rig { shipper, capture, db, .. }, _| {
            let base = capture.state();
            Resync::begin(shipper, capture, &base, &db.path, || Time(1)).map(drop)
        },
    ];
    for once in tries {
        let (mut rig, writer) = rig();
        let path = cursor_path(&rig.shipper.state_dir);
        rig.shipper.cursor = Cursor::new(path.clone());
        let mut parcel = captured(&mut rig, &writer);
        let before = fs::read(&path).unwrap();
        let failing = fault::fail(Step::Sync, 1, EIO);
        for _ in 0..2 {
            let error = once(&mut rig, &mut parcel).unwrap_err();
            assert_eq!(error.status, Status::Integrity, "{error}");
            assert!(error.message.contains("index"), "{error}");
        }
        let synced = failing.steps().into_iter().filter(|(step, _)| *step == Step::Sync);
        assert_eq!(synced.count(), 1);
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}

#[test]
fn trap_59_a_replaced_cursor_is_synced_with_its_directory() {
    let (mut rig, writer) = rig();
    rig.shipper.cursor = Cursor::new(cursor_path(&rig.shipper.state_dir));
    let mut parcel = captured(&mut rig, &writer);
    let watch = fault::watch();
    rig.shipper.ship(&mut parcel).unwrap();
    let last = watch.steps().pop().unwrap();
    assert_eq!(last, (Step::SyncDir, rig.shipper.state_dir.clone()));
}

/// An object that was stored, its reply lost, is stored; one of somebody else is a fence.
#[test]
fn trap_70_a_put_of_unknown_outcome_is_repeated() {
    let (mut rig, writer) = rig();
    let faulty = Arc::new(Faulty::new(rig.mem.clone()));
    faulty.fail(Operation::Put, 1, Fault::ReplyLost);
    rig.shipper.stores = Arc::new(fanout(vec![faulty.clone()], &rig.shipper.state_dir, 1 << 30));
    let mut parcel = captured(&mut rig, &writer);
    rig.shipper.ship(&mut parcel).unwrap();
    rig.capture.shipped();
    assert!(
        rig.shipper.stores.is_behind(0),
        "the spool has it, nobody knows whether it was stored"
    );
    rig.shipper.stores.pay(0).unwrap();
    assert!(!rig.shipper.stores.is_behind(0));
    assert_eq!((faulty.fired(Fault::ReplyLost), faulty.calls(Operation::Put)), (1, 2));
    rig.index_agrees();
    let mut parcel = captured(&mut rig, &writer);
    let (name, body) =
        parcel.batch.changes.as_ref().unwrap().encode(Timeline(1), Compression::None);
    let before = on_disk(&rig);
    // One that nobody here can open is not known to be damaged.
    for body in [Key::new(&[7; 32].into()).seal(&name, &body), body] {
        rig.mem.replace(&name, &body).unwrap();
        let error = rig.shipper.ship(&mut parcel).unwrap_err();
        assert_eq!(error.status, Status::Locked, "{error}");
        assert_eq!(on_disk(&rig), before, "no ack");
    }
}

/// Found by torture, where a store damages what it takes: a put that was given up arrived all the same, was
/// damaged, and was taken for the commits of another daemon when it was repeated. Nobody could have those.
#[test]
fn trap_70_an_object_that_is_damaged_before_its_put_is_repeated_is_no_fence() {
    for sealed in [false, true] {
        let (mut rig, writer) = rig();
        let keys = Keys { all: vec![Key::new(&[7; 32].into())], rule: Rule::Auto };
        let keys = if sealed { keys } else { Keys::default() };
        let store = crate::backend::sealed::sealed(rig.mem.clone(), &Arc::new(keys));
        rig.shipper.stores = Arc::new(fanout(vec![store.clone()], &rig.shipper.state_dir, 1 << 30));
        let mut parcel = captured(&mut rig, &writer);
        let (name, body) =
            parcel.batch.changes.as_ref().unwrap().encode(Timeline(1), Compression::Zstd);
        store.put(&name, &body).unwrap();
        rig.mem.objects().get_mut(&name.to_string()).unwrap()[70] ^= 1;
        rig.shipper.ship(&mut parcel).unwrap();
        assert!(store.get(&name).unwrap() == body, "it was put again");
        assert!(!rig.shipper.stores.is_behind(0));
    }
}

/// A destination that fails keeps the others from nothing, and gets all of it, in order, when it is
/// back. Until then its floor stays where it was.
#[test]
fn trap_84_a_destination_that_is_down_is_not_waited_for() {
    let (mut rig, writer) = rig();
    let other = Arc::new(Mem::new());
    claim(&*other, rig.capture.state().page_size);
    let (first, second) = (Arc::new(Faulty::new(rig.mem.clone())), Arc::new(Faulty::new(other)));
    let stores = fanout(vec![first.clone(), second.clone()], &rig.shipper.state_dir, 1 << 30);
    (0..2).for_each(|at| stores.holds(at, Some((CommitNo(1), Time(1))), false).unwrap());
    rig.shipper.stores = Arc::new(stores);
    let mut ship = || {
        let mut parcel = captured(&mut rig, &writer);
        rig.shipper.ship(&mut parcel).unwrap();
        rig.capture.shipped();
        let standings = rig.shipper.stores.standings();
        (standings, rig.capture.last().number, Arc::clone(&rig.shipper.stores))
    };
    let floor = |standing: &crate::fanout::Standing| standing.floor.unwrap().0;
    let (standings, reached, _) = ship();
    assert!(standings.iter().all(|it| it.kind == StandingKind::Current && floor(it) == reached));
    second.fail_all(Operation::Put, Fault::Full);
    for _ in 0..3 {
        ship();
    }
    let (standings, last, stores) = ship();
    assert_eq!((floor(&standings[0]), floor(&standings[1])), (last, reached));
    assert!(standings[0].kind == StandingKind::Current && standings[1].spooled > 0);
    assert!(standings[1].error.as_ref().unwrap().contains("no space"));
    assert_eq!((first.calls(Operation::Put), second.calls(Operation::Put)), (5, 2));
    assert_eq!(stores.pay(1).unwrap_err().status, Status::Unreachable);
    second.heal();
    stores.pay(1).unwrap();
    let standing = stores.standings().remove(1);
    assert!(
        standing.kind == StandingKind::Current && standing.error.is_none() && standing.spooled == 0
    );
    assert_eq!(floor(&standing), last);
    assert_eq!(second.calls(Operation::Put), 7, "each once, and the one that failed again");
}

/// Found by a long run of the harness (`lying-s3`, seed 412689554): the first snapshot was finished on one
/// destination and still on its way to another one, which was said to hold what was captured before it.
#[test]
fn trap_84_nothing_is_claimed_of_a_destination_without_a_snapshot() {
    let (mut rig, writer) = rig();
    let other = Arc::new(Mem::new());
    claim(&*other, rig.capture.state().page_size);
    let second = Arc::new(Faulty::new(other));
    let stores = fanout(vec![rig.mem.clone(), second.clone()], &rig.shipper.state_dir, 1 << 30);
    rig.shipper.stores = Arc::new(stores);
    let mut parcel = captured(&mut rig, &writer);
    rig.shipper.ship(&mut parcel).unwrap();
    let stores = Arc::clone(&rig.shipper.stores);
    let floors = || stores.standings().iter().map(|it| it.floor.is_some()).collect::<Vec<_>>();
    assert_eq!(floors(), [false, false]);
    second.fail_all(Operation::Put, Fault::Full);
    let (last, timeline) = (rig.capture.last(), Timeline(1));
    let span = Span { first: last.number, last: last.number, time: last.time, timeline };
    stores.put(&Name::Snapshot(span), b"a manifest").unwrap();
    assert_eq!(floors(), [true, false]);
    second.heal();
    stores.pay(1).unwrap();
    assert_eq!(floors(), [true, true]);
}

/// The spool is full: what another destination has is copied from there; what none has is refused.
#[test]
fn trap_84_a_full_spool() {
    for alone in [false, true] {
        let (mut rig, writer) = rig();
        let other = Arc::new(Mem::new());
        claim(&*other, rig.capture.state().page_size);
        let faulty = Arc::new(Faulty::new(other.clone()));
        faulty.fail_all(Operation::Put, Fault::Refused);
        let mut destinations: Vec<Arc<dyn Backend>> = vec![faulty.clone()];
        if !alone {
            destinations.push(rig.mem.clone());
        }
        let state_dir = rig.shipper.state_dir.clone();
        rig.shipper.stores = Arc::new(fanout(destinations, &state_dir, 2000));
        let mut refused = 0;
        for _ in 0..20 {
            let mut parcel = captured(&mut rig, &writer);
            match rig.shipper.ship(&mut parcel) {
                Ok(()) => rig.capture.shipped(),
                Err(error) => {
                    assert_eq!(error.status, Status::Unreachable);
                    refused += 1;
                    break;
                }
            }
            assert!(rig.shipper.stores.spooled() <= 2000);
        }
        assert_eq!(refused, u32::from(alone));
        faulty.heal();
        // A start knows by the mark that the spool is not all.
        let stores = &rig.shipper.stores;
        let behind = crate::spool::Spool::new(&state_dir, &faulty.to_string());
        assert_eq!(behind.is_marked(), !alone);
        stores.pay(0).unwrap();
        assert!(!stores.is_behind(0) && !behind.is_marked());
        if !alone {
            let copied = crate::replica::Replica::list(&*other).unwrap();
            let whole = crate::replica::Replica::list(&*rig.mem).unwrap();
            assert_eq!(copied.objects, whole.objects);
        }
    }
}

/// 9 MB in pages of 512 bytes: many changes of the page index, staged before the state that counts.
fn with_large() -> (Rig, rusqlite::Connection) {
    let db = Db::new(512);
    let writer = db.open();
    let mut rig = Rig::shipped(db);
    commits(&writer, 3);
    rig.drain();
    writer.execute_batch("INSERT INTO t(x) VALUES (randomblob(9000000))").unwrap();
    rig.capture().unwrap();
    rig.ship_small();
    assert!(rig.capture.large().is_some());
    (rig, writer)
}

/// The cursor is long by the time that a large transaction is shipped. Replaced then, it would lose
/// what was staged, and the page index with it.
#[test]
fn trap_19_a_large_transaction_and_a_long_cursor() {
    let (mut rig, writer) = with_large();
    let state = rig.capture.state();
    let same = (PageNo(1), rig.index.get(PageNo(1)).unwrap());
    rig.shipper.cursor.replace(&state, &[same]).unwrap();
    assert!(!rig.shipper.cursor.is_long());
    rig.ship(Finish::Nothing).unwrap();
    assert!(rig.shipper.cursor.is_long(), "it grew past its length under way");
    rig.index_agrees();
    commits(&writer, 2);
    rig.drain();
    rig.index_agrees();
    assert!(rig.restored(rig.last()) == rig.db.image());
}

/// Whatever fails under way, the transaction is still to be shipped, and then as a whole.
#[test]
fn trap_19_a_large_transaction_is_tried_again() {
    let (mut rig, writer) = with_large();
    let faulty = Arc::new(Faulty::new(rig.mem.clone()));
    // Nothing goes to the spool.
    let stores = fanout(vec![faulty.clone()], &rig.shipper.state_dir, 0);
    rig.shipper.stores = Arc::new(stores);
    for nth in [1, 3] {
        faulty.fail(Operation::Put, nth, Fault::Full);
        assert_eq!(rig.ship(Finish::Nothing).unwrap_err().status, Status::Unreachable);
    }
    let before = on_disk(&rig);
    // The first one is that of the page index.
    let failing = fault::fail(Step::Sync, 2, ENOSPC);
    let error = rig.ship(Finish::Nothing).unwrap_err();
    drop(failing);
    assert_eq!(error.status, Status::Failed, "{error}");
    assert!(rig.capture.large().is_some(), "not taken for shipped");
    rig.ship(Finish::Nothing).unwrap();
    assert_ne!(on_disk(&rig), before);
    rig.index_agrees();
    commits(&writer, 2);
    rig.drain();
    rig.index_agrees();
    assert!(rig.restored(rig.last()) == rig.db.image());
}

/// Found by a reviewer: what one had staged that failed was made good by a state before it, and after a
/// crash the cursor and the page index told of different databases.
#[test]
fn what_a_large_transaction_has_staged_is_taken_back_if_it_fails() {
    let db = Db::new(65536);
    let writer = db.open();
    let mut rig = Rig::shipped(db);
    writer.execute_batch("INSERT INTO t(x) VALUES (randomblob(12000000))").unwrap();
    rig.capture().unwrap();
    rig.ship_small();
    let state = rig.capture.state();
    rig.shipper.cursor.replace(&state, &[]).unwrap();
    let faulty = Arc::new(Faulty::new(rig.mem.clone()));
    rig.shipper.stores = Arc::new(fanout(vec![faulty.clone()], &rig.shipper.state_dir, 0));
    faulty.fail(Operation::Put, 2, Fault::Full);
    let path = cursor_path(&rig.shipper.state_dir);
    let length = || fs::metadata(&path).unwrap().len();
    let before = length();
    rig.shipper.ship_large(&mut rig.capture, &state).unwrap_err();
    assert!(length() > before, "something was staged");
    rig.shipper.record(&state, &Changes::new(), false).unwrap();
    let made = cursor::load(&path, |changes| {
        changes.iter().try_for_each(|(page, hash)| rig.index.set(*page, *hash))
    });
    assert_eq!(made.unwrap(), Some(state));
    assert_eq!(Some(rig.index.digest().unwrap()), state.commit.digest);
}

/// Its frames are gone: trying again would never help.
#[test]
fn trap_19_a_large_transaction_whose_wal_was_reset() {
    let (mut rig, writer) = with_large();
    rig.capture.source.release().unwrap();
    assert_eq!(crate::testkit::checkpoint(&writer, "PASSIVE").0, 0);
    commits(&writer, 1);
    let error = rig.ship(Finish::Nothing).unwrap_err();
    assert_eq!(error.status, Status::Integrity, "{error}");
    let objects = rig.mem.objects();
    assert!(!objects.keys().any(|key| key.contains("0001e") || key.contains("0002e")));
}

/// The hashes of a snapshot's pages are in no cursor: the page index itself has to be durable.
#[test]
fn a_finished_snapshot_syncs_the_page_index() {
    let (mut rig, _writer) = rig();
    rig.capture.begin_snapshot(|| crate::commit::Time(0)).unwrap();
    while rig.part() {}
    rig.catch_up();
    let batch = rig.capture.batch(Finish::Snapshot).unwrap().unwrap();
    let watch = fault::watch();
    rig.shipper.ship(&mut Parcel::new(batch)).unwrap();
    assert_eq!(watch.steps().first().map(|(step, _)| *step), Some(Step::Sync));
    let path = cursor_path(&rig.shipper.state_dir);
    assert!(fs::metadata(path).unwrap().len() < 400, "one record");
}
