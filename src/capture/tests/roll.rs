//! Second and later snapshots: what did not change is neither read nor stored again, and each one is
//! the whole database by itself.

use super::*;
use crate::backend::Backend;
use crate::backend::worm::Worm;
use crate::restore::Target;
use crate::testkit::rig::{claim, fanout, restored};
use crate::testkit::{damage, digest as digest_of};
use std::collections::BTreeSet;

const PAGE: usize = 4096;

/// A database of several parts, with a first snapshot.
fn several_parts() -> (Rig, Connection) {
    let db = Db::new(PAGE as u32);
    let writer = db.open();
    (0..18).for_each(|_| big(&writer, 1_000_000));
    let rig = Rig::shipped(db);
    assert!(rig.capture.last().pages > 4 * part_pages(rig.capture.state().page_size));
    (rig, writer)
}

/// The parts that are stored.
fn parts(rig: &Rig) -> BTreeSet<String> {
    let objects = rig.mem.objects();
    objects.keys().filter(|key| key.starts_with(Name::PARTS)).cloned().collect()
}

/// The stretches of pages, one a part, in which two states of the database differ.
fn differing(before: &[u8], after: &[u8]) -> usize {
    let bytes = crate::snapshot::PART_BYTES;
    let parts = before.len().max(after.len()).div_ceil(bytes);
    let of = |image: &[u8], part: usize| {
        let end = image.len().min((part + 1) * bytes);
        image.get(part * bytes..end).unwrap_or_default().to_vec()
    };
    (0..parts).filter(|&part| of(before, part) != of(after, part)).count()
}

fn begin(rig: &mut Rig) {
    rig.drain();
    rig.shipper.stores.survey(Time(0)).unwrap();
    rig.capture.begin_roll().unwrap();
}

/// What the newest snapshot and the change-sets after it give, all else removed.
fn from_the_newest_alone(rig: &Rig) -> Vec<u8> {
    let manifests = || {
        let objects = rig.mem.objects();
        let names: Vec<Name> = objects.keys().map(|key| key.parse().unwrap()).collect();
        names.into_iter().filter_map(|name| match name {
            Name::Snapshot(span) => Some(span),
            _ => None,
        })
    };
    let newest = manifests().max_by_key(|span| span.last).unwrap();
    let body = rig.mem.objects()[&Name::Snapshot(newest).to_string()].clone();
    let manifest = Manifest::decode(newest, body).unwrap();
    let named: BTreeSet<_> = manifest.parts.iter().map(|part| part.name()).collect();
    rig.mem.objects().retain(|key, _| match key.parse().unwrap() {
        Name::Snapshot(span) => span == newest,
        Name::Change(change) => change.span.last > newest.first,
        name @ Name::Part(_) => named.contains(&name),
        Name::Timeline(_) => true,
    });
    rig.restored(rig.last())
}

/// A row in the middle shrinks: its pages, free ones beside them, and the first one, whose header
/// counts the commits. No other part is read or stored.
#[test]
fn a_second_snapshot_costs_what_changed() {
    let (mut rig, writer) = several_parts();
    let before = (rig.db.image(), parts(&rig));
    writer.execute_batch("UPDATE t SET x = 'short' WHERE id = 9").unwrap();
    begin(&mut rig);
    let mut read = 0;
    while rig.part() {
        read += 1;
    }
    rig.roll();
    let changed = differing(&before.0, &rig.db.image());
    assert!((1..=3).contains(&changed) && before.1.len() >= 5, "{changed} parts changed");
    assert_eq!(parts(&rig).difference(&before.1).count(), changed);
    assert!(read <= changed + 1, "{read} parts were read");
    last_agrees(&rig);
    let image = rig.db.image();
    assert!(from_the_newest_alone(&rig) == image);
}

/// Snapshot after snapshot under a writer, some given up half way. Each one is the whole database,
/// whatever was read for it and whenever.
#[test]
fn snapshots_of_what_changed_are_whole() {
    for seed in 50..53 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let (mut rig, writer) = several_parts();
        let mut passed_over = 0;
        for round in 0..6 {
            let stored = parts(&rig).len();
            begin(&mut rig);
            loop {
                let done = rig.capture.rolling().unwrap().0;
                if random.below(3) == 0 {
                    act(&mut random, &writer);
                }
                let read = rig.part();
                if random.below(3) == 0 {
                    act(&mut random, &writer);
                    rig.ship(Finish::Nothing).unwrap();
                }
                let step = rig.capture.rolling().unwrap().0 - done;
                passed_over += u32::from(step > part_pages(rig.capture.state().page_size));
                if !read {
                    break;
                }
                if round == 3 && random.below(2) == 0 {
                    // As a crash would leave it: parts that no manifest names.
                    rig.capture.roll = None;
                    begin(&mut rig);
                }
            }
            rig.roll();
            println!("round {round}: {} new parts", parts(&rig).len() - stored);
            last_agrees(&rig);
        }
        assert!(passed_over > 0, "no part was ever passed over");
        let (image, restored) = (rig.db.image(), from_the_newest_alone(&rig));
        let holes = holes(&image, &restored, PAGE);
        let want = digest_of(&image, PAGE, |page| holes.contains(&page.0));
        assert_eq!(rig.capture.last().digest, Some(want));
    }
}

/// A page of a part that does not change any more is lost behind SQLite's back (the WAL-reset bug, or
/// a disk): no snapshot has a reason to read it, and yet one of the next comes to see it.
#[test]
fn trap_44_what_no_snapshot_needs_to_read_is_read_in_the_end() {
    let (mut rig, writer) = several_parts();
    rig.drain();
    rig.capture.source.release().unwrap();
    assert_eq!(checkpoint(&writer, "TRUNCATE").0, 0);
    let page = 2 * part_pages(rig.capture.state().page_size) + 77;
    damage(&rig.db.path, u64::from(page) * PAGE as u64 + 50, b"not what was committed");
    let found = (0..READ_ALL_THE_SAME).find_map(|_| {
        crate::testkit::commits(&writer, 1);
        begin(&mut rig);
        loop {
            rig.catch_up();
            let stores = rig.shipper.stores.clone();
            match rig.capture.next_part(&|part| stores.has_part(part)) {
                Ok(Some(part)) => stores.put_part(&part).unwrap(),
                Ok(None) => break,
                Err(trouble) => return Some(trouble),
            }
        }
        rig.roll();
        None
    });
    assert!(matches!(found, Some(Trouble::Diverged(it)) if it.0 == page + 1), "{found:?}");
}

/// A transaction too large to be held is read, and not yet shipped: the page index does not know it, and
/// what it changed was taken for damage.
#[test]
fn trap_44_a_part_is_not_compared_while_a_large_transaction_waits() {
    let (mut rig, writer) = several_parts();
    writer.execute_batch("UPDATE t SET x = 'short' WHERE id = 1").unwrap();
    begin(&mut rig);
    writer.execute_batch("UPDATE t SET x = randomblob(1000000)").unwrap();
    assert_eq!(rig.capture().unwrap(), Caught::Behind);
    assert!(rig.capture.large().is_some());
    assert!(rig.next_part().is_none());
    rig.drain();
    rig.roll();
    last_agrees(&rig);
}

/// What a commit cuts off the end has no frame in the WAL, and is no longer in the file once that commit
/// is checkpointed: it was taken for damage.
#[test]
fn trap_44_what_was_cut_off_meanwhile_is_no_damage() {
    let db = Db::empty(PAGE as u32);
    let writer = db.open();
    writer
        .execute_batch(
            "PRAGMA auto_vacuum = FULL; VACUUM; CREATE TABLE t(id INTEGER PRIMARY KEY, x)",
        )
        .unwrap();
    (0..18).for_each(|_| big(&writer, 1_000_000));
    let mut rig = Rig::shipped(db);
    writer.execute_batch("UPDATE t SET x = randomblob(1000000) WHERE id > 14").unwrap();
    begin(&mut rig);
    rig.catch_up();
    writer.execute_batch("DELETE FROM t WHERE id > 15").unwrap();
    let (_, frames, moved) = checkpoint(&writer, "PASSIVE");
    assert_eq!(frames, moved);
    writer.execute_batch("INSERT INTO t(x) VALUES (zeroblob(500000))").unwrap();
    while let Some(part) = rig.next_part() {
        rig.shipper.stores.put_part(&part).unwrap();
    }
    rig.roll();
    last_agrees(&rig);
}

/// Day after day somebody with the writer's keys removes what he can, stores rubbish over the rest and
/// hides it. Every restore point that is younger than the period of the locks, less the time between
/// two snapshots, comes back; most parts are as old as the first snapshot.
#[test]
fn trap_79_what_a_snapshot_needs_is_locked_however_old_it_is() {
    const DAY: u64 = 86_400_000;
    const PERIOD: usize = 4;
    let db = Db::new(PAGE as u32);
    let writer = db.open();
    (0..18).for_each(|_| big(&writer, 1_000_000));
    let mut rig = Rig::new(db);
    let worm = Arc::new(Worm::new(PERIOD as u64 * DAY));
    claim(&*worm, rig.capture.state().page_size);
    let dir = rig.db.dir.path().join("state");
    rig.shipper.stores = Arc::new(fanout(vec![worm.clone()], &dir, 1 << 30));
    rig.capture.begin_snapshot(|| Time(0)).unwrap();
    rig.roll();
    let mut points: Vec<(CommitNo, Vec<u8>)> = Vec::new();
    for day in 0..3 * PERIOD {
        crate::testkit::commits(&writer, 1);
        begin(&mut rig);
        rig.roll();
        crate::testkit::commits(&writer, 1);
        rig.drain();
        points.push((rig.last(), rig.db.image()));
        worm.pass(DAY);
        worm.ravage();
        for (commit, image) in points.iter().rev().take(PERIOD - 1) {
            let source = worm.clone() as Arc<dyn Backend>;
            let restored = restored(&source, Target::Commit(*commit)).unwrap();
            assert!(restored == *image, "day {day}: commit {commit}");
        }
    }
    let parts = worm.names().into_iter().filter(|name| matches!(name, Name::Part(_))).count();
    assert!(parts < 4 * 3 * PERIOD, "{parts} parts: most were not put anew");
}

/// What a snapshot would store is told from the hashes alone.
#[test]
fn parts_that_are_lacking_are_counted_without_reading_any() {
    let (mut rig, writer) = several_parts();
    let lacking = |rig: &mut Rig| {
        rig.drain();
        rig.shipper.stores.survey(Time(0)).unwrap();
        let stores = Arc::clone(&rig.shipper.stores);
        rig.capture.lacking(&|part| stores.has_part(part)).unwrap()
    };
    let all = parts(&rig).len() as u64;
    assert_eq!((all, lacking(&mut rig)), (5, 0));
    writer.execute_batch("UPDATE t SET x = zeroblob(1000000) WHERE rowid = 9").unwrap();
    let few = lacking(&mut rig);
    assert!((2..=3).contains(&few), "{few}: where it lies, and the header");
    writer.execute_batch("UPDATE t SET x = zeroblob(1000000)").unwrap();
    assert_eq!(lacking(&mut rig), all);
}
