//! Which branches there are, and where each was left.

use super::*;
use crate::backend::faulty::{Fault, Faulty, Operation};
use crate::model::{Step, Writer};
use crate::name::Name;

/// Each branch: its newest timeline, and the last commit that it shares.
fn branches(writer: &Writer) -> Vec<(u32, u64)> {
    let source = writer.source();
    let branches = Replica::list(&*source).unwrap().branches(&*source).unwrap();
    let head = |branch: Branch| (branch.ancestry[0].timeline.0, branch.after.0);
    branches.into_iter().map(|branch| head(branch.unwrap())).collect()
}

fn grown(writer: &mut Writer, commits: u32, seed: u32) {
    for n in 0..commits {
        writer.alone(&Step::fill(3, [n % 3 + 1], seed + n));
    }
}

#[test]
fn a_branch_is_what_nothing_newer_goes_on_from() {
    let mut writer = Writer::new(512);
    writer.alone(&Step::fill(3, 1..=3, 0)).snapshot();
    grown(&mut writer, 3, 1);
    writer.fork(4);
    assert_eq!(branches(&writer), [], "all of timeline 1 was taken over");
    grown(&mut writer, 3, 10);
    writer.fork(7);
    writer.fork(7);
    assert_eq!(branches(&writer), []);
    // 5 leaves 1 after commit 2, with 2 and 3 behind it: one branch, since 2 goes on from 1.
    writer.fork_of(Timeline(1), 2);
    grown(&mut writer, 4, 20);
    assert_eq!(branches(&writer), [(2, 2)]);
    // 6 leaves 5 after 3; what is left of 5 is a branch of its own.
    writer.fork(3);
    grown(&mut writer, 1, 30);
    assert_eq!(branches(&writer), [(5, 3), (2, 2)]);
    // 7 leaves 2, which lives on, and what 2 had past that is on no other branch.
    let mut writer = Writer::new(512);
    writer.alone(&Step::fill(3, 1..=3, 0)).snapshot();
    writer.fork(1);
    grown(&mut writer, 5, 10);
    writer.fork(3);
    grown(&mut writer, 2, 20);
    writer.fork_of(Timeline(1), 1);
    assert_eq!(branches(&writer), [(3, 1), (2, 3)]);
}

#[test]
fn timelines_are_named_as_ranges() {
    let check = |numbers: &[u32], expected: &str| {
        let timelines: Vec<_> = numbers.iter().map(|&number| Timeline(number)).collect();
        assert_eq!(ranges(&timelines), expected);
    };
    check(&[1], "1");
    check(&[1, 2, 3, 5, 7, 8], "1 to 3, 5, 7 to 8");
    check(&[], "");
}

/// Found by torture: the change-sets were listed as they were, and the timelines as they had been before the
/// last start. Its record was told to be lost, and the daemon did not start.
#[test]
fn trap_76_a_timeline_that_a_stale_listing_lacks_is_asked_for() {
    let mut writer = Writer::new(512);
    writer.alone(&Step::fill(3, 1..=3, 0)).snapshot();
    writer.fork(1);
    grown(&mut writer, 2, 1);
    let faulty = Faulty::new(writer.source());
    faulty.fail(Operation::List, 4, Fault::Stale);
    let stale = Replica::list(&faulty).unwrap();
    assert_eq!((&stale.timelines[..], faulty.fired(Fault::Stale)), (&[Timeline(1)][..], 1));
    assert_eq!((stale.newest_timeline(), stale.newest_record()), (Timeline(2), Some(Timeline(1))));
    let ancestry = stale.ancestry(&faulty).unwrap();
    assert_eq!(stale.newest(&ancestry).unwrap().last, writer.last().number);
    assert_eq!(stale.ancestry_of(&faulty, Timeline(2)).unwrap(), ancestry);
    faulty.delete(&Name::Timeline(Timeline(2))).unwrap();
    for lost in [stale.ancestry(&faulty), stale.ancestry_of(&faulty, Timeline(2))] {
        let error = lost.unwrap_err();
        assert_eq!((error.status, error.hint.is_some()), (Status::Integrity, true), "{error}");
    }
}
