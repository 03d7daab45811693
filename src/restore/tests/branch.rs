//! Abandoned branches: their commits come back where their timeline is asked for, and never else.

use super::*;
use crate::name::Change;

const GAP: std::result::Result<u64, Status> = Err(Status::Integrity);
const MISSING: std::result::Result<u64, Status> = Err(Status::Missing);

/// One replica, and the truth of two of its timelines: 1 with commits 1 to 7, and 2, which left it
/// after `fork` and went on to commit 9.
struct Forked {
    writer: model::Writer,
    /// Commits and pages of timeline 1.
    old: (Vec<Commit>, Vec<model::Pages>),
    fork: u64,
}

impl Forked {
    fn new(fork: u64) -> Self {
        let mut writer = shipped(4);
        writer.snapshot();
        writer.in_parts(&Step::fill(5, 1..=5, 6), 2, 1).alone(&Step::fill(2, [2], 7));
        let old = (writer.commits.clone(), writer.states.clone());
        writer.fork(fork);
        for n in fork as u32 + 1..=9 {
            writer.alone(&Step::fill(4, [n % 4 + 1], 50 + n));
        }
        Self { writer, old, fork }
    }

    /// The commit that a target on timeline 1 lands on, its bytes proved to be that timeline's.
    fn landing(&self, target: Target) -> std::result::Result<u64, Status> {
        match get_on(&self.writer.source(), target, Some(Timeline(1))) {
            Ok((bytes, commit)) => {
                let at = commit.number.0 as usize;
                assert_eq!(commit, self.old.0[at]);
                assert!(bytes == self.old.1[at].concat(), "commit {at} is timeline 1's");
                Ok(commit.number.0)
            }
            Err(error) => Err(error.status),
        }
    }
}

fn error_of(forked: &Forked, target: Target, timeline: u32) -> Error {
    get_on(&forked.writer.source(), target, Some(Timeline(timeline))).unwrap_err()
}

/// Both timelines have commits of the same numbers, whichever commit the newer one left at: the first
/// of all, at a snapshot, before or after a transaction in parts, or the last of all.
#[test]
fn trap_52_both_histories_come_back() {
    for fork in 1..=7 {
        let forked = Forked::new(fork);
        for commit in 1..=7 {
            assert_eq!(forked.landing(at(commit)), Ok(commit), "left at {fork}");
            let time = forked.old.0[commit as usize].time;
            assert_eq!(forked.landing(Target::At(time)), Ok(commit), "left at {fork}");
        }
        assert_eq!(forked.landing(Target::Latest), Ok(7));
        assert_eq!((forked.landing(at(8)), forked.landing(at(0))), (MISSING, MISSING));
        all_come_back(&forked.writer, 1..=9);
        assert_eq!(landing(&forked.writer, Target::Latest), Ok(9));
        let newest = get_on(&forked.writer.source(), at(9), Some(Timeline(2))).unwrap();
        assert!(newest.0 == forked.writer.image(9), "the newest one can be asked for as well");
    }
}

/// What the newer timeline has does not fill a hole of the older one, nor the other way round.
#[test]
fn one_timeline_does_not_make_up_for_another() {
    let forked = Forked::new(3);
    let objects = |timeline: u32, first: u64| -> Vec<String> {
        let keys = forked.writer.changes();
        let is = |key: &&String| match key.parse() {
            Ok(Name::Change(Change { span, .. })) => {
                span.timeline == Timeline(timeline) && span.first == CommitNo(first)
            }
            _ => false,
        };
        keys.iter().filter(is).cloned().collect()
    };
    let without = |keys: Vec<String>, check: &dyn Fn()| {
        assert!(!keys.is_empty());
        let kept: Vec<_> =
            keys.iter().map(|key| forked.writer.store.objects().remove(key).unwrap()).collect();
        check();
        forked.writer.store.objects().extend(keys.into_iter().zip(kept));
    };
    without(objects(1, 6), &|| {
        assert_eq!([forked.landing(at(6)), forked.landing(at(7))], [GAP, GAP]);
        assert_eq!(forked.landing(Target::Latest), GAP);
        let hint = "the nearest restore point is --commit 5 --timeline 1";
        assert_eq!(error_of(&forked, at(6), 1).hint.as_deref(), Some(hint), "not another 6");
        assert_eq!(landing(&forked.writer, at(6)), Ok(6));
    });
    without(objects(2, 6), &|| {
        assert_eq!(forked.landing(at(6)), Ok(6));
        assert_eq!([landing(&forked.writer, at(6)), landing(&forked.writer, at(5))], [GAP, Ok(5)]);
    });
}

/// A timeline may leave its parent before the parent's own first commit: what the parent went on from
/// counts no further than that.
#[test]
fn a_timeline_that_leaves_its_parent_before_it_began() {
    let mut writer = shipped(4);
    writer.fork(4);
    writer.alone(&Step::fill(3, [1], 40));
    let on_2 = writer.image(5);
    writer.fork_of(Timeline(2), 2);
    check(&writer, &[(Target::Latest, Ok(2)), (at(3), MISSING)]);
    writer.alone(&Step::fill(3, [2], 50));
    check(&writer, &[(Target::Latest, Ok(3)), (at(3), Ok(3)), (at(2), Ok(2)), (at(4), MISSING)]);
    writer.alone(&Step::fill(3, [3], 51)).alone(&Step::fill(3, [1], 52));
    assert_eq!(landing(&writer, Target::Latest), Ok(5));
    all_come_back(&writer, 1..=5);
    assert!(get_on(&writer.source(), Target::Latest, Some(Timeline(2))).unwrap().0 == on_2);
}

/// A timeline's record says which commit it goes on from; the older one does not depend on that.
#[test]
fn a_wrong_record_of_a_newer_timeline_leaves_the_older_one_whole() {
    let forked = Forked::new(3);
    let fork = crate::snapshot::Fork {
        parent: Timeline(1),
        commit: CommitNo(3),
        chain: Chain([9; 32]),
        ..Default::default()
    };
    let body = fork.encode(Timeline(2), forked.writer.size, Time(0));
    forked.writer.store.objects().insert(Name::Timeline(Timeline(2)).to_string(), body);
    assert_eq!(landing(&forked.writer, at(3)), GAP, "the newest timeline says it is another one");
    assert_eq!(forked.landing(at(3)), Ok(3));
    forked.writer.store.objects().remove(&Name::Timeline(Timeline(2)).to_string());
    assert_eq!(landing(&forked.writer, at(3)), GAP);
    assert_eq!([forked.landing(at(3)), forked.landing(at(7))], [Ok(3), Ok(7)]);
}

#[test]
fn what_is_not_there_is_refused_with_what_is() {
    let mut forked = Forked::new(3);
    forked.writer.fork(9);
    assert_eq!(forked.fork, 3);
    let check = |error: Error, status: Status, cause: &str, hint: &str| {
        assert_eq!(error.status, status, "{error}");
        assert!(error.message.ends_with(cause), "{error}");
        assert_eq!(error.hint.as_deref(), Some(hint));
    };
    let hint = "the timelines there are: 1 to 3";
    check(error_of(&forked, at(2), 4), Status::Missing, "there is no timeline 4", hint);
    check(error_of(&forked, Target::Latest, 4), Status::Missing, "there is no timeline 4", hint);
    let cause = "there is no commit 9 on timeline 1, the newest is 7";
    let hint = "the newest timeline has a commit 9: leave out --timeline";
    check(error_of(&forked, at(9), 1), Status::Missing, cause, hint);
    let cause = "there is no commit 11 on timeline 1, the newest is 7";
    let hint = "the nearest restore point is --commit 7 --timeline 1";
    check(error_of(&forked, at(11), 1), Status::Missing, cause, hint);
    forked.writer.fork_of(Timeline(2), 4);
    let error = get(&forked.writer.source(), at(8)).unwrap_err();
    let hint = "an abandoned branch has it: --commit 8 --timeline 2";
    check(error, Status::Missing, "there is no commit 8, the newest is 4", hint);
    assert!(get_on(&forked.writer.source(), at(8), Some(Timeline(2))).is_ok(), "as it says");
    let lost = Name::Timeline(Timeline(2)).to_string();
    forked.writer.store.objects().remove(&lost);
    let error = error_of(&forked, at(8), 2);
    assert_eq!(error.status, Status::Integrity, "it was there: {error}");
}

/// A branch that began with a snapshot which is gone: what came before can be restored, and the hint
/// leads to the branch, not to the newest timeline's commit of that number.
#[test]
fn a_branch_without_its_snapshot_says_what_is_left() {
    let mut writer = shipped(2);
    writer.fork(3);
    let (parent, commit, chain) = (Timeline(1), CommitNo(3), writer.chains[3]);
    let fork = crate::snapshot::Fork { parent, commit, chain, anew: true, ..Default::default() };
    let record = Name::Timeline(Timeline(2)).to_string();
    let body = fork.encode(Timeline(2), writer.size, writer.now);
    writer.store.objects().insert(record, body);
    writer.resync(&Step::fill(3, 1..=3, 8)).alone(&Step::fill(3, [1], 9));
    let old = writer.image(5);
    writer.fork_of(Timeline(1), 3);
    writer.alone(&Step::fill(3, [1], 10)).alone(&Step::fill(3, [2], 11));
    let on_2 = |target| get_on(&writer.source(), target, Some(Timeline(2)));
    assert!(on_2(Target::Latest).unwrap().0 == old);
    let snapshots = || writer.store.objects().keys().filter(|it| it.starts_with("snap")).count();
    assert_eq!(snapshots(), 2);
    writer.store.objects().retain(|key, _| !key.ends_with("-00000002") || key.starts_with("time"));
    assert_eq!(snapshots(), 1);
    let error = on_2(Target::Latest).unwrap_err();
    assert_eq!(error.status, Status::Integrity, "{error}");
    let hint = "what came before it can be restored, up to --commit 3 --timeline 2";
    assert_eq!(error.hint.as_deref(), Some(hint));
    assert_eq!(on_2(at(3)).unwrap().1.number, CommitNo(3));
    all_come_back(&writer, 1..=5);
    // Before the first timeline there is nothing.
    let fork = crate::snapshot::Fork { anew: true, ..Default::default() };
    let record = Name::Timeline(Timeline(1)).to_string();
    let body = fork.encode(Timeline(1), writer.size, writer.now);
    writer.store.objects().insert(record, body);
    writer.store.objects().retain(|key, _| !key.starts_with("snap"));
    let error = get_on(&writer.source(), Target::Latest, Some(Timeline(1))).unwrap_err();
    assert_eq!(error.status, Status::Integrity, "{error}");
    assert!(error.hint.unwrap().contains("bakelite verify"));
}
