//! Held to a model that keeps every page of every commit.

use super::*;
use crate::backend::Backend;
use crate::commit::Digest;
use crate::model::{SIZES, Step, Write, Writer};
use quickcheck::QuickCheck;
use std::collections::BTreeMap;

/// The one change-set that these transactions give, and the model.
fn change_set(size: u32, steps: &[Step]) -> (Writer, ChangeSet) {
    let mut writer = Writer::new(size);
    for step in steps {
        writer.commit(step);
    }
    writer.ship();
    let set = open(&writer, &writer.changes()[0]).unwrap();
    (writer, set)
}

fn open(writer: &Writer, key: &str) -> Result<ChangeSet, Damage> {
    let Ok(Name::Change(change)) = key.parse() else { panic!("{key} names a change-set") };
    ChangeSet::open(&change, writer.store.get(&Name::Change(change)).unwrap())
}

fn pages_at(set: &ChangeSet, target: u64) -> BTreeMap<u32, (usize, Vec<u8>)> {
    let mut pages = BTreeMap::new();
    set.pages_at(CommitNo(target), |page, place, bytes| {
        let twice = pages.insert(page.0, (place, bytes.to_vec()));
        assert!(twice.is_none(), "page {} came twice", page.0);
        Ok::<(), Damage>(())
    })
    .unwrap();
    pages
}

/// What the model says of the pages written up to a commit: by which one last, and its bytes then.
fn expected(writer: &Writer, steps: &[Step], target: usize) -> BTreeMap<u32, (usize, Vec<u8>)> {
    let mut pages = BTreeMap::new();
    for (place, step) in steps[..target].iter().enumerate() {
        for &page in step.writes.keys() {
            let bytes = writer.states[place + 1][page as usize - 1].clone();
            pages.insert(page, (place, bytes));
        }
    }
    pages
}

fn agrees(size: u32, steps: &[Step]) -> bool {
    let (writer, set) = change_set(size, steps);
    assert_eq!(set.commits, writer.commits[1..]);
    (0..=steps.len() + 1).all(|target| {
        let upto = target.min(steps.len());
        pages_at(&set, target as u64) == expected(&writer, steps, upto)
    })
}

#[test]
fn every_commit_of_a_change_set_comes_back() {
    fn property(size: u8, steps: Vec<Step>) -> bool {
        let steps = &steps[..steps.len().min(24)];
        steps.is_empty() || agrees(SIZES[usize::from(size % 4)], steps)
    }
    QuickCheck::new().tests(200).quickcheck(property as fn(u8, Vec<Step>) -> bool);
}

#[test]
fn trap_14_page_sizes_512_to_65536_in_a_change_set() {
    let row = |page, at| Step { pages: 3, writes: [(page, Write::Row(at, 9))].into() };
    for size in SIZES {
        let ends = [0, 1, size - 1, size - 5, size / 2].map(|at| at as u16);
        let mut steps = vec![Step::fill(3, 1..=3, 1), Step::fill(3, 1..=3, 2)];
        steps.extend(ends.iter().map(|&at| row(2, at)));
        steps.push(Step { pages: 3, writes: [(1, Write::Zero)].into() });
        assert!(agrees(size, &steps), "page size {size}");
    }
}

/// A batch holds many versions of one page, and a restore may stop at any of them.
#[test]
fn trap_10_the_same_page_in_many_commits_of_a_batch() {
    let counter =
        |n| Step { pages: 2, writes: [(1, Write::Row(24, n)), (2, Write::Row(9, n))].into() };
    let steps: Vec<Step> = (1..=60).map(counter).collect();
    assert!(agrees(4096, &steps));
    let (writer, _) = change_set(4096, &steps);
    let key = writer.changes().remove(0);
    let bytes = writer.store.objects()[&key].len();
    assert!(bytes < 60 * 150, "forty versions of a page cost their changed bytes: {bytes}");
}

#[test]
fn the_undo_patches_go_on_over_many_blocks() {
    let steps: Vec<Step> = (0..60).map(|n| Step::fill(1, [1], n)).collect();
    assert!(agrees(65536, &steps));
}

/// A larger one costs memory in every writer and reader.
#[test]
fn no_block_of_a_change_set_is_larger_than_256_kib() {
    let steps = [1, 2].map(|n| Step::fill(1100, 1..=1100, n));
    let (_, set) = change_set(512, &steps);
    let blocks: Vec<_> = (0..set.object.count()).map(|at| set.object.block_bytes(at)).collect();
    assert!(blocks.iter().all(|bytes| *bytes <= BLOCK_BYTES), "{blocks:?}");
    assert_eq!(set.page_blocks(), Ok(3));
}

/// Blocks that end within a page are refused: no large transaction came back.
#[test]
fn a_part_of_many_blocks_comes_back_at_every_page_size() {
    for size in SIZES {
        let header = Header {
            page_size: PageSize::new(size).unwrap(),
            parent: Chain::default(),
            chain: Chain::default(),
        };
        let count = 2 * BLOCK_BYTES as u32 / size + 1;
        let pages: Vec<PageNo> = (1..=count).map(PageNo).collect();
        let contents: Vec<u8> = (1..=count).flat_map(|n| vec![n as u8; size as usize]).collect();
        let change = a_change(false);
        let body = encode_part(change, &header, None, &pages, &contents, Compression::Zstd);
        let set = ChangeSet::open(&change, body).unwrap();
        let found = pages_at(&set, 1).into_values().flat_map(|(_, bytes)| bytes);
        assert!(found.eq(contents), "page size {size}");
        assert!((0..4).all(|at| set.object.block_bytes(at) <= BLOCK_BYTES));
    }
}

/// A commit's record takes more room in the table than a byte changed does among the patches.
#[test]
fn a_change_set_of_tiny_commits_gets_full_before_its_object_does() {
    let size = PageSize::new(512).unwrap();
    let mut builder = Builder::new(size, Chain::default());
    let mut page = vec![0; 512];
    let digest = Some(Digest(1));
    let mut number = CommitNo(0);
    while !builder.is_full() {
        number = number.next();
        page[100] ^= 1;
        let commit = Commit { number, time: Time(1), pages: 1, digest, resync: false };
        builder.commit(commit, [(PageNo(1), &page[..])]);
    }
    let (name, body) = builder.encode(Timeline(1), Compression::None);
    let Name::Change(change) = name else { unreachable!() };
    assert!(body.len() < 2 * SOFT_BYTES, "{} bytes, {number} commits", body.len());
    assert_eq!(ChangeSet::open(&change, body).unwrap().commits.len() as u64, number.0);
}

/// What is merged into one is stopped by that, and an object too large is not stored at all.
#[test]
fn a_builder_knows_how_large_its_object_is() {
    let mut builder = Builder::new(PageSize::new(512).unwrap(), Chain::default());
    for (first, last) in [(1, 2), (3, 3), (4, 5)] {
        let (number, digest) = (CommitNo(last), Some(Digest(1)));
        let commit = Commit { number, time: Time(1), pages: 3, digest, resync: false };
        let chain = Chain([last as u8; 32]);
        let page = [last as u8; 512];
        let pages = (1..=3).map(|number| (PageNo(number), &page[..]));
        builder.point(Point { first: CommitNo(first), commit, chain, least: 1 }, pages);
    }
    assert_eq!(builder.chain(), Chain([5; 32]));
    let (name, body) = builder.encode(Timeline(1), Compression::None);
    let Name::Change(change) = &name else { unreachable!() };
    let set = ChangeSet::open(change, body.clone()).unwrap();
    assert_eq!(set.plain_bytes(), builder.plain_bytes() + 12, "but for three counts");
    let around = 128 + name.to_string().len() + 8 * set.object.count() + 40;
    assert_eq!(set.plain_bytes() + around, body.len());
}

/// Encodes a table of one part as given, with whatever lies in it, under correct checksums.
fn forged(change: Change, table: &[u8], blocks: &[Vec<u8>]) -> Result<ChangeSet, Damage> {
    forged_to(Chain::default(), change, table, blocks)
}

fn forged_to(
    chain: Chain,
    change: Change,
    table: &[u8],
    blocks: &[Vec<u8>],
) -> Result<ChangeSet, Damage> {
    let page_size = PageSize::new(512).unwrap();
    let header = Header { page_size, parent: Chain::default(), chain };
    let mut encoder = Encoder::new(&Name::Change(change), &header, Compression::Zstd);
    blocks.iter().for_each(|block| encoder.block(block));
    encoder.block(table);
    ChangeSet::open(&change, encoder.finish())
}

fn a_change(end: bool) -> Change {
    let (first, last) = (CommitNo(1), CommitNo(1));
    Change {
        level: 0,
        span: Span { first, last, time: Time(1), timeline: Timeline(1) },
        part: 0,
        end,
    }
}

/// Words of a table, mostly small: what a count, a page or a place could be.
fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[test]
fn a_table_that_lies_is_refused_without_panic() {
    fn property(table: Vec<u8>, small: Vec<u8>, blocks: Vec<Vec<u8>>) -> bool {
        let small: Vec<u32> = small.into_iter().map(|byte| u32::from(byte % 5)).collect();
        for table in [table, words(&small)] {
            for end in [false, true] {
                if let Ok(set) = forged(a_change(end), &table, &blocks) {
                    let _ = set.pages_at(CommitNo(0), |_, _, _| Ok::<(), Damage>(()));
                    let _ = set.pages_at(CommitNo(1), |_, _, _| Ok::<(), Damage>(()));
                }
            }
        }
        true
    }
    QuickCheck::new()
        .tests(2000)
        .quickcheck(property as fn(Vec<u8>, Vec<u8>, Vec<Vec<u8>>) -> bool);
}

#[test]
fn what_a_table_may_not_say() {
    let refused = |table: &[u32], why| {
        let found = forged(a_change(false), &words(table), &[]).unwrap_err();
        assert_eq!(found, Damage::BadTable(why), "{table:?}");
    };
    refused(&[u32::MAX], "a count past its end");
    refused(&[2, 7, 7, 1, 0, 0], "pages out of order");
    refused(&[2, 8, 7, 1, 0, 0], "pages out of order");
    refused(&[1, 0, 1, 0, 0], "pages out of order");
    refused(&[1, 7, 1, 1, 1, 0], "a page that is not there");
    refused(&[1, 7, u32::MAX], "a count past its end");
    refused(&[1, 7, 1, u32::MAX], "a count past its end");
    refused(&[1, 7, 1, 0, u32::MAX], "a count past its end");
    refused(&[1, 7, 2, 0, 0, 0], "a commit before the last part");
    refused(&[1, 7, 1, 0, 0, 9], "bytes after its end");
    assert!(forged(a_change(false), &words(&[1, 7, 1, 1, 0, 0]), &[]).is_ok());
}

/// A restore is planned by names: what they say has to be in there, even where the chain fits.
#[test]
fn other_commits_than_the_name_says_are_refused_under_their_right_chain() {
    let commit = |(number, time)| Commit {
        number: CommitNo(number),
        time: Time(time),
        pages: 1,
        digest: Some(Digest(3)),
        resync: false,
    };
    let refused = Some(Damage::BadTable("commits other than its name says"));
    for (first, last, commits, found) in [
        (1, 1, &[(1, 1)][..], None),
        (1, 2, &[(1, 1), (2, 1)], None),
        (1, 1, &[(1, 1), (1, 1)], refused),
        (2, 2, &[(1, 1), (2, 1)], refused),
        (1, 1, &[(1, 2)], refused),
        (1, 1, &[(2, 1)], refused),
    ] {
        let all: Vec<Commit> = commits.iter().copied().map(commit).collect();
        let after = |chain: Chain, it: &Commit| chain.after(PageSize::new(512).unwrap(), it);
        let chain = all.iter().fold(Chain::default(), after);
        let mut change = a_change(true);
        (change.span.first, change.span.last) = (CommitNo(first), CommitNo(last));
        let table = put_table(&all, &[], &vec![0; all.len()], &[]);
        let set = forged_to(chain, change, &table, &[]);
        assert_eq!(set.as_ref().err(), found.as_ref(), "{first}: {commits:?}");
        if let Ok(set) = set {
            let ends = [first, last + 1].map(|number| set.chain_before(CommitNo(number)));
            assert_eq!(ends, [Some(Chain::default()), Some(chain)]);
        }
    }
}

/// Of a squashed one: what went on from a commit that was left out has no lineage there.
#[test]
fn a_squashed_change_set_knows_the_lineage_at_its_points_and_no_size_above_their_own() {
    let digest = Some(Digest(3));
    let commit = Commit { number: CommitNo(2), time: Time(1), pages: 1, digest, resync: false };
    let (chain, mut change) = (Chain([7; 32]), a_change(true));
    change.span.last = CommitNo(2);
    let with = |least: u32| {
        let mut table = put_table(&[commit], &[], &[0], &[]);
        table.extend_from_slice(&chain.0);
        table.extend_from_slice(&least.to_le_bytes());
        forged_to(chain, change, &table, &[])
    };
    assert_eq!(with(2).unwrap_err(), Damage::BadTable("a smallest size that is not"));
    for least in [0, 1] {
        let set = with(least).unwrap();
        let before = [0, 1, 2, 3, 4].map(|number| set.chain_before(CommitNo(number)));
        let parent = Some(Chain::default());
        assert_eq!(before, [None, parent, None, Some(chain), None]);
        let first = CommitNo(1);
        assert_eq!(set.points(), [Point { first, commit, chain, least }]);
    }
}

/// A page in two blocks would be read as two pages.
#[test]
fn blocks_that_end_within_a_page_or_past_the_last_one_are_refused() {
    let table = words(&[1, 7, 1, 1, 0, 0]);
    for (blocks, good) in
        [(&[512][..], true), (&[100, 412], false), (&[511], false), (&[1024], false), (&[], false)]
    {
        let blocks: Vec<_> = blocks.iter().map(|&bytes| vec![1; bytes]).collect();
        let set = forged(a_change(false), &table, &blocks).unwrap();
        let read = set.pages_at(CommitNo(1), |_, _, _| Ok::<(), Damage>(()));
        assert_eq!(read.is_ok(), good, "{} blocks", blocks.len());
    }
}

/// Every record of a commit is bound to the chain: none can be changed, even with right checksums.
#[test]
fn a_commit_that_does_not_give_the_chain_is_refused() {
    let commit = Commit {
        number: CommitNo(1),
        time: Time(1),
        pages: 1,
        digest: Some(Digest(3)),
        resync: false,
    };
    let table = put_table(&[commit], &[], &[0], &[]);
    let found = forged(a_change(true), &table, &[]).unwrap_err();
    assert_eq!(found, Damage::BadTable("commits that do not give its chain"));
}

#[test]
fn a_patch_past_its_page_is_refused() {
    for (patch, good) in [
        (&[1, 0, 255, 1, 0, 0, 9][..], true),
        (&[1, 0, 255, 1, 1, 0, 9, 9], false),
        (&[1, 0, 0, 2, 0, 0, 9], false),
        (&[2, 0, 0, 0, 0, 0, 9], false),
        (&[1, 0, 0, 0, 1, 0, 9], false),
        (&[], false),
    ] {
        assert_eq!(apply(patch, &mut [0; 512]).is_ok(), good, "{patch:?}");
        let measured = patch_length(patch);
        assert!(!good || measured == Ok(patch.len()), "{patch:?}");
    }
}

/// Fuzzing: a restore and a merge made different pages of one, since turning it around takes its runs in
/// the same order as applying it.
#[test]
fn a_patch_whose_runs_overlap_is_refused() {
    let patch = |second: u8| [2, 0, 5, 0, 1, 0, 7, 7, second, 0, 0, 0, 8];
    assert_eq!(patch_length(&patch(7)), Ok(13));
    for second in [4, 5, 6] {
        let refused = Err(Damage::BadTable("a patch whose runs overlap"));
        assert_eq!(patch_length(&patch(second)), refused, "{second}");
    }
}

/// A run costs four bytes besides its own: more of them, or longer ones, and objects grow unnoticed.
#[test]
fn differences_are_one_run_up_to_eight_equal_bytes() {
    for (differ, runs) in [
        (&[][..], &[][..]),
        (&[0], &[(0, 1)]),
        (&[10, 11], &[(10, 2)]),
        (&[10, 19], &[(10, 10)]),
        (&[10, 20], &[(10, 1), (20, 1)]),
        (&[10, 19, 28, 40, 63], &[(10, 19), (40, 1), (63, 1)]),
        (&[55, 63], &[(55, 9)]),
    ] {
        let old = [0; 64];
        let mut new = old;
        differ.iter().for_each(|&at: &usize| new[at] = 1);
        let mut patch = Vec::new();
        diff(&new, &old, &mut patch);
        let mut expected = vec![runs.len() as u8, 0];
        for &(at, bytes) in runs {
            expected.extend([at, 0, bytes - 1, 0]);
            expected.extend(vec![0; bytes.into()]);
        }
        assert_eq!(patch, expected, "{differ:?}");
    }
}

/// It turns the new page into the old one.
#[test]
fn a_patch_restores_the_old_page() {
    fn property(old: Vec<u8>, edits: Vec<(u8, u8)>) -> bool {
        let mut new = old.clone();
        for (at, byte) in edits {
            let size = new.len().max(1);
            new.get_mut(usize::from(at) % size).into_iter().for_each(|place| *place = byte);
        }
        let mut patch = Vec::new();
        diff(&new, &old, &mut patch);
        apply(&patch, &mut new).unwrap();
        new == old && patch_length(&patch) == Ok(patch.len())
    }
    QuickCheck::new().tests(1000).quickcheck(property as fn(Vec<u8>, Vec<(u8, u8)>) -> bool);
}

/// What a set gives when it is replayed, put into one again.
fn replayed(set: &ChangeSet, builder: &mut Builder) {
    set.replay(|point, pages| builder.point(point, pages.iter())).unwrap();
}

#[test]
fn a_change_set_replayed_is_the_same_again_and_two_are_one() {
    fn property(size: u8, steps: Vec<Step>, cut: usize) -> bool {
        if steps.is_empty() {
            return true;
        }
        let size = SIZES[usize::from(size % 4)];
        let (writer, whole) = change_set(size, &steps);
        let mut again = Builder::new(writer.size, Chain::default());
        replayed(&whole, &mut again);
        let (name, body) = again.encode(writer.timeline, Compression::Zstd);
        let mut two = Writer::new(size);
        for (at, step) in steps.iter().enumerate() {
            two.commit(step);
            if at == cut % steps.len() {
                two.ship();
            }
        }
        two.ship();
        let mut merged = Builder::new(two.size, Chain::default());
        for key in two.changes() {
            replayed(&open(&two, &key).unwrap(), &mut merged);
        }
        body == writer.store.get(&name).unwrap()
            && merged.encode(two.timeline, Compression::Zstd) == (name, body)
    }
    QuickCheck::new().tests(300).quickcheck(property as fn(u8, Vec<Step>, usize) -> bool);
}
