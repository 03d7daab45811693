//! Replicas of the model's writer, merged, and held to the model's own pages.

use super::*;
use crate::backend::Backend;
use crate::error::Status;
use crate::model::{Step, Writer};
use crate::restore::tests::get;
use crate::restore::{Quiet, Target};
use crate::upkeep::{Done, Round};
use quickcheck::{Arbitrary, Gen, QuickCheck};
use std::sync::Arc;

pub fn policy(keep: &[&str], compaction: &[u64]) -> Policy {
    let keep = Keep::parse(&keep.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>()).unwrap();
    let windows: Vec<_> = compaction.iter().map(|it| Duration::from_secs(*it)).collect();
    Policy::new(&keep, &windows)
}

pub fn at(policy: &Policy, clock: Time) -> Round<'_> {
    Round {
        policy,
        caps: &[],
        compression: Compression::Zstd,
        clock,
        upto: CommitNo(u64::MAX),
        timeline: None,
        recent: &|_| None,
        keep_recent: &|_| (),
        stop: &|| false,
        progress: &Quiet,
    }
}

fn round(source: &[Arc<dyn Backend>], policy: &Policy, clock: Time) -> Done {
    at(policy, clock).compact(source).unwrap()
}

pub fn compact(writer: &Writer, policy: &Policy, clock: Time) -> Done {
    let done = round(&[writer.source()], policy, clock);
    assert!(done.errors.is_empty(), "{:?}", done.errors);
    done
}

/// Every commit comes back as it was, or is no restore point any more; which ones do.
pub fn points(writer: &Writer, commits: impl Iterator<Item = u64>) -> Vec<u64> {
    let back = |commit: &u64| match get(&writer.source(), Target::Commit(CommitNo(*commit))) {
        Ok((bytes, _)) => {
            assert!(bytes == writer.image(*commit), "commit {commit} is another one");
            true
        }
        Err(error) => {
            assert_eq!(error.status, Status::Missing, "{error}");
            false
        }
    };
    commits.filter(back).collect()
}

fn levels(writer: &Writer) -> Vec<(u8, u64, u64)> {
    let parse = |key: &String| match key.parse() {
        Ok(Name::Change(Change { level, span, .. })) => (level, span.first.0, span.last.0),
        _ => panic!("{key}"),
    };
    let mut levels: Vec<_> = writer.changes().iter().map(parse).collect();
    levels.sort_unstable_by_key(|(level, first, _)| (*first, *level));
    levels
}

/// One commit a second from 10,000,000 s on, each in a change-set of its own; a snapshot of the first.
pub fn seconds(count: u32) -> Writer {
    let mut writer = Writer::new(512);
    writer.alone(&Step::fill(3, 1..=3, 0)).snapshot();
    for n in 2..=count {
        writer.alone(&Step::fill(3 + n % 3, [1, 2 + n % 3], n));
    }
    writer
}

#[test]
fn change_sets_of_a_finished_window_become_one_and_every_commit_comes_back() {
    let writer = seconds(35);
    let policy = policy(&["all:1h"], &[10, 30]);
    // Times are 10,000,001 s to 10,000,035 s; a window of 30 s begins at 9,999,990 s and 10,000,020 s.
    let done = compact(&writer, &policy, Time(10_000_035_500));
    assert_eq!((done.merged, done.made, done.deleted), (29, 2, 29));
    let young: Vec<_> = (30..=35).map(|n| (0, n, n)).collect();
    assert_eq!(levels(&writer)[..2], [(2, 1, 19), (1, 20, 29)]);
    assert_eq!(levels(&writer)[2..], young);
    assert_eq!(points(&writer, 1..=35), Vec::from_iter(1..=35));
    assert_eq!(compact(&writer, &policy, Time(10_000_035_600)).made, 0, "nothing is left to do");
    compact(&writer, &policy, Time(10_000_050_000));
    assert_eq!(levels(&writer), [(2, 1, 19), (2, 20, 34), (0, 35, 35)], "the newest stays");
    assert_eq!(points(&writer, 1..=35), Vec::from_iter(1..=35));
}

/// Points become fewer with their age, and the last of each bucket is the one that stays; a time
/// between two lands on the one before it.
#[test]
fn trap_91_a_point_in_time_is_served_at_its_density() {
    let mut writer = seconds(60);
    let policy = policy(&["all:10s", "10s:1h"], &[5]);
    writer.now = Time(10_000_200_000);
    writer.alone(&Step::fill(3, [1], 99));
    compact(&writer, &policy, Time(10_000_300_000));
    assert_eq!(levels(&writer), [(2, 1, 60), (0, 61, 61)]);
    let kept = [1, 9, 19, 29, 39, 49, 59, 60, 61];
    assert_eq!(points(&writer, 1..=61), kept, "the snapshot's and the last ones too");
    let at =
        |seconds: u64| get(&writer.source(), Target::At(Time(10_000_000_000 + seconds * 1000)));
    assert!(at(25).unwrap().0 == writer.image(19));
    assert!(at(29).unwrap().0 == writer.image(29));
    assert!(at(60).unwrap().0 == writer.image(60));
    assert!(at(100).unwrap().0 == writer.image(60));
    let error = get(&writer.source(), Target::Commit(CommitNo(25))).unwrap_err();
    assert_eq!(error.message, "restore: memory: commit 25 is no restore point any more");
    assert_eq!(error.hint.unwrap(), "the nearest restore point is --commit 19 or --commit 29");
}

/// A snapshot that was read while commits came is only whole at its own commit, which therefore stays.
#[test]
fn a_snapshot_that_rolled_keeps_its_commit() {
    let mut writer = seconds(20);
    for n in 21..=25 {
        writer.part(1, |_, _| ());
        writer.alone(&Step::fill(5, [n % 5 + 1], n));
    }
    writer.manifest();
    for n in 26..=60 {
        writer.alone(&Step::fill(5, [n % 5 + 1], n));
    }
    let policy = policy(&["1h:1d"], &[1, 5]);
    compact(&writer, &policy, Time(10_100_000_000));
    let first = Name::Snapshot(Replica::list(&*writer.source()).unwrap().snapshots[0]);
    assert!(points(&writer, 1..=60).contains(&25));
    writer.store.objects().remove(&first.to_string());
    assert_eq!(points(&writer, 25..=60)[0], 25);
}

#[test]
fn the_first_level_keeps_every_commit_and_the_next_one_what_is_asked_for() {
    let writer = seconds(20);
    let clock = Time(10_000_021_000);
    compact(&writer, &policy(&["5s:1d"], &[60]), clock);
    assert_eq!(levels(&writer), [(1, 1, 19), (0, 20, 20)]);
    assert_eq!(points(&writer, 1..=20), Vec::from_iter(1..=20));
    let writer = seconds(20);
    compact(&writer, &policy(&["5s:1d"], &[1, 60]), clock);
    assert_eq!(points(&writer, 1..=20), [1, 4, 9, 14, 19, 20]);
}

/// A branch ends, and a timeline goes on, between two change-sets: so it stays.
#[test]
fn trap_93_nothing_is_merged_across_a_timeline_a_branch_or_a_gap() {
    let mut writer = seconds(6);
    writer.fork(4);
    for n in 5..=8 {
        writer.alone(&Step::fill(9, [n], n * 7));
    }
    let gone =
        writer.changes().iter().find(|key| key.contains("0000000000000007-")).unwrap().clone();
    let body = writer.store.objects().remove(&gone).unwrap();
    compact(&writer, &policy(&["1h:1d"], &[1, 3600]), Time(10_100_000_000));
    let spans: Vec<_> = levels(&writer).iter().map(|(_, first, last)| (*first, *last)).collect();
    assert_eq!(spans, [(1, 4), (5, 6), (5, 6), (8, 8)]);
    writer.store.objects().insert(gone, body);
    assert_eq!(points(&writer, 1..=8), [1, 4, 6, 7, 8]);
}

/// Two that share a timeline and whose numbers follow each other, one of them another writer's.
#[test]
fn trap_93_nothing_is_merged_with_what_does_not_go_on_from_it() {
    let mut writer = seconds(4);
    *writer.chains.last_mut().unwrap() = Chain([7; 32]);
    writer.builder = Builder::new(writer.size, Chain([7; 32]));
    for n in 5..=8 {
        writer.alone(&Step::fill(9, [n], n * 7));
    }
    compact(&writer, &policy(&["all:1d"], &[3600]), Time(10_100_000_000));
    assert_eq!(levels(&writer), [(1, 1, 4), (1, 5, 7), (0, 8, 8)]);
    assert_eq!(points(&writer, 1..=4), [1, 2, 3, 4]);
}

#[test]
fn trap_93_nothing_is_merged_across_a_change_of_the_page_size() {
    let mut writer = seconds(4);
    let other = {
        let mut other = Writer::new(1024);
        other.states = writer.states.iter().map(|_| Vec::new()).collect();
        (other.commits, other.chains) = (writer.commits.clone(), writer.chains.clone());
        (other.store, other.timeline) = (Arc::clone(&writer.store), writer.timeline);
        other.now = writer.now;
        other.fork(4);
        other.alone(&Step::fill(3, 1..=3, 9)).snapshot().alone(&Step::fill(3, 1..=3, 10));
        other.alone(&Step::fill(3, 1..=3, 11));
        other
    };
    writer.timeline = other.timeline;
    compact(&writer, &policy(&["all:1d"], &[3600]), Time(10_100_000_000));
    assert_eq!(levels(&writer), [(1, 1, 4), (1, 5, 6), (0, 7, 7)]);
    assert_eq!(points(&writer, 1..=4), [1, 2, 3, 4]);
    assert_eq!(points(&other, 5..=7), [5, 6, 7]);
}

/// A squashed commit is marked as what it was; a large transaction in parts is left as it is.
#[test]
fn resyncs_stay_marked_and_parts_stay_apart() {
    let mut writer = seconds(3);
    writer.in_parts(&Step::fill(9, 1..=9, 4), 2, 1);
    writer.alone(&Step::fill(9, [3], 5)).alone(&Step::fill(9, [4], 6));
    writer.alone(&Step::fill(9, [5], 7));
    compact(&writer, &policy(&["1h:1d"], &[1, 3600]), Time(10_100_000_000));
    let spans: Vec<_> = levels(&writer).iter().map(|(_, first, last)| (*first, *last)).collect();
    assert_eq!(spans, [(1, 3), (4, 4), (4, 4), (4, 4), (4, 4), (4, 4), (5, 6), (7, 7)]);
    assert_eq!(points(&writer, 1..=7), [1, 3, 4, 6, 7]);
}

/// Memory is bounded: what is too much for one change-set becomes several, cut between two.
#[test]
fn a_window_too_large_to_be_held_becomes_several_change_sets() {
    let mut writer = Writer::new(65536);
    writer.alone(&Step::fill(2, 1..=2, 0)).snapshot();
    for n in 0..8 {
        writer.alone(&Step::fill(60, 3..=60, n));
    }
    compact(&writer, &policy(&["all:1d"], &[3600]), Time(10_100_000_000));
    let levels = levels(&writer);
    let merged = levels.iter().filter(|(level, ..)| *level == 1).count();
    assert!(merged > 1 && merged + 1 == levels.len(), "{levels:?}");
    assert_eq!(points(&writer, 1..=9), Vec::from_iter(1..=9));
}

/// What was merged before is deleted in the next round, unless what stands for it is damaged.
#[test]
fn trap_87_what_is_left_of_an_earlier_round_is_deleted_only_if_its_merger_is_whole() {
    let writer = seconds(9);
    let before = writer.store.objects().clone();
    let policy = policy(&["all:1h"], &[3600]);
    compact(&writer, &policy, Time(10_100_000_000));
    let merged = writer.changes().into_iter().find(|key| key.contains("change/1")).unwrap();
    writer.store.objects().extend(before);
    let sound = writer.store.objects()[&merged].clone();
    writer.store.objects().get_mut(&merged).unwrap()[200] ^= 1;
    let done = round(&[writer.source()], &policy, Time(10_100_000_000));
    assert_eq!((done.deleted, done.errors.len()), (0, 1));
    writer.store.objects().insert(merged, sound);
    let done = compact(&writer, &policy, Time(10_100_000_000));
    assert_eq!((done.made, done.deleted), (0, 8));
    assert_eq!(points(&writer, 1..=9), Vec::from_iter(1..=9));
}

/// One that was behind for years is kept up later, and comes to hold the same bytes.
#[test]
fn destinations_that_are_kept_up_at_different_times_hold_the_same() {
    let mut writer = seconds(60);
    let policy = policy(&["all:10s", "10s:40s", "20s:1h"], &[5]);
    writer.now = Time(10_000_900_000);
    writer.alone(&Step::fill(3, [1], 99));
    let late = Arc::new(crate::backend::mem::Mem::new());
    late.objects().clone_from(&writer.store.objects());
    let both = [writer.source(), Arc::clone(&late) as Arc<dyn Backend>];
    for clock in [10_000_901_000, 10_000_990_000] {
        round(&both[..1], &policy, Time(clock));
    }
    round(&both[1..], &policy, Time(10_050_000_000));
    assert!(*writer.store.objects() == *late.objects());
    assert!(writer.changes().iter().any(|key| key.starts_with("change/3")));
}

/// Young commits, and the last ones of each stretch as long as the density of their age.
fn to_be_kept(writer: &Writer, keep: &Keep) -> BTreeSet<u64> {
    let newest = writer.last().time;
    let is_kept = |(at, commit): (usize, &crate::commit::Commit)| {
        let density = keep.snapshot_window(commit.time, newest).map(|it| it / crate::keep::POINTS);
        let next = writer.commits.get(at + 1).map(|next| next.time);
        let kept = match keep.place(commit.time, newest) {
            Place::Apart => true,
            Place::Bucket { .. } => density.is_some_and(|density| {
                next.is_none_or(|next| bucket(next, density) > bucket(commit.time, density))
            }),
            Place::Past => false,
        };
        kept.then_some(commit.number.0)
    };
    writer.commits.iter().enumerate().skip(1).filter_map(is_kept).collect()
}

/// How a history is shipped, and where it is merged.
#[derive(Clone, Debug)]
enum Event {
    Commit(Step),
    Ship,
    Snapshot,
    Idle(u16),
    Compact(u16),
}

impl Arbitrary for Event {
    fn arbitrary(g: &mut Gen) -> Self {
        match u8::arbitrary(g) % 16 {
            0..=8 => Self::Commit(Step::arbitrary(g)),
            9..=11 => Self::Ship,
            12 => Self::Snapshot,
            13 => Self::Idle(u16::arbitrary(g)),
            _ => Self::Compact(u16::arbitrary(g) % 100),
        }
    }
}

/// I4: whatever is merged when, every point that `keep` asks for comes back byte for byte, and what
/// does not is said to be no restore point.
#[test]
fn a_point_that_is_to_be_kept_is_never_merged_away() {
    fn property(events: Vec<Event>, which: u8) -> bool {
        let keeps: [&[&str]; 4] = [&["all:20s", "5s:100s", "20s:1h"], &["3s:1d"], &["all:1d"], &[]];
        let policy =
            policy(keeps[usize::from(which % 4)], &[2, 10, 40][..usize::from(which % 3) + 1]);
        let mut writer = Writer::new(512);
        writer.alone(&Step::fill(3, 1..=3, 0)).snapshot();
        let mut wanted: BTreeSet<u64> = BTreeSet::new();
        for event in &events {
            match event {
                Event::Commit(step) => drop(writer.commit(step)),
                Event::Ship => drop(writer.ship()),
                Event::Snapshot => drop(writer.commit(&Step::fill(2, [2], 7)).snapshot()),
                Event::Idle(seconds) => writer.now.0 += u64::from(*seconds) * 10,
                Event::Compact(late) => {
                    writer.ship();
                    let clock = Time(writer.now.0 + u64::from(*late) * 1000);
                    compact(&writer, &policy, clock);
                    wanted = to_be_kept(&writer, &policy.keep);
                }
            }
        }
        writer.ship();
        let there: BTreeSet<_> = points(&writer, 1..=writer.last().number.0).into_iter().collect();
        assert!(there.is_superset(&wanted), "{wanted:?} were to be kept, {there:?} are there");
        true
    }
    QuickCheck::new().tests(100).quickcheck(property as fn(Vec<Event>, u8) -> bool);
}
