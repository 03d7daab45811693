//! Replicas that lack something, or hold something damaged.

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
