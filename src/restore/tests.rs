//! Every restore here is held to the model's own pages, byte for byte.

use super::writer::Sizes;
use super::*;
use crate::backend::mem::Mem;
use crate::change::Point;
use crate::commit::{Chain, PageHash, PageNo, PageSize};
use crate::model::{self, SIZES, Step, Write};
use crate::name::Name;
use crate::snapshot::Manifest;
use quickcheck::{Arbitrary, Gen, QuickCheck};
use std::fs::File;
use std::os::unix::fs::FileExt;

mod branch;
mod damage;
mod delta;
mod files;
mod golden;
mod hints;
mod many;
mod targets;

/// The files of a directory.
fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What a restore writes, without the name, the syncs and the checks that a file gets.
pub(crate) fn get(source: &Arc<dyn Backend>, target: Target) -> Result<(Vec<u8>, Commit)> {
    get_on(source, target, None)
}

fn get_on(
    source: &Arc<dyn Backend>,
    target: Target,
    timeline: Option<Timeline>,
) -> Result<(Vec<u8>, Commit)> {
    let replica = Replica::list(&**source)?;
    let plan = choose(&**source, &replica, target, timeline)?.plan;
    let wanted = Wanted::read(&**source, &plan)?;
    let file = tempfile::tempfile().unwrap();
    Writer::new(&**source, &wanted, &file, &Quiet, &replica).run(&plan)?;
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    Ok((bytes, wanted.commit))
}

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

/// The commit that a target lands on, or the status of its refusal.
fn landing(writer: &model::Writer, target: Target) -> std::result::Result<u64, Status> {
    match get(&writer.source(), target) {
        Ok((bytes, Commit { number, digest, time, .. })) => {
            let truth = &writer.commits[number.0 as usize];
            assert!(bytes == writer.image(number.0), "commit {number} is not what it was");
            assert_eq!((digest, time), (truth.digest, truth.time));
            Ok(number.0)
        }
        Err(error) => Err(error.status),
    }
}

fn at(commit: u64) -> Target {
    Target::Commit(CommitNo(commit))
}

fn check(writer: &model::Writer, table: &[(Target, std::result::Result<u64, Status>)]) {
    for (target, expected) in table {
        assert_eq!(landing(writer, *target), *expected, "{target:?}");
    }
}

/// Every one of these commits comes back.
fn all_come_back(writer: &model::Writer, commits: std::ops::RangeInclusive<u64>) {
    commits.for_each(|commit| assert_eq!(landing(writer, at(commit)), Ok(commit)));
}

/// A writer with a snapshot at commit 1 and `more` commits of three pages, each shipped alone.
fn shipped(more: u32) -> model::Writer {
    let mut writer = model::Writer::new(512);
    writer.alone(&Step::fill(3, 1..=3, 0)).snapshot();
    for n in 1..=more {
        writer.alone(&Step::fill(3, [n % 3 + 1], n));
    }
    writer
}

/// What a daemon does, at random.
#[derive(Clone, Debug)]
enum Event {
    Commit(Step),
    Ship,
    InParts(Step, u8, u8),
    Part(u8),
    Fork,
    Pause(u8),
}

impl Arbitrary for Event {
    fn arbitrary(g: &mut Gen) -> Self {
        match u8::arbitrary(g) % 16 {
            0..7 => Self::Commit(Step::arbitrary(g)),
            7..10 => Self::Ship,
            10 | 11 => Self::InParts(Step::arbitrary(g), u8::arbitrary(g), u8::arbitrary(g)),
            12 | 13 => Self::Part(u8::arbitrary(g)),
            14 => Self::Fork,
            _ => Self::Pause(u8::arbitrary(g)),
        }
    }
}

/// A page of a part that is torn: a commit after the part was read writes it again.
fn torn(page: PageNo, bytes: &mut [u8], rewritten: &Step) {
    if rewritten.writes.contains_key(&page.0) {
        let half = bytes.len() / 2;
        bytes[half..].fill(0xaa);
    }
}

/// Runs the events, with snapshots that roll along; the first commit that can be restored.
fn played(writer: &mut model::Writer, events: &[Event]) -> u64 {
    writer.alone(&Step::fill(4, 1..=4, 77)).snapshot();
    for event in events {
        match event {
            Event::Commit(step) => _ = writer.commit(step),
            Event::Ship => _ = writer.ship(),
            Event::InParts(step, size, turn) => {
                writer.in_parts(step, usize::from(size % 3) + 1, usize::from(*turn));
            }
            Event::Part(pages) => rolled(writer, u32::from(pages % 4) + 1),
            Event::Fork => {
                writer.ship();
                writer.parts.clear();
                writer.fork(writer.last().number.0);
            }
            Event::Pause(seconds) => writer.now.0 += u64::from(*seconds) * 1000,
        }
    }
    writer.ship();
    1
}

/// One more part of a snapshot; pages of it are torn where the commit that follows rewrites them.
/// Once every page is covered, the manifest.
fn rolled(writer: &mut model::Writer, pages: u32) {
    let next = writer.last().number.0 as u32;
    let end = writer.last().pages;
    let rewrite = Step::fill(end, (1..=end).filter(|page| (page + next).is_multiple_of(3)), next);
    writer.part(pages, |page, bytes| torn(page, bytes, &rewrite));
    writer.commit(&rewrite);
    if writer.parts.last().is_some_and(|part| part.range().end > writer.last().pages) {
        writer.ship();
        writer.manifest();
    }
}

#[test]
fn every_commit_comes_back_whatever_was_shipped_how() {
    fn property(size: u8, events: Vec<Event>) -> bool {
        let mut writer = model::Writer::new(SIZES[usize::from(size % 3)]);
        let first = played(&mut writer, &events[..events.len().min(24)]);
        let last = writer.last().number.0;
        (first..=last).all(|commit| landing(&writer, at(commit)) == Ok(commit))
            && landing(&writer, Target::Latest) == Ok(last)
    }
    QuickCheck::new().tests(60).quickcheck(property as fn(u8, Vec<Event>) -> bool);
}

#[test]
fn trap_14_page_sizes_512_to_65536_come_back() {
    for size in SIZES {
        let mut writer = model::Writer::new(size);
        writer.alone(&Step::fill(5, 1..=5, 1)).snapshot();
        writer.commit(&Step::fill(7, [2, 7], 2)).commit(&Step::fill(6, [1], 3)).ship();
        all_come_back(&writer, 1..=3);
    }
}

/// The last version in a transaction wins; here it is one of many, and the others are never stored.
#[test]
fn trap_09_a_page_written_many_times_comes_back_as_it_was_last() {
    let mut writer = model::Writer::new(512);
    writer.alone(&Step::fill(2, 1..=2, 1)).snapshot();
    for n in 0..9 {
        writer.commit(&Step::fill(2, [2], n));
    }
    writer.ship();
    assert_eq!(landing(&writer, Target::Latest), Ok(10));
}

#[test]
fn trap_10_a_restore_lands_between_the_commits_of_one_batch() {
    let mut writer = model::Writer::new(1024);
    writer.alone(&Step::fill(2, 1..=2, 1)).snapshot();
    for n in 0..20 {
        writer.commit(&Step { pages: 2, writes: [(2, Write::Row(n * 10, 7))].into() });
    }
    writer.ship();
    assert_eq!(writer.changes().len(), 2, "one batch");
    all_come_back(&writer, 1..=21);
    let times: Vec<Time> = writer.commits.iter().map(|commit| commit.time).collect();
    for commit in 1..=21 {
        let time = times[commit as usize];
        assert_eq!(landing(&writer, Target::At(time)), Ok(commit));
        assert_eq!(landing(&writer, Target::At(Time(time.0 + 999))), Ok(commit));
    }
}

/// VACUUM, then growth: pages cut off are zeros when the file grows past them again, wherever their
/// old content lies: in the snapshot, in an older change-set, in the same one.
#[test]
fn trap_11_pages_cut_off_never_come_back() {
    let cut = Step::fill(2, [1], 8);
    let grow = Step::fill(9, [9], 9);
    let mut writer = model::Writer::new(512);
    writer.alone(&Step::fill(8, 1..=8, 1)).snapshot();
    writer.alone(&cut).alone(&grow);
    writer.alone(&Step::fill(9, 3..=8, 2)).alone(&cut).alone(&grow);
    writer.commit(&Step::fill(9, 3..=8, 3)).commit(&cut).commit(&grow).ship();
    writer.in_parts(&Step::fill(9, 3..=8, 4), 2, 1).in_parts(&cut, 1, 0).in_parts(&grow, 1, 0);
    assert_eq!(writer.last().number, CommitNo(12));
    assert!(writer.image(12)[3 * 512..8 * 512].iter().all(|&byte| byte == 0));
    all_come_back(&writer, 1..=12);
}

/// A change-set never holds a page past its commit's end, and if one did, it would be passed over.
#[test]
fn trap_12_a_page_past_its_commits_end_is_dropped() {
    let mut sizes = Sizes::default();
    let left_out = |first, number, pages, least| {
        let commit = Commit { number: CommitNo(number), pages, ..crate::capture::origin() };
        Point { first: CommitNo(first), commit, chain: Chain::default(), least }
    };
    let commit = |number, pages| left_out(number, number, pages, pages);
    sizes.prepend(&[commit(5, 9), commit(6, 4), commit(7, 8)]);
    sizes.prepend(&[commit(2, 6), commit(3, 3), commit(4, 7)]);
    for (from, least) in [(8, u32::MAX), (7, 8), (6, 4), (5, 4), (4, 4), (3, 3), (2, 3), (0, 3)] {
        assert_eq!(sizes.least_from(CommitNo(from)), least, "from {from}");
    }
    let mut sizes = Sizes::default();
    sizes.prepend(&[commit(4, 7), left_out(5, 9, 8, 2), commit(10, 9)]);
    for (from, least) in [(10, 9), (9, 8), (8, 2), (5, 2), (4, 2)] {
        assert_eq!(sizes.least_from(CommitNo(from)), least, "from {from}, some left out");
    }
}

/// SQLite does not write a free page that merely lies below a grown end.
#[test]
fn trap_108_a_page_never_written_below_a_grown_end_is_zeros() {
    let mut writer = model::Writer::new(512);
    writer.alone(&Step::fill(2, 1..=2, 1)).snapshot();
    writer.alone(&Step::fill(9, [1, 9], 2)).alone(&Step::fill(9, [4], 3));
    assert!(writer.image(2)[2 * 512..8 * 512].iter().all(|&byte| byte == 0));
    all_come_back(&writer, 1..=3);
}

/// The lock-byte page, which holds the byte at 1 GiB, is in no WAL and no part that was written to.
#[test]
fn trap_17_the_lock_byte_page_is_zero() {
    const LOCK_BYTE: u32 = (1 << 30) / 65536 + 1;
    let source: Arc<dyn Backend> = Arc::new(Mem::new());
    let size = PageSize::new(65536).unwrap();
    let page = |byte: u8| vec![byte; 65536];
    let store = store_sparse(&*source, size, &[(1, page(1)), (LOCK_BYTE + 1, page(2))]);
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("restored.db");
    let options = Options {
        output: &output,
        target: Target::Latest,
        timeline: None,
        check: Check::None,
        force: false,
        dry_run: false,
    };
    assert_eq!(restore(&source, &options, &Quiet).unwrap().digest, store);
    let file = File::open(&output).unwrap();
    let mut found = page(9);
    for (number, byte) in [(1, 1), (LOCK_BYTE - 1, 0), (LOCK_BYTE, 0), (LOCK_BYTE + 1, 2)] {
        file.read_exact_at(&mut found, size.offset(PageNo(number))).unwrap();
        assert!(found == page(byte), "page {number}");
    }
}

/// A replica of one empty snapshot and one commit that writes these pages alone.
fn store_sparse(source: &dyn Backend, size: PageSize, pages: &[(u32, Vec<u8>)]) -> Digest {
    use crate::object::Compression::Zstd;
    let timeline = Timeline(1);
    let fork = crate::snapshot::Fork::default();
    source.put(&Name::Timeline(timeline), &fork.encode(timeline, size, Time(0))).unwrap();
    let first = Commit { number: CommitNo(1), digest: Some(Digest(0)), ..crate::capture::origin() };
    let chain = Chain::default().after(size, &first);
    let manifest = Manifest { commit: first, timeline, page_size: size, chain, parts: Vec::new() };
    source.put(&manifest.name(), &manifest.encode(Zstd)).unwrap();
    let mut digest = Digest(0);
    for (page, bytes) in pages {
        digest.replace(PageHash(0), PageHash::of(PageNo(*page), bytes));
    }
    let end = pages.last().unwrap().0;
    let commit = Commit { number: CommitNo(2), pages: end, digest: Some(digest), ..first };
    let mut builder = crate::change::Builder::new(size, chain);
    builder.commit(commit, pages.iter().map(|(page, bytes)| (PageNo(*page), &bytes[..])));
    let (name, body) = builder.encode(timeline, Zstd);
    source.put(&name, &body).unwrap();
    digest
}

/// A transaction in many parts is there when its last part is, and not before.
#[test]
fn trap_19_a_transaction_in_parts_is_whole_or_not_there() {
    let mut writer = shipped(2);
    let before = writer.changes().len();
    writer.in_parts(&Step::fill(9, 1..=9, 5), 2, 3);
    let parts = writer.changes().split_off(before);
    assert_eq!(parts.len(), 5);
    assert_eq!(landing(&writer, Target::Latest), Ok(4));
    for missing in &parts {
        let body = writer.store.objects().remove(missing).unwrap();
        let unfinished = missing.ends_with('e');
        let latest = if unfinished { Ok(3) } else { Err(Status::Integrity) };
        let exact = if unfinished { Status::Missing } else { Status::Integrity };
        check(&writer, &[(Target::Latest, latest), (at(4), Err(exact)), (at(3), Ok(3))]);
        if !unfinished {
            let error = get(&writer.source(), at(4)).unwrap_err();
            assert!(error.message.contains("lies in a gap"), "seen before it is read: {error}");
        }
        writer.store.objects().insert(missing.clone(), body);
    }
    assert_eq!(landing(&writer, at(4)), Ok(4));
}
