//! Two or three destinations, each spoiled in its own way, and the database that comes back.

use super::*;
use crate::backend::faulty::{Fault, Faulty, Operation};
use crate::backend::mem::Mem;
use crate::model::{Step, Writer};
use crate::restore::Target;
use crate::testkit::rig::restored;

fn mem(writer: &Writer) -> Arc<Mem> {
    let mem = Mem::new();
    mem.objects().extend(writer.store.objects().clone());
    Arc::new(mem)
}

/// Two snapshots, two timelines, a transaction in parts; ten commits.
fn writer() -> Writer {
    let mut writer = Writer::new(512);
    writer.alone(&Step::fill(4, 1..=4, 0)).snapshot();
    writer.alone(&Step::fill(4, [2], 2)).alone(&Step::fill(4, [3], 3));
    writer.in_parts(&Step::fill(6, 1..=6, 4), 2, 1);
    writer.fork(4);
    writer.alone(&Step::fill(6, [5], 5)).snapshot();
    for n in 6..=10 {
        writer.alone(&Step::fill(6, [n % 6 + 1], n));
    }
    writer
}

fn open(mems: &[&Arc<Mem>]) -> Result<Arc<Copies>> {
    let sources = mems.iter().map(|mem| Ok(Arc::clone(mem) as Arc<dyn Backend>));
    Copies::open(sources.collect()).map(Arc::new)
}

/// What comes back, as `bakelite restore` goes about it.
fn restore(copies: &Arc<Copies>, target: Target) -> Result<Vec<u8>> {
    let source = Arc::clone(copies) as Arc<dyn Backend>;
    loop {
        match restored(&source, target) {
            Err(error) if copies.distrust(&error) => {}
            done => return done,
        }
    }
}

#[track_caller]
fn comes_back(writer: &Writer, copies: &Arc<Copies>, commits: impl IntoIterator<Item = u64>) {
    for commit in commits {
        let image = restore(copies, Target::Commit(CommitNo(commit)));
        assert!(image.unwrap() == writer.image(commit), "commit {commit}");
    }
    let last = writer.last().number.0;
    assert!(restore(copies, Target::Latest).unwrap() == writer.image(last));
}

fn keys(mem: &Mem) -> Vec<String> {
    mem.objects().keys().cloned().collect()
}

/// How an object is spoiled: gone, torn, one bit, another object's bytes.
fn spoil(mem: &Mem, key: &str, how: usize) {
    let mut objects = mem.objects();
    let other = objects.iter().find(|(other, _)| *other != key).unwrap().1.clone();
    let body = objects.get_mut(key).unwrap();
    let middle = body.len() / 2;
    match how % 4 {
        0 => drop(objects.remove(key)),
        1 => body.truncate(middle),
        2 => body[middle] ^= 4,
        _ => *body = other,
    }
}

#[test]
fn sound_copies_are_read_from_the_first_alone() {
    let writer = writer();
    let (one, two) = (mem(&writer), mem(&writer));
    let counted = Arc::new(Faulty::new(two));
    let copies = Copies::open(vec![Ok(one), Ok(counted.clone() as Arc<dyn Backend>)]).unwrap();
    let copies = Arc::new(copies);
    let asked = counted.calls(Operation::Get);
    comes_back(&writer, &copies, 1..=10);
    assert!(copies.fallbacks().is_empty() && copies.notes.is_empty());
    assert_eq!(counted.calls(Operation::Get), asked);
}

#[test]
fn each_object_is_taken_from_where_it_is_whole() {
    let writer = writer();
    for (at, key) in keys(&writer.store).iter().enumerate() {
        for how in 0..4 {
            let mems = [mem(&writer), mem(&writer)];
            spoil(&mems[at % 2], key, how);
            let copies = open(&[&mems[0], &mems[1]]).unwrap();
            comes_back(&writer, &copies, [1, 3, 4, 7, 10]);
            // Those at a snapshot are all in it; without the last one it is behind.
            let unneeded = ["change/0/0000000000000001", "change/0/0000000000000005"];
            let unneeded = unneeded.iter().any(|it| key.starts_with(it));
            let behind = how == 0 && writer.changes().last() == Some(key);
            if at % 2 == 0 && !unneeded && !behind {
                let told = copies.fallbacks();
                assert_eq!(told.len(), 1, "{key}, {how}");
                assert_eq!(told[0].object.to_string(), *key);
                assert!(!told[0].why.is_empty());
            } else {
                assert_eq!(copies.fallbacks(), [], "{key}, {how}");
            }
        }
    }
}

/// Every object is damaged on one of the two.
#[test]
fn what_is_damaged_at_different_objects_makes_one_whole() {
    let writer = writer();
    for turn in 0..2 {
        let mems = [mem(&writer), mem(&writer)];
        for (at, key) in keys(&writer.store).iter().enumerate() {
            spoil(&mems[(at + turn) % 2], key, at / 2);
        }
        let copies = open(&[&mems[0], &mems[1]]).unwrap();
        comes_back(&writer, &copies, 1..=10);
        assert!(!copies.fallbacks().is_empty());
    }
}

#[test]
fn what_is_damaged_everywhere_is_refused_by_name() {
    let writer = writer();
    let key = writer.changes().pop().unwrap();
    let mems = [mem(&writer), mem(&writer)];
    mems.iter().for_each(|mem| spoil(mem, &key, 2));
    let copies = open(&[&mems[0], &mems[1]]).unwrap();
    let error = restore(&copies, Target::Latest).unwrap_err();
    assert_eq!(error.status, Status::Integrity);
    assert!(error.message.contains(&key), "{error}");
    assert!(error.hint.unwrap().contains("--commit 9"));
    assert!(restore(&copies, Target::Commit(CommitNo(9))).unwrap() == writer.image(9));
}

/// It opens, and says that it goes on from another commit: only what it is put to tells.
#[test]
fn an_object_of_another_replica_is_taken_from_the_next_one() {
    let (writer, mut stranger) = (writer(), Writer::new(512));
    stranger.alone(&Step::fill(4, 1..=4, 90)).snapshot().alone(&Step::fill(4, [2], 91));
    let key = writer.changes().remove(1);
    assert!(stranger.changes().contains(&key));
    let mems = [mem(&writer), mem(&writer)];
    mems[0].objects().insert(key.clone(), stranger.store.objects()[&key].clone());
    let copies = open(&[&mems[0], &mems[1]]).unwrap();
    comes_back(&writer, &copies, [2, 3, 4]);
    let told = copies.fallbacks();
    assert!(told.iter().any(|it| it.object.to_string() == key), "{told:?}");
}

#[test]
fn one_that_is_behind_does_not_lead() {
    let mut writer = writer();
    let old = mem(&writer);
    writer.alone(&Step::fill(6, [1], 11)).fork(11);
    writer.alone(&Step::fill(6, [1], 12));
    let new = mem(&writer);
    let copies = open(&[&old, &new]).unwrap();
    comes_back(&writer, &copies, 1..=12);
    assert_eq!(copies.fallbacks(), []);
    assert!(copies.notes[0].message.contains("ends at commit 10"), "{:?}", copies.notes);
    // The first of equals leads, and nobody is told of one that trails behind it.
    let copies = open(&[&new, &old]).unwrap();
    comes_back(&writer, &copies, 1..=12);
    assert!(copies.notes.is_empty());
}

#[test]
fn trap_81_one_that_cannot_be_listed_is_passed_over() {
    let writer = writer();
    let whole = mem(&writer);
    let away = Arc::new(Faulty::new(mem(&writer)));
    away.fail_all(Operation::List, Fault::Denied);
    let both: [Arc<dyn Backend>; 2] = [away.clone(), whole];
    let copies = Arc::new(Copies::open(both.into_iter().map(Ok).collect()).unwrap());
    comes_back(&writer, &copies, [1, 10]);
    assert_eq!(copies.notes.len(), 1);
    let empty = Arc::new(Mem::new());
    for others in [vec![], vec![Arc::clone(&empty) as Arc<dyn Backend>]] {
        let alone: Arc<dyn Backend> = away.clone();
        let error = Copies::open(others.into_iter().chain([alone]).map(Ok).collect()).unwrap_err();
        assert_eq!(error.status, Status::Unreachable, "never an empty replica");
    }
    assert_eq!(open(&[&empty, &empty]).unwrap_err().status, Status::Missing);
    comes_back(&writer, &open(&[&empty, &mem(&writer)]).unwrap(), [1, 10]);
}

/// The other one was being filled from it, parts first, when the machine was lost. An application was
/// started on an empty database, since what answered held nothing that could be restored.
#[test]
fn trap_81_one_that_is_only_begun_to_be_filled_is_not_taken_for_all_there_is() {
    let writer = writer();
    let away = Arc::new(Faulty::new(mem(&writer)));
    away.fail_all(Operation::List, Fault::Denied);
    let prefixes = ["part/", "timeline/", "change/"];
    for filled in 1..=prefixes.len() {
        let filling = mem(&writer);
        let is_there = |key: &str| prefixes[..filled].iter().any(|it| key.starts_with(it));
        filling.objects().retain(|key, _| is_there(key));
        let both: [Arc<dyn Backend>; 2] = [away.clone(), filling.clone()];
        let copies = Arc::new(Copies::open(both.into_iter().map(Ok).collect()).unwrap());
        let error = copies.all_as_one(|source| restored(source, Target::Latest)).unwrap_err();
        assert_eq!(error.status, Status::Unreachable, "{error}");
        // What is wrong with the one that answers is not hidden by the other either.
        let broken = mem(&writer);
        let record = keys(&broken).into_iter().find(|key| key.starts_with("timeline")).unwrap();
        broken.objects().get_mut(&record).unwrap()[70] ^= 1;
        filling.objects().retain(|key, _| key.starts_with("part/"));
        for both in [[&filling, &broken], [&broken, &filling]] {
            let copies = open(&both).unwrap();
            let error = copies.all_as_one(|source| restored(source, Target::Latest)).unwrap_err();
            assert_eq!(error.status, Status::Integrity, "{error}");
        }
    }
}

/// A reader that lists again does so because something has gone, not because a destination has.
#[test]
fn trap_81_one_that_cannot_be_listed_again_has_what_it_had() {
    let writer = writer();
    let both = [(); 2].map(|()| Arc::new(Faulty::new(mem(&writer))));
    let sources = both.clone().map(|it| Ok(it as Arc<dyn Backend>));
    let copies = Arc::new(Copies::open(sources.into()).unwrap());
    both[0].fail_all(Operation::List, Fault::Denied);
    comes_back(&writer, &copies, [1, 10]);
    assert!(both[0].fired(Fault::Denied) > 0 && both[1].calls(Operation::List) > 4);
    both[1].fail_all(Operation::List, Fault::Denied);
    assert_eq!(restore(&copies, Target::Latest).unwrap_err().status, Status::Unreachable);
}

/// It lists, and then answers nothing: the other one has it all.
#[test]
fn trap_69_one_that_goes_away_half_way_is_passed_over() {
    let writer = writer();
    let flaky = Arc::new(Faulty::new(mem(&writer)));
    let both: [Arc<dyn Backend>; 2] = [flaky.clone(), mem(&writer)];
    let copies = Arc::new(Copies::open(both.into_iter().map(Ok).collect()).unwrap());
    flaky.fail_all(Operation::Get, Fault::Refused);
    comes_back(&writer, &copies, [1, 4, 10]);
    assert!(flaky.fired(Fault::Refused) <= crate::ahead::FETCHERS as u64, "then asked last");
}

/// Two hosts each went on with timeline 3 on a destination of their own: what the names have in
/// common is not the same, and nothing of the one gets into the other.
#[test]
fn trap_65_two_histories_of_one_timeline_are_not_mixed() {
    let (mut here, mut there) = (writer(), writer());
    there.now.0 += 5;
    for (writer, seed) in [(&mut here, 20), (&mut there, 40)] {
        writer.fork(10);
        writer.now.0 = 20_000_000_000;
        for n in 0..4 {
            writer.alone(&Step::fill(6, [n + 1], seed + n));
        }
    }
    let same: Vec<_> =
        here.changes().into_iter().filter(|key| there.changes().contains(key)).collect();
    let key = same.last().unwrap();
    assert!(key.contains("-000000000000000e-"), "the last commit has one name on both");
    let mems = [mem(&here), mem(&there)];
    for how in 0..3 {
        let one = mem(&here);
        let middle = &here.changes()[here.changes().len() - 2];
        spoil(&one, middle, how);
        let copies = open(&[&one, &mems[1]]).unwrap();
        let error = restore(&copies, Target::Latest).unwrap_err();
        assert_eq!(error.status, Status::Integrity, "{error}");
        let of_it = |it: &Fallback| it.object.timeline() == Some(Timeline(3));
        assert!(!copies.fallbacks().iter().any(of_it), "not even tried");
        // What came before the two parted is the same.
        let old = writer().changes().remove(2);
        let one = mem(&here);
        spoil(&one, &old, how);
        let copies = open(&[&one, &mems[1]]).unwrap();
        comes_back(&here, &copies, 1..=14);
        assert_eq!(copies.fallbacks().len(), 1);
    }
}

/// Another database's replica, and on top of it the newest timeline of ours, as copies were once made. It
/// led, and what was right on the other one was kept out as not its own.
#[test]
fn where_one_is_a_mixture_the_one_that_is_whole_is_restored_alone() {
    let (mut ours, theirs) = (Writer::of(1), Writer::of(2));
    ours.fork(1);
    ours.alone(&Step::fill(4, [2], 3));
    let (whole, mixture) = (mem(&ours), mem(&theirs));
    let newest = |key: &String| key.parse::<Name>().unwrap().timeline() == Some(Timeline(3));
    for (key, body) in whole.objects().iter().filter(|(key, _)| newest(key)) {
        mixture.objects().insert(key.clone(), body.clone());
    }
    let latest = |copies: &Arc<Copies>| copies.all_as_one(|it| restored(it, Target::Latest));
    let copies = open(&[&mixture, &whole]).unwrap();
    assert!(latest(&copies).unwrap() == ours.image(2));
    assert!(copies.alone().unwrap().ends_with("restored from memory alone"));
    assert_eq!(copies.fallbacks(), []);
    let copies = open(&[&whole, &mixture]).unwrap();
    assert!(latest(&copies).unwrap() == ours.image(2) && copies.alone().is_none());
    // One that ends before is an older state: it is not taken for the newest.
    let key = ours.changes().pop().unwrap();
    whole.objects().remove(&key);
    let error = latest(&open(&[&mixture, &whole]).unwrap()).unwrap_err();
    assert_eq!(error.status, Status::Integrity, "{error}");
}
