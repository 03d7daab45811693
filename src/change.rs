//! Change-sets: the pages that a contiguous range of commits wrote, every commit apart, or, where it
//! is *squashed*, some of them: what the commits left out wrote counts to the next one that is there.
//!
//! A change-set holds each page once, as its last commit left it, and for every earlier version the
//! bytes that differ: applying these *undo* patches from the newest to the oldest walks back to any
//! commit. So the newest state, the one mostly wanted, costs no patch at all, and forty versions of a
//! page that grew a row at a time cost forty short runs of zeros. `bakelite(5)` owns the byte tables.
//!
//! Pure: no I/O, no clock.

mod patch;
mod replay;

use crate::commit::{Chain, Commit, CommitNo, PageNo, PageSize, Time, Timeline};
use crate::name::{Change, Name, Span};
use crate::object::{BLOCK_BYTES, Compression, Damage, Encoder, Fields, Header, Object};
use patch::{apply, diff, patch_length};
use std::collections::HashMap;
use std::ops::Range;

/// Past this many bytes of pages, of undo patches or of its table, a change-set ends at the next
/// commit. The table counts too: a commit that changes one byte costs more there than as a patch.
pub const SOFT_BYTES: usize = 2 << 20;
/// The bytes of a commit's record, and of what stands beside it in a squashed change-set.
const RECORD: usize = 37;
const BESIDE: usize = 36;

/// A commit of a change-set, and those left out before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The first commit that it stands for.
    pub first: CommitNo,
    pub commit: Commit,
    /// The lineage after it.
    pub chain: Chain,
    /// The smallest size of the database since the point before: pages that were cut off and not
    /// written again are gone, though no commit that is left tells so.
    pub least: u32,
}

/// Collects the commits of one change-set.
#[derive(Debug)]
pub struct Builder {
    page_size: PageSize,
    parent: Chain,
    chain: Chain,
    points: Vec<Point>,
    /// Which pages each commit wrote, as slots, one commit after the other, and where each ends.
    writes: Vec<u32>,
    ends: Vec<usize>,
    slots: HashMap<PageNo, u32>,
    pages: Vec<PageNo>,
    contents: Vec<u8>,
    undo: Vec<u8>,
}

impl Builder {
    pub fn new(page_size: PageSize, parent: Chain) -> Self {
        Self {
            page_size,
            parent,
            chain: parent,
            points: Vec::new(),
            writes: Vec::new(),
            ends: Vec::new(),
            slots: HashMap::new(),
            pages: Vec::new(),
            contents: Vec::new(),
            undo: Vec::new(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// Whether no further commit should be added.
    pub fn is_full(&self) -> bool {
        let pages_or_undo = self.contents.len().max(self.undo.len());
        pages_or_undo.max(self.table_bytes()) >= SOFT_BYTES
    }

    /// The bytes of the object before compression, nearly.
    pub fn plain_bytes(&self) -> usize {
        self.contents.len() + self.undo.len() + self.table_bytes()
    }

    fn table_bytes(&self) -> usize {
        4 * (self.pages.len() + self.writes.len()) + (4 + RECORD + BESIDE) * self.points.len()
    }

    /// The lineage after the last commit in here.
    pub fn chain(&self) -> Chain {
        self.chain
    }

    /// Adds a commit. `pages` are those that it wrote, each one once, none past its end.
    pub fn commit<'a>(
        &mut self,
        commit: Commit,
        pages: impl IntoIterator<Item = (PageNo, &'a [u8])>,
    ) {
        let chain = self.chain.after(self.page_size, &commit);
        let (first, least) = (commit.number, commit.pages);
        self.point(Point { first, commit, chain, least }, pages);
    }

    /// Adds a commit, and with it those before it that are left out. `pages` are all that they wrote,
    /// as they are after the last one.
    pub fn point<'a>(&mut self, point: Point, pages: impl IntoIterator<Item = (PageNo, &'a [u8])>) {
        let Point { first, commit, chain, least } = point;
        let expected = self.points.last().map_or(first, |last| last.commit.number.next());
        assert_eq!(first, expected, "commits come in order");
        assert!(
            first <= commit.number && least <= commit.pages,
            "a point is the end of its commits"
        );
        for (page, bytes) in pages {
            assert!(page.0 >= 1 && page.0 <= commit.pages, "no page past the end");
            assert_eq!(bytes.len(), self.page_size.bytes(), "whole pages");
            let slot = self.write(page, bytes);
            self.writes.push(slot);
        }
        self.ends.push(self.writes.len());
        self.chain = chain;
        self.points.push(point);
    }

    fn write(&mut self, page: PageNo, bytes: &[u8]) -> u32 {
        let size = self.page_size.bytes();
        if let Some(&slot) = self.slots.get(&page) {
            let old = &mut self.contents[slot as usize * size..][..size];
            diff(bytes, old, &mut self.undo);
            old.copy_from_slice(bytes);
            return slot;
        }
        let slot = self.pages.len() as u32;
        self.slots.insert(page, slot);
        self.pages.push(page);
        self.contents.extend_from_slice(bytes);
        slot
    }

    pub fn span(&self, timeline: Timeline) -> Span {
        let (first, last) = (self.points.first(), self.points.last());
        let (Point { first, .. }, Point { commit: last, .. }) =
            first.zip(last).expect("a change-set has a commit");
        Span { first: *first, last: last.number, time: last.time, timeline }
    }

    /// The object, complete.
    pub fn encode(&self, timeline: Timeline, compression: Compression) -> (Name, Vec<u8>) {
        self.encode_at(0, timeline, compression)
    }

    /// The object as one of a level: the same bytes but for its name.
    pub fn encode_at(
        &self,
        level: u8,
        timeline: Timeline,
        compression: Compression,
    ) -> (Name, Vec<u8>) {
        let span = self.span(timeline);
        let name = Name::Change(Change { level, span, part: 0, end: true });
        let header = Header { page_size: self.page_size, parent: self.parent, chain: self.chain };
        let mut encoder = Encoder::new(&name, &header, compression);
        let mut order: Vec<u32> = (0..self.pages.len() as u32).collect();
        order.sort_unstable_by_key(|&slot| self.pages[slot as usize]);
        self.put_pages(&mut encoder, &order);
        self.undo.chunks(BLOCK_BYTES).for_each(|chunk| encoder.block(chunk));
        encoder.block(&self.table(&order));
        (name, encoder.finish())
    }

    fn put_pages(&self, encoder: &mut Encoder, order: &[u32]) {
        let size = self.page_size.bytes();
        let mut block = Vec::with_capacity(BLOCK_BYTES.min(order.len() * size));
        for slots in order.chunks(BLOCK_BYTES / size) {
            block.clear();
            for &slot in slots {
                block.extend_from_slice(&self.contents[slot as usize * size..][..size]);
            }
            encoder.block(&block);
        }
    }

    fn table(&self, order: &[u32]) -> Vec<u8> {
        let mut rank = vec![0; order.len()];
        order.iter().enumerate().for_each(|(at, &slot)| rank[slot as usize] = at as u32);
        let pages: Vec<PageNo> = order.iter().map(|&slot| self.pages[slot as usize]).collect();
        let writes: Vec<u32> = self.writes.iter().map(|&slot| rank[slot as usize]).collect();
        let commits: Vec<Commit> = self.points.iter().map(|point| point.commit).collect();
        let mut table = put_table(&commits, &pages, &self.ends, &writes);
        if self.points.iter().any(|point| point.first < point.commit.number) {
            for Point { chain, least, .. } in &self.points {
                table.extend_from_slice(&chain.0);
                table.extend_from_slice(&least.to_le_bytes());
            }
        }
        table
    }
}

/// One part of a change-set of a single commit too large to be held. Its pages are in this part only.
#[must_use]
pub fn encode_part(
    change: Change,
    header: &Header,
    commit: Option<&Commit>,
    pages: &[PageNo],
    contents: &[u8],
    compression: Compression,
) -> Vec<u8> {
    assert_eq!(change.end, commit.is_some(), "the last part holds the commit");
    assert_eq!(contents.len(), pages.len() * header.page_size.bytes(), "whole pages");
    assert!(pages.is_sorted(), "pages in order");
    let mut encoder = Encoder::new(&Name::Change(change), header, compression);
    let per_block = BLOCK_BYTES / header.page_size.bytes() * header.page_size.bytes();
    contents.chunks(per_block).for_each(|block| encoder.block(block));
    let writes: Vec<u32> = (0..pages.len() as u32).collect();
    let commits: Vec<Commit> = commit.copied().into_iter().collect();
    encoder.block(&put_table(&commits, pages, &[writes.len()], &writes));
    encoder.finish()
}

fn put_table(commits: &[Commit], pages: &[PageNo], ends: &[usize], writes: &[u32]) -> Vec<u8> {
    let mut table = Vec::new();
    let mut put = |value: u32| table.extend_from_slice(&value.to_le_bytes());
    put(pages.len() as u32);
    pages.iter().for_each(|page| put(page.0));
    put(ends.len() as u32);
    let mut start = 0;
    for &end in ends {
        put((end - start) as u32);
        writes[start..end].iter().for_each(|&slot| put(slot));
        start = end;
    }
    put(commits.len() as u32);
    commits.iter().for_each(|commit| put_commit(&mut table, commit));
    table
}

/// A commit's record, as change-sets and snapshots hold it.
pub(crate) fn put_commit(table: &mut Vec<u8>, commit: &Commit) {
    table.extend_from_slice(&commit.number.0.to_le_bytes());
    table.extend_from_slice(&commit.time.0.to_le_bytes());
    table.extend_from_slice(&commit.pages.to_le_bytes());
    table.push(commit.flags());
    table.extend_from_slice(&commit.digest.unwrap_or_default().0.to_le_bytes());
}

pub(crate) fn take_commit(fields: &mut Fields) -> Result<Commit, Damage> {
    let (number, time) = (CommitNo(fields.u64()?), Time(fields.u64()?));
    let (pages, flags) = (fields.u32()?, fields.u8()?);
    let digest = crate::commit::Digest(fields.u128()?);
    let commit = Commit { number, time, pages, digest: None, resync: false };
    commit.with_flags(flags, digest).ok_or(Damage::BadTable("an unknown flag"))
}

/// One part of a change-set, opened.
#[derive(Debug)]
pub struct ChangeSet {
    object: Object,
    first: CommitNo,
    /// Empty in every part but the last.
    pub commits: Vec<Commit>,
    /// Of each commit, the lineage after it and the smallest size since the one before. Empty where
    /// every commit is there.
    beside: Vec<(Chain, u32)>,
    pages: Vec<PageNo>,
    /// Which pages each commit wrote, as places in `pages`.
    writes: Vec<Vec<u32>>,
}

impl ChangeSet {
    pub fn open(change: &Change, bytes: Vec<u8>) -> Result<Self, Damage> {
        let object = Object::open(&Name::Change(*change), bytes)?;
        let table = object.table()?;
        let mut fields = Fields(&table);
        let count = fields.count(4)?;
        let pages: Vec<PageNo> =
            (0..count).map(|_| fields.u32().map(PageNo)).collect::<Result<_, _>>()?;
        let count = fields.count(4)?;
        let writes = (0..count).map(|_| take_slots(&mut fields, pages.len()));
        let writes = writes.collect::<Result<Vec<_>, _>>()?;
        let count = fields.count(RECORD)?;
        let commits = (0..count).map(|_| take_commit(&mut fields));
        let commits = commits.collect::<Result<Vec<_>, _>>()?;
        let mut beside = Vec::new();
        if change.end && (commits.len() as u64) <= change.span.last.0 - change.span.first.0 {
            let one = |_| Ok((Chain(fields.array()?), fields.u32()?));
            beside = (0..commits.len()).map(one).collect::<Result<_, Damage>>()?;
        }
        fields.end()?;
        let first = change.span.first;
        let set = Self { object, first, commits, beside, pages, writes };
        set.check(change)?;
        Ok(set)
    }

    /// What the table says must fit the name, the chain and itself.
    fn check(&self, change: &Change) -> Result<(), Damage> {
        let bad = |what| Err(Damage::BadTable(what));
        if !self.pages.is_sorted_by(|a, b| a < b) || self.pages.first() == Some(&PageNo(0)) {
            return bad("pages out of order");
        }
        if !change.end {
            let whole = self.commits.is_empty() && self.writes.len() == 1;
            let Header { parent, chain, .. } = self.object.header;
            let whole = whole && parent == chain;
            return if whole { Ok(()) } else { bad("a commit before the last part") };
        }
        if self.commits.len() != self.writes.len() {
            return bad("commits without their pages");
        }
        let rising = self.commits.is_sorted_by(|a, b| a.number < b.number);
        let inside = self.commits.first().is_some_and(|it| it.number >= change.span.first);
        let last = self.commits.last().map(|last| (last.number, last.time));
        let Span { last: number, time, .. } = change.span;
        if !rising || !inside || last.is_none_or(|last| last != (number, time)) {
            return bad("commits other than its name says");
        }
        if self.beside.iter().zip(&self.commits).any(|((_, least), it)| *least > it.pages) {
            return bad("a smallest size that is not");
        }
        let same = self.chain_before(number.next()) == Some(self.object.header.chain);
        if same { Ok(()) } else { bad("commits that do not give its chain") }
    }

    pub fn header(&self) -> &Header {
        &self.object.header
    }

    /// The lineage before `commit`, which is in here or the one after all that is. `None` if it is not,
    /// or the one before it was left out.
    pub fn chain_before(&self, commit: CommitNo) -> Option<Chain> {
        let Header { page_size, parent, .. } = self.object.header;
        if commit < self.first {
            return None;
        }
        let before = self.commits.partition_point(|each| each.number < commit);
        if self.beside.is_empty() {
            let before = self.commits[..before].iter();
            return Some(before.fold(parent, |chain, each| chain.after(page_size, each)));
        }
        match before.checked_sub(1) {
            None => (commit == self.first).then_some(parent),
            Some(at) => (self.commits[at].number.next() == commit).then(|| self.beside[at].0),
        }
    }

    /// Its commits with those that each stands for, oldest first.
    pub fn points(&self) -> Vec<Point> {
        let Header { page_size, parent, .. } = self.object.header;
        let (mut first, mut chain) = (self.first, parent);
        let point = |(at, commit): (usize, &Commit)| {
            let one = || (chain.after(page_size, commit), commit.pages);
            let (after, least) = self.beside.get(at).copied().unwrap_or_else(one);
            let point = Point { first, commit: *commit, chain: after, least };
            (first, chain) = (commit.number.next(), after);
            point
        };
        self.commits.iter().enumerate().map(point).collect()
    }

    /// Hands each page, as of the commit numbered `target` or the last one in here before it, to
    /// `each`, with the place of the commit that wrote it among this object's commits.
    pub fn pages_at<E: From<Damage>>(
        &self,
        target: CommitNo,
        mut each: impl FnMut(PageNo, usize, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let written = self.written_by(target);
        let undo = self.undo_after(target)?;
        let size = self.object.header.page_size.bytes();
        let mut slot = 0;
        for number in 0..self.page_blocks()? {
            let mut block = self.object.block(number)?;
            for bytes in block.chunks_mut(size) {
                if let Some(commit) = written[slot] {
                    undo.restore(slot as u32, bytes)?;
                    each(self.pages[slot], commit, bytes)?;
                }
                slot += 1;
            }
        }
        Ok(())
    }

    /// How many blocks hold pages: the first ones, of whole pages, until all are there. The others,
    /// but for the table, hold the undo patches.
    fn page_blocks(&self) -> Result<usize, Damage> {
        let size = self.object.header.page_size.bytes();
        let all = self.pages.len() * size;
        let mut bytes = 0;
        for number in 0..self.object.count() {
            if bytes == all {
                return Ok(number);
            }
            bytes += self.object.block_bytes(number);
            if !bytes.is_multiple_of(size) {
                break;
            }
        }
        Err(Damage::BadTable("blocks of other pages"))
    }

    /// How many commits of this object are at or before `target`. A part that is not the last one
    /// has no commit of its own, but its pages are those of the one that the last part names.
    fn reached(&self, target: CommitNo) -> usize {
        if self.commits.is_empty() {
            return self.writes.len();
        }
        self.commits.partition_point(|commit| commit.number <= target)
    }

    /// For each page the place of the last commit up to `target` that wrote it.
    fn written_by(&self, target: CommitNo) -> Vec<Option<usize>> {
        let mut written = vec![None; self.pages.len()];
        for (place, slots) in self.writes[..self.reached(target)].iter().enumerate() {
            slots.iter().for_each(|&slot| written[slot as usize] = Some(place));
        }
        written
    }

    /// The patches that take pages back from the last commit in here to `target`.
    fn undo_after(&self, target: CommitNo) -> Result<Undo, Damage> {
        let reached = self.reached(target);
        let mut undo = Undo::default();
        if reached == self.writes.len() {
            return Ok(undo);
        }
        for number in self.page_blocks()?..self.object.count() - 1 {
            undo.stream.extend(self.object.block(number)?);
        }
        let mut seen = vec![false; self.pages.len()];
        let mut at = 0;
        for (place, slots) in self.writes.iter().enumerate() {
            for &slot in slots {
                if std::mem::replace(&mut seen[slot as usize], true) {
                    let end = at + patch_length(undo.stream.get(at..).ok_or(Damage::Short)?)?;
                    if place >= reached {
                        undo.patches.entry(slot).or_default().push(at..end);
                    }
                    at = end;
                }
            }
        }
        let all = at == undo.stream.len();
        all.then_some(undo).ok_or(Damage::BadTable("patches of no page"))
    }
}

fn take_slots(fields: &mut Fields, pages: usize) -> Result<Vec<u32>, Damage> {
    let count = fields.count(4)?;
    let slots = (0..count).map(|_| fields.u32()).collect::<Result<Vec<_>, _>>()?;
    let known = slots.iter().all(|&slot| (slot as usize) < pages);
    known.then_some(slots).ok_or(Damage::BadTable("a page that is not there"))
}

#[derive(Default)]
struct Undo {
    stream: Vec<u8>,
    /// By page, oldest first.
    patches: HashMap<u32, Vec<Range<usize>>>,
}

impl Undo {
    fn restore(&self, slot: u32, page: &mut [u8]) -> Result<(), Damage> {
        let patches = self.patches.get(&slot).into_iter().flatten().rev();
        patches.into_iter().try_for_each(|range| apply(&self.stream[range.clone()], page))
    }
}

#[cfg(test)]
mod tests;
