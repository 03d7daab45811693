//! Which commit a target means, along which timeline.

use super::*;

#[test]
fn trap_92_targets_before_after_between_and_equal() {
    let mut writer = shipped(3);
    writer.commit(&Step::fill(3, [1], 7)).commit(&Step::fill(3, [2], 8)).ship();
    check(
        &writer,
        &[
            (time(&writer, 1, -1), MISSING),
            (time(&writer, 1, 0), Ok(1)),
            (time(&writer, 1, 500), Ok(1)),
            (time(&writer, 4, -1), Ok(3)),
            (time(&writer, 4, 0), Ok(4)),
            (time(&writer, 5, -1), Ok(4)),
            (time(&writer, 5, 0), Ok(5)),
            (time(&writer, 6, -1), Ok(5)),
            (time(&writer, 6, 0), Ok(6)),
            (time(&writer, 6, 99_999_999), Ok(6)),
            (at(0), MISSING),
            (at(1), Ok(1)),
            (at(6), Ok(6)),
            (at(7), MISSING),
            (Target::Commit(CommitNo(u64::MAX)), MISSING),
            (Target::Latest, Ok(6)),
        ],
    );
}

/// Commit 5 stands for others that nobody saw; 8 is in a hole that a lost object left.
#[test]
fn trap_92_targets_in_a_gap() {
    let mut writer = shipped(3);
    writer.resync(&Step::fill(4, 1..=4, 50));
    for n in 6..=9 {
        writer.alone(&Step::fill(4, [n % 4 + 1], n));
    }
    all_come_back(&writer, 1..=9);
    remove(&writer, &writer.changes()[6]);
    check(
        &writer,
        &[
            (at(4), Ok(4)),
            (time(&writer, 5, -1), Ok(4)),
            (at(5), Ok(5)),
            (at(7), Ok(7)),
            (at(8), GAP),
            (at(9), GAP),
            (time(&writer, 8, 0), Ok(7)),
            (time(&writer, 9, -1), Ok(7)),
            (time(&writer, 9, 0), GAP),
            (Target::Latest, GAP),
        ],
    );
    let error = get(&writer.source(), Target::Latest).unwrap_err();
    assert_eq!(error.hint.unwrap(), "the nearest restore point is --commit 7");
}

/// What is gone from the end leaves no trace: the newest that is there is the newest.
#[test]
fn a_tail_that_is_gone_was_never_there() {
    let writer = shipped(4);
    remove(&writer, &writer.changes()[4]);
    check(&writer, &[(Target::Latest, Ok(4)), (at(5), MISSING), (time(&writer, 5, 0), Ok(4))]);
}

/// The clock steps back by an hour: times stand still until it has caught up.
#[test]
fn trap_67_targets_land_in_commit_order_when_the_clock_steps_back() {
    let mut writer = shipped(2);
    writer.now.0 -= 3_600_000;
    writer.alone(&Step::fill(3, [1], 8)).commit(&Step::fill(3, [2], 9)).ship();
    writer.now.0 += 7_200_000;
    writer.alone(&Step::fill(3, [3], 10));
    assert_eq!(writer.commits[5].time, writer.commits[3].time);
    let first = writer.commits[1].time.0;
    let landings: Vec<u64> = (0..5_000)
        .map(|n| landing(&writer, Target::At(Time(first + n * 1_000))).unwrap())
        .collect();
    assert!(landings.is_sorted(), "rising targets land on rising commits");
    assert_eq!([landings[0], landings[1], landings[2], landings[4999]], [1, 2, 5, 6]);
}

/// Timeline 2 leaves timeline 1 after commit 3; what timeline 1 had beyond, and what its zombie
/// stores there later, is passed over.
#[test]
fn trap_52_an_abandoned_branch_and_its_zombie_are_passed_over() {
    let mut writer = shipped(4);
    writer.fork(3);
    let zombie = shipped(9);
    for (key, body) in zombie.store.objects().iter().filter(|(key, _)| key.starts_with("change")) {
        writer.store.objects().entry(key.clone()).or_insert(body.clone());
    }
    check(&writer, &[(Target::Latest, Ok(3)), (at(4), MISSING)]);
    for n in 30..34 {
        writer.alone(&Step::fill(5, [n % 5 + 1], n));
    }
    assert_eq!(landing(&writer, Target::Latest), Ok(7));
    all_come_back(&writer, 1..=7);
    writer.fork(5);
    writer.alone(&Step::fill(2, [2], 40)).snapshot().alone(&Step::fill(3, [3], 41));
    assert_eq!(landing(&writer, Target::Latest), Ok(7));
    all_come_back(&writer, 1..=7);
}

/// A timeline that leaves an older one than the newest: all between is passed over.
#[test]
fn a_branch_of_a_branch_is_passed_over() {
    let mut writer = shipped(4);
    writer.fork(4);
    writer.alone(&Step::fill(4, 1..=4, 50)).alone(&Step::fill(4, 1..=4, 51));
    writer.fork_of(Timeline(1), 2);
    check(&writer, &[(Target::Latest, Ok(2)), (at(3), MISSING), (at(5), MISSING)]);
    writer.alone(&Step::fill(3, [2], 60));
    check(&writer, &[(Target::Latest, Ok(3)), (at(2), Ok(2)), (at(4), MISSING)]);
}

/// The record of a timeline says which objects count. Without it an older state would pass for the
/// newest.
#[test]
fn a_timeline_without_its_record_is_an_error() {
    for lost in [1, 2, 3] {
        let mut writer = shipped(2);
        writer.fork(3);
        writer.alone(&Step::fill(3, [1], 8));
        writer.fork(4);
        writer.alone(&Step::fill(3, [2], 9));
        remove(&writer, &Name::Timeline(Timeline(lost)).to_string());
        check(&writer, &[(Target::Latest, GAP), (at(1), GAP), (time(&writer, 1, 0), GAP)]);
    }
    let writer = shipped(2);
    remove(&writer, &Name::Timeline(Timeline(1)).to_string());
    assert_eq!(landing(&writer, Target::Latest), GAP);
}

#[test]
fn an_empty_place_and_an_unfinished_first_snapshot_hold_nothing() {
    let mut writer = model::Writer::new(512);
    assert_eq!(landing(&writer, Target::Latest), MISSING);
    writer.commit(&Step::fill(2, 1..=2, 1));
    undated(&writer, 0, 1..=1);
    check(&writer, &[(Target::Latest, MISSING), (at(1), MISSING), (time(&writer, 1, 0), MISSING)]);
    writer.store.objects().clear();
    assert_eq!(landing(&writer, Target::Latest), MISSING);
}
