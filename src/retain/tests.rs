//! Held to the model: what has to come back comes back, whatever was deleted.

mod cap;

use super::*;
use crate::backend::Backend;
use crate::backend::faulty::{Fault, Faulty, Operation};
use crate::backend::mem::Mem;
use crate::commit::Timeline;
use crate::compact::Policy;
use crate::compact::tests::{at, compact, points, policy};
use crate::model::{Step, Writer};
use crate::restore::{Quiet, Target};
use crate::testkit::rig::restored;
use crate::upkeep::{Done, Mode, Parts};
use crate::verify::verify;
use std::sync::Arc;

fn prune(source: &Arc<dyn Backend>, policy: &Policy, clock: Time) -> Done {
    let sources = [Arc::clone(source)];
    at(policy, clock).prune(&sources, Parts::Collect, Mode::Real).unwrap()
}

/// `count` commits, one a second, each alone; a snapshot of every tenth from the first on.
fn history(count: u32) -> Writer {
    let mut writer = Writer::new(512);
    for n in 1..=count {
        writer.alone(&Step::fill(4, if n == 1 { 1..=4 } else { n % 4 + 1..=n % 4 + 1 }, n));
        if n % 10 == 1 {
            writer.snapshot();
        }
    }
    writer
}

fn snapshots(writer: &Writer) -> Vec<u64> {
    let replica = Replica::list(&*writer.source()).unwrap();
    let mut all: Vec<_> = replica.snapshots.iter().map(|span| span.last.0).collect();
    all.sort_unstable();
    all
}

fn is_whole(writer: &Writer) {
    let report = verify(&writer.source(), None, &Quiet).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

/// The oldest point to be kept is of 10,000,026 s; it is restored from the snapshot of the 21st.
#[test]
fn trap_90_what_the_start_of_the_window_needs_is_kept_and_what_is_older_goes() {
    let writer = history(46);
    let done = prune(&writer.source(), &policy(&["all:20s"], &[]), Time(10_000_046_000));
    assert!(done.errors.is_empty());
    assert_eq!(snapshots(&writer), [21, 31, 41]);
    assert_eq!(points(&writer, 1..=46), Vec::from_iter(21..=46));
    is_whole(&writer);
    let names = done.pruned.iter().filter(|it| matches!(it.name, Name::Change(_)));
    assert_eq!(names.count(), 21);
    assert!(done.pruned.iter().any(|it| it.why == Why::Unnamed), "parts that no manifest names");
    let again = prune(&writer.source(), &policy(&["all:20s"], &[]), Time(10_000_046_000));
    assert_eq!(again.deleted, 0);
}

#[test]
fn trap_90_the_only_snapshot_is_never_deleted() {
    let writer = history(9);
    let late = Time(90_000_000_000);
    let done = prune(&writer.source(), &policy(&["all:1s"], &[]), late);
    assert_eq!((done.deleted, done.errors.len()), (1, 0), "the change-set that is in it");
    assert_eq!(points(&writer, 1..=9), Vec::from_iter(1..=9));
    // Nor the newest of several, of a database that has been at rest for years.
    let writer = history(31);
    prune(&writer.source(), &policy(&["all:1s"], &[]), late);
    assert_eq!(snapshots(&writer), [21, 31], "ages count from the last commit");
    assert_eq!(points(&writer, 1..=31), Vec::from_iter(21..=31));
}

/// Nothing is old because of one commit that is stamped years ahead.
#[test]
fn objects_of_the_future_push_nothing_out() {
    let mut writer = history(30);
    writer.now = Time(99_000_000_000);
    writer.alone(&Step::fill(4, [1], 77)).snapshot();
    let policy = policy(&["all:1h"], &[5]);
    let done = prune(&writer.source(), &policy, Time(10_000_040_000));
    assert_eq!(done.deleted, 0);
    compact(&writer, &policy, Time(10_000_040_000));
    assert_eq!(points(&writer, 1..=31), Vec::from_iter(1..=31));
}

/// Of snapshots that stand close the first one stays, and all points come back without the others.
#[test]
fn old_snapshots_become_fewer_and_no_point_is_lost() {
    let writer = history(120);
    let policy = policy(&["all:20s", "2s:1h"], &[]);
    prune(&writer.source(), &policy, Time(10_000_120_000));
    // Up to 10,000,100 s: the first of every 48 s.
    assert_eq!(snapshots(&writer), [1, 41, 81, 101, 111]);
    is_whole(&writer);
    assert_eq!(points(&writer, (1..=120).step_by(7)), Vec::from_iter((1..=120).step_by(7)));
}

/// Branch and main line share what came before, which stays as long as either needs it.
#[test]
fn a_branch_is_kept_as_long_as_it_is_young_and_then_goes_as_a_whole() {
    let mut writer = history(25);
    writer.fork(15);
    writer.now = writer.commits[15].time;
    for n in 16..=60 {
        writer.alone(&Step::fill(4, [n % 4 + 1], 100 + n));
        if n % 10 == 1 {
            writer.snapshot();
        }
    }
    let branch = |writer: &Writer| {
        let replica = Replica::list(&*writer.source()).unwrap();
        replica.branches(&*writer.source()).unwrap().len()
    };
    // Two hosts at a time: the branch ends at 10,000,025 s, and the main line, at 10,000,060 s, could
    // do with the snapshot of the 21st.
    let young = policy(&["all:36s"], &[]);
    prune(&writer.source(), &young, Time(10_000_060_000));
    assert_eq!((branch(&writer), snapshots(&writer)[0]), (1, 11), "the branch needs it");
    let dir = tempfile::tempdir().unwrap();
    let back = crate::restore::Options {
        output: &dir.path().join("r.db"),
        target: Target::Latest,
        timeline: Some(Timeline(1)),
        check: crate::restore::Check::None,
        force: false,
        dry_run: true,
    };
    let report = crate::restore::restore(&writer.source(), &back, &crate::testkit::rig::Quiet);
    assert_eq!(report.unwrap().commit, CommitNo(25));
    let old = policy(&["all:34s"], &[]);
    let done = prune(&writer.source(), &old, Time(10_000_060_000));
    assert_eq!(branch(&writer), 0);
    assert!(done.pruned.iter().any(|it| it.why == Why::OldBranch));
    is_whole(&writer);
    assert_eq!(points(&writer, 26..=60), Vec::from_iter(26..=60));
    prune(&writer.source(), &old, Time(10_000_060_000));
    is_whole(&writer);
    assert_eq!(snapshots(&writer)[0], 21);
}

/// What the store does not let go is tried again, and breaks nothing meanwhile.
#[test]
fn trap_77_a_delete_that_is_denied_is_tried_again_and_breaks_nothing() {
    let writer = history(46);
    let policy = policy(&["all:20s"], &[10]);
    let clock = Time(10_000_060_000);
    let faulty = Arc::new(Faulty::new(writer.source()));
    let source = Arc::clone(&faulty) as Arc<dyn Backend>;
    faulty.fail_all(Operation::Delete, Fault::Denied);
    for _ in 0..2 {
        let done = at(&policy, clock).compact(&[Arc::clone(&source)]).unwrap();
        assert_eq!((done.deleted, done.errors.len()), (0, 1));
        let done = prune(&source, &policy, clock);
        assert_eq!((done.deleted, done.errors.len()), (0, 1));
        assert_eq!(points(&writer, (1..=46).step_by(3)), Vec::from_iter((1..=46).step_by(3)));
        is_whole(&writer);
    }
    assert_eq!(faulty.fired(Fault::Denied), 4, "one try a round");
    faulty.heal();
    at(&policy, clock).compact(&[Arc::clone(&source)]).unwrap();
    prune(&source, &policy, clock);
    assert_eq!(snapshots(&writer), [21, 31, 41]);
    is_whole(&writer);
    assert_eq!(points(&writer, 21..=46), Vec::from_iter(21..=46));
}

/// A part goes once no manifest that is kept names it, and not while a snapshot may be under way.
#[test]
fn a_part_that_a_kept_manifest_names_is_kept() {
    let writer = history(46);
    let policy = policy(&["all:20s"], &[]);
    let sources = [writer.source()];
    let round = at(&policy, Time(10_000_046_000));
    let done = round.prune(&sources, Parts::Leave, Mode::Real).unwrap();
    assert!(done.pruned.iter().all(|it| it.why == Why::Old));
    let dry = round.prune(&sources, Parts::Collect, Mode::DryRun).unwrap();
    assert!(!dry.pruned.is_empty() && dry.deleted == 0);
    let done = round.prune(&sources, Parts::Collect, Mode::Real).unwrap();
    assert_eq!(done.pruned, dry.pruned);
    assert!(done.pruned.iter().all(|it| it.why == Why::Unnamed));
    is_whole(&writer);
    assert_eq!(points(&writer, [21, 31, 41].into_iter()), [21, 31, 41]);
}

/// The round reads names and manifests: an object that it cannot judge by these stays.
#[test]
fn nothing_is_deleted_from_a_replica_that_cannot_be_judged() {
    let writer = history(46);
    let policy = policy(&["all:20s"], &[]);
    let key = writer.store.objects().keys().find(|key| key.contains("timeline")).cloned().unwrap();
    writer.store.objects().get_mut(&key).unwrap()[70] ^= 1;
    let done = prune(&writer.source(), &policy, Time(10_000_046_000));
    assert_eq!((done.deleted, done.errors.len()), (0, 1));
    let empty: Arc<dyn Backend> = Arc::new(Mem::new());
    assert_eq!(prune(&empty, &policy, Time(10_000_046_000)).errors.len(), 0);
    assert!(restored(&writer.source(), Target::Latest).is_err());
}

/// Somebody else's snapshot may be under way where a later timeline was claimed than this host's last one:
/// `prune` on a former primary deleted the parts of the new one's first snapshot.
#[test]
fn parts_stay_where_somebody_else_has_claimed_a_timeline() {
    let mut writer = history(46);
    writer.fork(46);
    let part = writer.store.objects().keys().find(|key| key.contains("part")).cloned().unwrap();
    let body = writer.store.objects()[&part].clone();
    let lone = Name::Part(Part { page: crate::commit::PageNo(1), hash: 7 });
    writer.store.put(&lone, &body).unwrap();
    let (policy, sources) = (policy(&["all:1h"], &[]), [writer.source()]);
    let round = at(&policy, Time(10_000_046_000));
    let pruned = |own| {
        let parts = Parts::CollectUpTo(Timeline(own));
        let done = round.prune(&sources, parts, Mode::Real).unwrap();
        done.pruned.into_iter().map(|it| it.name).collect::<Vec<_>>()
    };
    assert_eq!(pruned(1), []);
    assert_eq!(pruned(2), [lone]);
}

/// The snapshot that the oldest point to be kept is restored from lacks a part, or is damaged: an older one
/// stands in for it, as long as it is there.
#[test]
fn nothing_goes_by_age_for_a_snapshot_that_cannot_be_restored_from() {
    for damaged in [false, true] {
        let writer = history(46);
        let replica = Replica::list(&*writer.source()).unwrap();
        let base = *replica.snapshots.iter().find(|span| span.last.0 == 21).unwrap();
        let named = |span| {
            let manifest = crate::replica::read_manifest(&*writer.store, span).unwrap();
            manifest.parts.into_iter().map(|it| it.part).collect::<Vec<_>>()
        };
        let others = replica.snapshots.iter().filter(|span| **span != base);
        let others: BTreeSet<Part> = others.flat_map(named).collect();
        let own = named(&base).into_iter().find(|part| !others.contains(part)).unwrap();
        match damaged {
            true => {
                let key = Name::Snapshot(base).to_string();
                writer.store.objects().get_mut(&key).unwrap()[40] ^= 1;
            }
            false => writer.store.delete(&Name::Part(own)).unwrap(),
        }
        let all_are_there = || {
            for commit in (21..=46).step_by(5) {
                let target = Target::Commit(CommitNo(commit));
                let found = restored(&writer.source(), target);
                assert!(found.unwrap() == writer.image(commit), "{commit}, damaged: {damaged}");
            }
        };
        all_are_there();
        drop(prune(&writer.source(), &policy(&["all:20s"], &[]), Time(10_000_046_000)));
        all_are_there();
        assert_eq!(snapshots(&writer), [11, 21, 31, 41], "and what is older yet has gone");
    }
}

/// The first of those that stand close to each other is the one that stays, and lacks a part: the next one
/// that is whole stays for it.
#[test]
fn no_snapshot_goes_for_one_before_it_that_cannot_be_restored_from() {
    let policy = policy(&["all:5s", "10s:1h"], &[]);
    let kept = |spoil: bool| {
        let writer = history(96);
        let replica = Replica::list(&*writer.source()).unwrap();
        let first = *replica.snapshots.iter().min_by_key(|span| span.last).unwrap();
        if spoil {
            writer.store.objects().get_mut(&Name::Snapshot(first).to_string()).unwrap()[40] ^= 1;
        }
        let done = prune(&writer.source(), &policy, Time(10_000_096_000));
        assert!(done.pruned.iter().any(|it| it.why == Why::Dense), "{done:?}");
        snapshots(&writer)
    };
    let (sound, spoiled) = (kept(false), kept(true));
    assert!(!sound.contains(&11) && spoiled.contains(&11), "{sound:?} {spoiled:?}");
    assert_eq!(spoiled.iter().filter(|it| **it != 11).copied().collect::<Vec<_>>(), sound);
}
