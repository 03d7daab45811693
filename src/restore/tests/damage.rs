//! Targets, timelines and replicas that lack something.

use super::*;
use crate::backend::faulty::{Faulty, Operation};
use crate::backend::sealed::sealed;
use crate::backend::{self, Listing};
use crate::commit::PageNo;
use crate::copies::Copies;
use crate::name::Change;
use crate::name::Name;
use crate::seal::{Key, Keys, Rule};
use std::sync::atomic::{AtomicU32, Ordering};

type Answer<T> = std::result::Result<T, backend::Error>;

const GAP: std::result::Result<u64, Status> = Err(Status::Integrity);
const MISSING: std::result::Result<u64, Status> = Err(Status::Missing);

fn time(writer: &model::Writer, commit: usize, after_ms: i64) -> Target {
    let time = writer.commits[commit].time.0.checked_add_signed(after_ms).unwrap();
    Target::At(Time(time))
}

fn remove(writer: &model::Writer, key: &str) {
    assert!(writer.store.objects().remove(key).is_some(), "{key} was there");
}

fn keys(writer: &model::Writer, prefix: &str) -> Vec<String> {
    let objects = writer.store.objects();
    objects.keys().filter(|key| key.starts_with(prefix)).cloned().collect()
}

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

/// The same commits again in a larger object, in one of another level, and in some that overlap.
#[test]
fn trap_88_duplicate_and_overlapping_ranges_give_the_same_bytes() {
    for ranges in [&[2..=7][..], &[3..=4, 5..=7], &[1..=3, 3..=5, 5..=7], &[2..=4, 4..=7]] {
        for with_inputs in [true, false] {
            let mut writer = shipped(0);
            let steps: Vec<Step> = (2..=7).map(|n| Step::fill(n % 3 + 2, [n % 2 + 1], n)).collect();
            steps.iter().for_each(|step| _ = writer.alone(step));
            let inputs = writer.changes();
            for range in ranges {
                merged(&writer, &steps, *range.start().max(&2), *range.end());
            }
            all_come_back(&writer, 1..=7);
            for input in inputs.iter().skip(1).filter(|_| !with_inputs) {
                let Ok(Name::Change(change)) = input.parse() else { unreachable!() };
                let first = change.span.first.0;
                if ranges.iter().any(|range| range.contains(&first)) {
                    writer.store.objects().remove(input);
                }
            }
            all_come_back(&writer, 1..=7);
            assert_eq!(landing(&writer, Target::Latest), Ok(7));
        }
    }
}

/// Stores the commits from `first` to `last` as one object of level 1.
fn merged(writer: &model::Writer, steps: &[Step], first: u64, last: u64) {
    let mut builder = crate::change::Builder::new(writer.size, writer.chains[first as usize - 1]);
    for number in first..=last {
        let state = &writer.states[number as usize];
        let pages = steps[number as usize - 2].writes.keys();
        let pages = pages.map(|&page| (PageNo(page), &state[page as usize - 1][..]));
        builder.commit(writer.commits[number as usize], pages);
    }
    let (_, body) = builder.encode_at(1, writer.timeline, crate::object::Compression::Zstd);
    let span = builder.span(writer.timeline);
    let name = Name::Change(Change { level: 1, span, part: 0, end: true });
    writer.source().put(&name, &body).unwrap();
}

#[test]
fn trap_86_foreign_objects_are_ignored() {
    let writer = shipped(3);
    for key in ["change/0/.tmp-1", "change/README", "timeline/x", "snapshot/", "tip", "part/0"] {
        writer.store.objects().insert(key.into(), b"what".to_vec());
    }
    check(&writer, &[(Target::Latest, Ok(4)), (at(1), Ok(1)), (at(3), Ok(3))]);
}

/// A sound object of another replica, under the name of one of ours.
#[test]
fn an_object_of_another_replica_is_refused() {
    let ours = shipped(4);
    let mut other = model::Writer::new(512);
    other.alone(&Step::fill(3, 1..=3, 90)).snapshot();
    for n in 1..=4 {
        other.alone(&Step::fill(3, [n % 3 + 1], n));
    }
    for (key, body) in other.store.objects().iter() {
        let Some(own) = ours.store.objects().insert(key.clone(), body.clone()) else { continue };
        let same = own == *body;
        let Ok(name) = key.parse::<Name>() else { unreachable!() };
        let found = landing_status(&ours);
        let needed = matches!(name, Name::Snapshot(_)) || name.kind() == "change";
        let first = key == &ours.changes()[0];
        assert_eq!(found.is_err(), needed && !same && !first, "{key}: {found:?}");
        ours.store.objects().insert(key.clone(), own);
    }
}

fn landing_status(writer: &model::Writer) -> std::result::Result<u64, Status> {
    get(&writer.source(), Target::Latest).map(|(_, c)| c.number.0).map_err(|error| error.status)
}

/// Every object that a restore reads, lost, emptied, cut short, or with any byte flipped, is an
/// error; and no error leaves wrong bytes.
#[test]
fn a_damaged_object_is_named() {
    let mut writer = shipped(2);
    writer.fork(3);
    writer.in_parts(&Step::fill(6, 1..=6, 9), 2, 1);
    let prefixes = [Name::TIMELINES, Name::SNAPSHOTS, Name::PARTS, Name::CHANGES];
    let all: Vec<String> = prefixes.iter().flat_map(|prefix| keys(&writer, prefix)).collect();
    let unneeded = writer.changes().remove(0);
    for key in all {
        let whole = writer.store.objects().remove(&key).unwrap();
        let middle = whole.len() / 2;
        let flipped = |at: usize| {
            let mut body = whole.clone();
            body[at] ^= 4;
            body
        };
        let bodies = [Vec::new(), whole[..middle].into(), flipped(middle), flipped(150)];
        let needed = key != unneeded;
        for body in bodies {
            writer.store.objects().insert(key.clone(), body);
            let Err(error) = get(&writer.source(), Target::Latest) else {
                assert!(!needed, "{key} was needed");
                continue;
            };
            assert_eq!(error.status, Status::Integrity, "{error}");
            assert!(error.message.contains(&key), "{error} names {key}");
        }
        writer.store.objects().insert(key, whole);
    }
    assert_eq!(landing(&writer, Target::Latest), Ok(4));
}

/// A snapshot at commit 1 and one at commit 4, and the objects of the second alone.
fn two_snapshots() -> (model::Writer, Vec<String>) {
    let mut writer = shipped(2);
    let before = writer.store.objects().clone();
    writer.alone(&Step::fill(7, 1..=7, 9)).snapshot().alone(&Step::fill(7, [2], 10));
    let all = [keys(&writer, Name::SNAPSHOTS), keys(&writer, Name::PARTS)].concat();
    let second: Vec<_> = all.into_iter().filter(|key| !before.contains_key(key)).collect();
    assert_eq!(second.len(), 4, "three parts and the manifest: {second:?}");
    (writer, second)
}

/// What `bakelite restore` would say.
fn reported(writer: &model::Writer, target: Target) -> Result<Report> {
    reported_from(writer, &writer.source(), target)
}

fn reported_from(
    writer: &model::Writer,
    source: &Arc<dyn Backend>,
    target: Target,
) -> Result<Report> {
    checked_from(writer, source, target, Check::None)
}

fn checked_from(
    writer: &model::Writer,
    source: &Arc<dyn Backend>,
    target: Target,
    check: Check,
) -> Result<Report> {
    let dir = tempfile::tempdir().unwrap();
    let output = &dir.path().join("app.db");
    let options = Options { output, target, timeline: None, check, force: false, dry_run: false };
    let report = restore(source, &options, &Quiet)?;
    assert!(std::fs::read(output).unwrap() == writer.image(report.commit.0));
    Ok(report)
}

/// A part of a snapshot was wiped, and every commit that it was the nearest snapshot of was refused, though an
/// older one leads there (torture `snapshots`, seed 726355187).
#[test]
fn an_older_snapshot_stands_in_for_one_that_is_damaged() {
    let (writer, second) = two_snapshots();
    let manifest = second.iter().find(|key| key.starts_with(Name::SNAPSHOTS)).unwrap();
    assert_eq!(reported(&writer, Target::Latest).unwrap().passed_over, []);
    for key in &second {
        let whole = writer.store.objects().remove(key).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 4;
        for body in [None, Some(Vec::new()), Some(flipped)] {
            let listed = body.is_some() || key != manifest;
            body.map(|body| writer.store.objects().insert(key.clone(), body));
            for (target, commit) in [(Target::Latest, 5), (at(4), 4), (at(3), 3)] {
                let report = reported(&writer, target).unwrap();
                assert_eq!(report.commit.0, commit);
                let told = report.passed_over;
                assert_eq!(told.len(), usize::from(listed && commit > 3), "{key} {target:?}");
                for PassedOver { object, why } in told {
                    assert_eq!(object.to_string(), *manifest);
                    assert!(why.contains(key.as_str()), "{why}");
                }
            }
        }
        writer.store.objects().insert(key.clone(), whole);
    }
}

/// One that is sealed cannot be opened, and of the error nobody knew which object it was about.
#[test]
fn an_older_snapshot_stands_in_for_one_that_is_sealed_and_damaged() {
    let (writer, second) = two_snapshots();
    let key = Key::new(&zeroize::Zeroizing::new([7; 32]));
    let keys = Arc::new(Keys { all: vec![key], rule: Rule::Auto });
    let mem = Arc::new(Mem::new());
    let source = sealed(Arc::clone(&mem) as Arc<dyn Backend>, &keys);
    for (key, body) in writer.store.objects().iter() {
        source.put(&key.parse().unwrap(), body).unwrap();
    }
    for key in &second {
        let whole = mem.objects()[key].clone();
        mem.objects().get_mut(key).unwrap()[whole.len() / 2] ^= 4;
        let report = reported_from(&writer, &source, Target::Latest).unwrap();
        assert_eq!((report.commit.0, report.passed_over.len()), (5, 1), "{key}");
        mem.objects().insert(key.clone(), whole);
    }
}

/// What somebody does to some objects beside a restore: they are not there yet in the first listings, and go just
/// before one of them is read.
struct Beside {
    inner: Arc<dyn Backend>,
    unseen: AtomicU32,
    late: Vec<Name>,
    gone: Vec<Name>,
}

impl Beside {
    fn source(
        writer: &model::Writer,
        unseen: u32,
        late: &[Name],
        gone: &[Name],
    ) -> Arc<dyn Backend> {
        let (late, gone) = (late.to_vec(), gone.to_vec());
        Arc::new(Self { inner: writer.source(), unseen: unseen.into(), late, gone })
    }
}

impl std::fmt::Display for Beside {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

impl Backend for Beside {
    fn put(&self, name: &Name, body: &[u8]) -> Answer<()> {
        self.inner.put(name, body)
    }

    fn replace(&self, name: &Name, body: &[u8]) -> Answer<()> {
        self.inner.replace(name, body)
    }

    fn renew(&self, name: &Name) -> Answer<()> {
        self.inner.renew(name)
    }

    fn get(&self, name: &Name) -> Answer<Vec<u8>> {
        if self.gone.contains(name) {
            self.gone.iter().try_for_each(|name| self.inner.delete(name))?;
        }
        self.inner.get(name)
    }

    fn list(&self, prefix: &str, after: Option<&Name>) -> Answer<Listing> {
        let mut listing = self.inner.list(prefix, after)?;
        let shown = listing.entries.len();
        let unseen = self.unseen.load(Ordering::Relaxed);
        if unseen > 0 {
            listing.entries.retain(|entry| !self.late.contains(&entry.name));
            let hid = u32::from(listing.entries.len() < shown);
            self.unseen.store(unseen - hid, Ordering::Relaxed);
        }
        Ok(listing)
    }

    fn delete(&self, name: &Name) -> Answer<()> {
        self.inner.delete(name)
    }
}

/// Of snapshots that stand close, upkeep removes some: that is no damage, and nothing is told of it.
#[test]
fn trap_89_a_snapshot_that_upkeep_has_removed_meanwhile_is_no_damage() {
    let (writer, second) = two_snapshots();
    let gone: Vec<_> = second.iter().map(|key| key.parse().unwrap()).collect();
    let source = Beside::source(&writer, 0, &[], &gone);
    assert_eq!(reported_from(&writer, &source, Target::Latest).unwrap().passed_over, []);
    assert!(second.iter().all(|key| !writer.store.objects().contains_key(key)));
}

/// Upkeep merges while an older snapshot stands in: the damaged one is passed over once, and no more.
#[test]
fn trap_89_a_change_set_that_upkeep_has_removed_meanwhile_is_no_damage() {
    let mut writer = shipped(0);
    let steps: Vec<Step> = (2..=4).map(|n| Step::fill(4, 1..=4, n)).collect();
    steps.iter().for_each(|step| _ = writer.alone(step));
    let (parts, inputs) = (keys(&writer, Name::PARTS), writer.changes());
    writer.snapshot();
    merged(&writer, &steps, 2, 4);
    let mut part = keys(&writer, Name::PARTS);
    part.retain(|key| !parts.contains(key));
    remove(&writer, &part[0]);
    let merged: Vec<_> = writer.changes().into_iter().filter(|it| !inputs.contains(it)).collect();
    let gone: Vec<_> = merged.iter().map(|key| key.parse().unwrap()).collect();
    let source = Beside::source(&writer, 0, &[], &gone);
    let report = reported_from(&writer, &source, Target::Latest).unwrap();
    assert_eq!((report.commit.0, report.passed_over.len()), (4, 1));
    assert_eq!(writer.changes(), inputs, "it was read, and went");
}

/// A listing is not made at one moment: read beside a merge, it may show a gap that there never was.
#[test]
fn trap_89_a_gap_that_the_next_listing_does_not_show_is_none() {
    let writer = shipped(4);
    let late: Vec<_> = writer.changes().iter().map(|key| key.parse().unwrap()).collect();
    for (unseen, came) in [(1, true), (100, false)] {
        let source = Beside::source(&writer, unseen, &late[2..3], &[]);
        let report = reported_from(&writer, &source, at(4));
        match (came, report) {
            (true, Ok(report)) => assert_eq!(report.passed_over, []),
            (false, Err(error)) => assert_eq!(error.kind(), "gap"),
            (_, report) => panic!("{unseen}: {report:?}"),
        }
    }
}

/// With a daemon that ships meanwhile, each listing differs from the one before: a database that is wrong itself
/// was restored in full as often as a restore may plan anew.
#[test]
fn what_no_listing_can_mend_is_restored_once() {
    let stray = Name::Part(crate::name::Part { page: PageNo(1000), hash: 7 });
    let wrong_pages = shipped(2);
    let key = keys(&wrong_pages, Name::PARTS).remove(0);
    let body = other_pages(&wrong_pages);
    wrong_pages.store.objects().insert(key, body);
    let no_database = shipped(2);
    for (writer, asked) in [(wrong_pages, Check::None), (no_database, Check::Full)] {
        writer.store.put(&stray, b"").unwrap();
        let gets = |unseen| {
            let late = Beside::source(&writer, unseen, std::slice::from_ref(&stray), &[]);
            let counted = Arc::new(Faulty::new(late));
            let source = counted.clone() as Arc<dyn Backend>;
            let error = checked_from(&writer, &source, Target::Latest, asked).unwrap_err();
            assert_eq!(error.status, Status::Integrity, "{error}");
            counted.calls(Operation::Get)
        };
        assert_eq!(gets(1), gets(0), "{asked:?}");
    }
}

/// Several destinations were listed once: what upkeep had removed from all of them was told as missing, and a gap
/// in those listings was one for good.
#[test]
fn trap_89_what_upkeep_does_on_all_destinations_meanwhile_is_no_damage() {
    let (writer, second) = two_snapshots();
    let gone: Vec<_> = second.iter().map(|key| key.parse().unwrap()).collect();
    let late: Vec<_> = writer.changes().iter().map(|key| key.parse().unwrap()).collect();
    for (unseen, late, gone) in [(1, &late[2..3], &[][..]), (0, &[], &gone)] {
        let mut other = model::Writer::new(512);
        other.store = Arc::new(Mem::new());
        other.store.objects().clone_from(&writer.store.objects());
        let both = [&writer, &other].map(|it| Ok(Beside::source(it, unseen, late, gone)));
        let copies = Arc::new(Copies::open(both.into()).unwrap());
        let source = Arc::clone(&copies) as Arc<dyn Backend>;
        assert_eq!(reported_from(&writer, &source, at(3)).unwrap().commit.0, 3);
        let report = reported_from(&writer, &source, Target::Latest).unwrap();
        assert_eq!((report.commit.0, report.passed_over, copies.fallbacks()), (5, vec![], vec![]));
    }
}

/// With locks, or keys that may not delete, what a change-set was merged from stays: it leads there as well.
#[test]
fn what_a_damaged_change_set_was_merged_from_stands_in_for_it() {
    for with_inputs in [true, false] {
        let mut writer = shipped(0);
        let steps: Vec<Step> = (2..=7).map(|n| Step::fill(4, 1..=4, n)).collect();
        steps.iter().for_each(|step| _ = writer.alone(step));
        let inputs = writer.changes();
        merged(&writer, &steps, 3, 6);
        let whole = writer.changes();
        let merged = whole.iter().find(|key| !inputs.contains(key)).unwrap();
        let flipped = |body: &mut Vec<u8>| body[40] ^= 1;
        writer.store.objects().get_mut(merged).map(flipped).unwrap();
        if !with_inputs {
            remove(&writer, &inputs[3]);
        }
        // Which commit is meant by a time within it is known only once it is read.
        let within = (time(&writer, 5, 500), 5);
        for (target, commit) in [(at(3), 3), (at(6), 6), (at(7), 7), within] {
            let report = reported(&writer, target);
            match (with_inputs || commit == 3, report) {
                (true, Ok(report)) => {
                    assert_eq!(report.commit.0, commit);
                    let told: Vec<_> =
                        report.passed_over.iter().map(|it| it.object.to_string()).collect();
                    assert_eq!(told, vec![merged.clone(); usize::from(commit > 3)]);
                }
                (false, Err(error)) => {
                    assert!(error.message.contains(merged.as_str()), "{error}");
                    let nearest = "the nearest restore point is --commit 3";
                    let hint = if commit == 5 { crate::replica::REPAIR } else { nearest };
                    assert_eq!(error.hint.as_deref(), Some(hint));
                }
                (_, report) => panic!("{with_inputs} {target:?}: {report:?}"),
            }
        }
        let nearest = reported(&writer, at(3)).unwrap();
        assert_eq!(nearest.commit.0, 3);
    }
}

/// Whether a timeline's first snapshot was finished is told by its newest change-set: if not by that, by the one that
/// stands for it.
#[test]
fn a_damaged_change_set_of_a_snapshot_that_was_never_finished_is_no_matter() {
    let mut writer = shipped(2);
    writer.fork(3);
    let (parent, commit, chain) = (Timeline(1), CommitNo(3), writer.chains[3]);
    let fork = crate::snapshot::Fork { parent, commit, chain, anew: true, ..Default::default() };
    let body = fork.encode(Timeline(2), writer.size, writer.now);
    writer.store.objects().insert(Name::Timeline(Timeline(2)).to_string(), body);
    let damaged = undated(&writer, 0, 5..=5);
    writer.store.objects().get_mut(&damaged).unwrap()[40] ^= 1;
    let error = reported(&writer, Target::Latest).unwrap_err();
    assert!(error.message.contains(&damaged), "{error}");
    undated(&writer, 1, 4..=5);
    let report = reported(&writer, Target::Latest).unwrap();
    assert_eq!(report.commit.0, 3);
    let told: Vec<_> = report.passed_over.iter().map(|it| it.object.to_string()).collect();
    assert_eq!(told, [damaged]);
}

/// Stores commits that no digest is known of.
fn undated(writer: &model::Writer, level: u8, commits: std::ops::RangeInclusive<u64>) -> String {
    let mut builder = crate::change::Builder::new(writer.size, Chain::default());
    for number in commits.map(CommitNo) {
        let commit = Commit { number, digest: None, ..*writer.last() };
        builder.commit(commit, std::iter::empty());
    }
    let compression = crate::object::Compression::Zstd;
    let (name, body) = builder.encode_at(level, writer.timeline, compression);
    writer.store.put(&name, &body).unwrap();
    name.to_string()
}

/// The hint named the commit that had just been refused.
#[test]
fn what_is_named_as_nearest_can_be_restored() {
    let (writer, second) = two_snapshots();
    let part = second.iter().find(|key| key.starts_with(Name::PARTS)).unwrap();
    remove(&writer, part);
    let fourth = writer.changes().into_iter().rev().nth(1).unwrap();
    remove(&writer, &fourth);
    let error = reported(&writer, Target::Latest).unwrap_err();
    assert!(error.status == Status::Integrity && error.message.contains(part.as_str()), "{error}");
    assert_eq!(error.hint.unwrap(), "the nearest restore point is --commit 3");
    assert_eq!(reported(&writer, at(3)).unwrap().commit.0, 3);
    // With nothing else to begin with, nothing can be restored.
    let first = keys(&writer, Name::SNAPSHOTS).remove(0);
    remove(&writer, &first);
    let error = reported(&writer, Target::Latest).unwrap_err();
    assert!(error.message.contains(part.as_str()), "{error}");
    assert_eq!(error.hint.unwrap(), "run `bakelite verify` to see what is missing");
}

/// Found by trying it: the hint was to start the daemon, as where a first snapshot was never finished.
#[test]
fn a_replica_whose_only_snapshot_is_damaged_is_to_be_repaired() {
    let mut writer = model::Writer::new(512);
    writer.alone(&Step::fill(4, 1..=4, 1)).snapshot();
    writer.changes().iter().for_each(|key| remove(&writer, key));
    let snapshot = keys(&writer, Name::SNAPSHOTS).remove(0);
    let whole = writer.store.objects()[&snapshot].clone();
    writer.store.objects().get_mut(&snapshot).unwrap()[40] ^= 1;
    let error = reported(&writer, Target::Latest).unwrap_err();
    assert!(error.message.ends_with("its hash is wrong"), "{error}");
    assert!(error.hint.unwrap().starts_with("run: bakelite repair"));
    writer.store.objects().insert(snapshot, whole);
    let part = keys(&writer, Name::PARTS).remove(0);
    remove(&writer, &part);
    let error = reported(&writer, Target::Latest).unwrap_err();
    assert!(error.message.ends_with("this object is missing"), "{error}");
    assert!(error.hint.unwrap().starts_with("run: bakelite repair"));
}

/// A part that is known to be bad is not asked for again: a manifest tells that it is needed.
#[test]
fn snapshots_that_share_a_bad_part_are_passed_over_by_their_manifests() {
    let mut writer = shipped(0);
    let fifth = |n| Step::fill(6, [5], n);
    writer.alone(&Step::fill(6, 4..=6, 7)).snapshot();
    writer.alone(&Step::fill(6, [1], 8)).snapshot().alone(&fifth(9));
    let shared = keys(&writer, Name::PARTS).pop().unwrap();
    remove(&writer, &shared);
    let told = reported(&writer, Target::Latest).unwrap().passed_over;
    let why: Vec<_> = told.iter().map(|it| it.why.rsplit(": ").next().unwrap()).collect();
    assert_eq!(why, ["this object is missing", "it is damaged"], "{told:?}");
    assert!(told.iter().all(|it| it.why.contains(&shared)));
}

/// A part that did not change is the same in all snapshots.
#[test]
fn without_a_part_of_every_snapshot_nothing_is_promised() {
    let mut writer = shipped(0);
    writer.alone(&Step::fill(6, 4..=6, 7)).snapshot().alone(&Step::fill(6, [5], 8)).snapshot();
    writer.alone(&Step::fill(6, [5], 9));
    assert_eq!(keys(&writer, Name::SNAPSHOTS).len(), 3);
    let shared = keys(&writer, Name::PARTS).remove(0);
    remove(&writer, &shared);
    let error = reported(&writer, Target::Latest).unwrap_err();
    assert!(error.message.contains(&shared), "{error}");
    assert_eq!(error.hint.unwrap(), "run `bakelite verify` to see what is missing");
}

/// Whatever a part's name and checksums say, the digest of the commit is what counts.
#[test]
fn pages_that_do_not_give_the_digest_are_refused() {
    let writer = shipped(0);
    let key = keys(&writer, Name::PARTS).remove(0);
    let body = other_pages(&writer);
    writer.store.objects().insert(key, body);
    let error = get(&writer.source(), Target::Latest).unwrap_err();
    assert_eq!(error.status, Status::Integrity);
    assert!(error.message.contains("restored with digest"), "{error}");
}

/// A sound part under the first one's name, of pages that are not the first commit's.
fn other_pages(writer: &model::Writer) -> Vec<u8> {
    let Ok(Name::Part(part)) = keys(writer, Name::PARTS)[0].parse() else { unreachable!() };
    let mut pages = writer.image(1);
    pages.iter_mut().step_by(700).for_each(|byte| *byte ^= 1);
    let compression = crate::object::Compression::Zstd;
    crate::snapshot::encode_part(part, None, writer.size, &pages, compression)
}

/// A snapshot was finished, since commits have a digest, and is gone: that was told as a replica that had
/// only begun, and an application was started on an empty database.
#[test]
fn without_its_only_snapshot_a_replica_is_damaged_and_not_empty() {
    let mut writer = shipped(3);
    remove(&writer, &keys(&writer, Name::SNAPSHOTS)[0]);
    assert_eq!(landing(&writer, Target::Latest), GAP);
    writer.fork(3);
    assert_eq!(landing(&writer, Target::Latest), GAP, "a later timeline, that holds nothing yet");
    writer.alone(&Step::fill(3, [1], 7));
    assert_eq!(landing(&writer, Target::Latest), GAP);
    assert_eq!(landing(&writer, at(2)), GAP);
}
