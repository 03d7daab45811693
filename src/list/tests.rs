//! What is listed is what can be restored.

use super::*;
use crate::backend::faulty::{Fault, Faulty, Operation};
use crate::backend::sealed::sealed;
use crate::model::{Step, Writer};
use crate::seal::{Key, Keys, Rule};
use std::sync::Arc;

fn ranges(writer: &Writer) -> Vec<(u64, u64, u32, u64)> {
    let points = points(&*writer.source()).unwrap();
    points.iter().map(|it| (it.first.0, it.last.0, it.timeline.0, it.points)).collect()
}

#[test]
fn restore_points_are_ranges_that_end_at_holes() {
    let mut writer = Writer::new(512);
    writer.alone(&Step::fill(2, 1..=2, 1));
    assert_eq!(ranges(&writer), [], "no snapshot, no restore point");
    writer.snapshot().alone(&Step::fill(3, 1..=2, 2));
    assert_eq!(ranges(&writer), [(1, 2, 1, 2)]);
    writer.resync(&Step::fill(3, 1..=3, 3)).alone(&Step::fill(3, [1], 4));
    assert_eq!(ranges(&writer), [(1, 2, 1, 2), (3, 4, 1, 2)]);
    writer.fork(4);
    writer.alone(&Step::fill(3, [1], 5)).snapshot();
    assert_eq!(ranges(&writer), [(1, 2, 1, 2), (3, 5, 2, 3)]);
    let last = points(&*writer.source()).unwrap()[1];
    assert_eq!((last.from, last.to), (writer.commits[3].time, writer.commits[5].time));
}

/// Branches by their first and last commit, their timeline and the times of both commits.
fn branches(writer: &Writer) -> Vec<(u64, u64, u32, Time, Time)> {
    let points = points(&*writer.source()).unwrap();
    let branches = points.iter().filter(|it| it.branch);
    branches.map(|it| (it.first.0, it.last.0, it.timeline.0, it.from, it.to)).collect()
}

#[test]
fn branches_are_listed_from_where_they_were_left() {
    let mut writer = Writer::new(512);
    writer.alone(&Step::fill(2, 1..=2, 1)).snapshot().alone(&Step::fill(2, [1], 2));
    writer.fork(2);
    writer.commit(&Step::fill(2, [1], 3)).commit(&Step::fill(2, [2], 4)).ship();
    let times = [writer.commits[3].time, writer.commits[4].time];
    assert_eq!(branches(&writer), []);
    // Timeline 3 leaves 1 where 2 left it, 4 leaves 3 after its first commit.
    writer.fork_of(Timeline(1), 2);
    for n in 3..=5 {
        writer.alone(&Step::fill(2, [1], 10 + n));
    }
    let later = [writer.commits[4].time, writer.commits[5].time];
    writer.fork(3);
    writer.alone(&Step::fill(2, [2], 20));
    let expected = [(4, 5, 3, later[0], later[1]), (3, 4, 2, times[0], times[1])];
    assert_eq!(branches(&writer), expected, "the newest first");
    assert_eq!(ranges(&writer)[0], (1, 4, 4, 4));
    let source = writer.source();
    let every = points(&*source).unwrap();
    assert!(every.iter().skip_while(|it| !it.branch).all(|it| it.branch), "they come last");
    // The record of a branch's timeline is gone: the branch is, and nothing else.
    writer.store.objects().remove(&Name::Timeline(Timeline(2)).to_string());
    assert_eq!(branches(&writer), expected[..1]);
    assert_eq!(ranges(&writer)[0], (1, 4, 4, 4));
}

/// What came before a hole that the branch shares is no part of it.
#[test]
fn a_branch_does_not_list_what_it_shares() {
    let mut writer = Writer::new(512);
    writer.alone(&Step::fill(2, 1..=2, 1)).snapshot().alone(&Step::fill(2, [1], 2));
    writer.resync(&Step::fill(2, 1..=2, 3)).alone(&Step::fill(2, [1], 4));
    let end = writer.alone(&Step::fill(2, [1], 5)).last().time;
    writer.fork(4);
    writer.alone(&Step::fill(2, [2], 20));
    assert_eq!(branches(&writer), [(5, 5, 1, end, end)]);
}

/// A change-set of a branch that cannot be read is no reason to hide it, or anything else.
#[test]
fn a_damaged_branch_is_listed_all_the_same() {
    let mut writer = Writer::new(512);
    writer.alone(&Step::fill(2, 1..=2, 1)).snapshot();
    writer.commit(&Step::fill(2, [1], 3)).commit(&Step::fill(2, [2], 4)).ship();
    let (key, end) = (writer.changes().pop().unwrap(), writer.commits[3].time);
    writer.fork(1);
    writer.alone(&Step::fill(2, [2], 20));
    writer.store.objects().insert(key, b"what".to_vec());
    assert_eq!(branches(&writer), [(2, 3, 1, end, end)]);
}

#[test]
fn trap_86_foreign_objects_are_not_listed() {
    let mut writer = Writer::new(512);
    writer.alone(&Step::fill(2, 1..=2, 1)).snapshot();
    let before = objects(&*writer.source()).unwrap();
    assert_eq!(before.len(), writer.store.objects().len());
    assert!(before.is_sorted_by(|a, b| a.name < b.name));
    for key in ["change/0/x", "change/9", "timeline/1", "part/.tmp-1", "notes"] {
        writer.store.objects().insert(key.into(), b"what".to_vec());
    }
    assert_eq!(objects(&*writer.source()).unwrap(), before);
    assert_eq!(ranges(&writer), [(1, 1, 1, 1)]);
    writer.store.objects().clear();
    assert_eq!(objects(&*writer.source()).unwrap_err().status, Status::Missing);
}

/// Whoever lists a replica that is being sealed, or whose key changes, sees how far that is.
#[test]
fn objects_are_listed_with_the_key_that_each_is_sealed_with() {
    let key = |number| Key::new(&zeroize::Zeroizing::new([number; 32]));
    let keys = Arc::new(Keys { all: vec![key(1), key(2)], rule: Rule::New });
    let mut writer = Writer::new(512);
    writer.alone(&Step::fill(2, 1..=2, 1)).snapshot();
    let mut names: Vec<Name> =
        writer.store.objects().keys().map(|name| name.parse().unwrap()).collect();
    names.sort();
    for (name, key) in names.iter().zip(&keys.all) {
        let objects = &mut *writer.store.objects();
        let body = objects.get_mut(&name.to_string()).unwrap();
        *body = key.seal(name, body);
    }
    let (damaged, plain) = (names.len() - 2, names.len() - 1);
    assert!(damaged >= 2);
    writer.store.objects().insert(names[damaged].to_string(), b"bakelite".to_vec());
    let mut expected = vec![Seal::None; names.len()];
    expected[..2].copy_from_slice(&[Seal::Under(keys.all[0].id), Seal::Under(keys.all[1].id)]);
    expected[damaged] = Seal::Unknown;
    let seals = |source: &dyn Backend| {
        objects(source).unwrap().into_iter().map(|it| (it.name, it.seal)).collect::<Vec<_>>()
    };
    let expected: Vec<_> = names.into_iter().zip(expected).collect();
    assert_eq!(seals(&*writer.source()), expected);
    assert_eq!(seals(&*sealed(writer.source(), &keys)), expected, "also with the keys at hand");
    // One that may not be read is there all the same, one that was removed meanwhile is not.
    let faulty = Faulty::new(writer.source());
    faulty.fail_all(Operation::Get, Fault::Denied);
    assert!(seals(&faulty).iter().all(|(_, seal)| *seal == Seal::Unknown));
    faulty.heal();
    faulty.fail_all(Operation::List, Fault::Ghosts);
    faulty.delete(&expected[plain].0).unwrap();
    assert_eq!(seals(&faulty), expected[..plain]);
    faulty.fail_all(Operation::Get, Fault::Refused);
    assert_eq!(objects(&faulty).unwrap_err().status, Status::Unreachable);
}

/// A range for each density, which begins with a point that there is.
#[test]
fn points_that_became_fewer_are_counted() {
    let mut writer = crate::compact::tests::seconds(60);
    writer.now = Time(10_000_200_000);
    writer.alone(&Step::fill(3, [1], 98)).alone(&Step::fill(3, [1], 99));
    let policy = crate::compact::tests::policy(&["all:10s", "10s:1h"], &[5]);
    crate::compact::tests::compact(&writer, &policy, Time(10_000_300_000));
    // Of the first 60 there are 1, 9, 19 and so on to 59, and 60.
    assert_eq!(ranges(&writer), [(1, 60, 1, 8), (61, 62, 1, 2)]);
    let found = points(&*writer.source()).unwrap();
    assert_eq!([found[0].to, found[1].from], [60, 61].map(|at| writer.commits[at].time));
}

/// Found by trying it: of damage nothing was said but that it is there.
#[test]
fn what_is_damaged_is_to_be_repaired() {
    let mut writer = Writer::new(512);
    writer.alone(&Step::fill(2, 1..=2, 1)).snapshot();
    let cap = crate::keep::Cap::default();
    let keys: Vec<_> = writer.store.objects().keys().cloned().collect();
    for key in keys.iter().filter(|key| key.starts_with("timeline") || key.starts_with("snap")) {
        writer.store.objects().get_mut(key).unwrap()[40] ^= 1;
        let source = writer.source();
        let listed = points(&*source).err();
        let how = (&Default::default(), cap, crate::upkeep::Parts::Collect);
        let used = crate::usage::usage(&*source, how, Time(1)).err();
        assert_eq!(
            listed.is_some(),
            key.starts_with("timeline"),
            "a manifest is not read for that"
        );
        for error in listed.into_iter().chain(used) {
            assert!(error.message.ends_with("its hash is wrong"), "{key}: {error}");
            assert!(error.hint.unwrap().starts_with("run: bakelite repair"), "{key}");
        }
        writer.store.objects().get_mut(key).unwrap()[40] ^= 1;
    }
}
