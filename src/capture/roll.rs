//! The snapshot under way, part by part.
//!
//! # Why parts that are read at different times fit together
//!
//! A part is read without any lock but the pin. A page of it that a commit not yet captured has
//! changed may be too new, or torn: that commit's change-set comes later and replaces it, and the
//! manifest counts only from the last such commit on (PostgreSQL's base backups rest on the same
//! argument).
//!
//! # Why a part need not be read at all
//!
//! Once every page is known, the ledger tells the hash of each page as of the last captured commit:
//! from the commits not yet handed out, else from those being shipped, else from the page index. The
//! three move in the turns of the one who owns the capture, but for the shipper, who writes to the
//! index just what `shipping` answers for meanwhile. So the hashes of a part are of one moment, and
//! the name made of them is that of the part as it stands at this commit. A name stands for bytes
//! alone, however and whenever they came to be stored: a part of that name on a destination holds
//! these pages, and it is the part as of this commit. What comes later is in change-sets, as ever.
//!
//! What is stored has to stay until the manifest names it. Nobody removes a part that no manifest
//! names while a snapshot is under way, and nobody but the holder of the database's lock removes any.
//!
//! What is not read is not compared with the page index either. So that a page lost or changed behind
//! SQLite's back is found in the end, a few parts are read all the same.

use super::Capture;
use crate::commit::{PageHash, PageNo, PageSize};
use crate::name;
use crate::snapshot::{Manifest, PartRef, hidden, part_name, part_pages};
use crate::source::{Pin, Trouble};
use std::io;
use std::ops::Range;

/// Parts passed over in one turn: a few milliseconds, in which nothing is captured.
const TURN: u32 = 64;

/// Parts that are looked at to judge what a snapshot would store.
const SAMPLE: u64 = 64;

/// One in so many parts is read though it need not be: 0.4 % of a database, and all of it in the end.
pub(super) const READ_ALL_THE_SAME: u64 = 256;

/// A snapshot under way.
#[derive(Debug)]
pub(super) struct Roll {
    parts: Vec<PartRef>,
    /// Those that were passed over since somebody asked.
    passed: Vec<name::Part>,
    next: PageNo,
    /// The size of the database when the first part was read. Commits that come after it write
    /// whatever lies further on, so a database may grow while it is copied.
    end: u32,
}

impl Roll {
    pub(super) fn new() -> Self {
        Self { parts: Vec::new(), passed: Vec::new(), next: PageNo(1), end: u32::MAX }
    }
}

/// Pages of a snapshot, read and not yet stored.
#[derive(Debug)]
pub struct RawPart {
    pub part: name::Part,
    /// The hash of its pages, where its name hides it.
    pub content: Option<u128>,
    pub page_size: PageSize,
    pub bytes: Vec<u8>,
}

impl Capture {
    /// Begins a snapshot beside what is being shipped: every page is known, and commits go on being
    /// restore points. Nothing, if one is under way.
    pub fn begin_roll(&mut self) -> Result<(), Trouble> {
        if self.roll.is_none() && self.source.hold()? {
            self.ledger.least = self.ledger.last.pages;
            self.roll = Some(Roll::new());
        }
        Ok(())
    }

    /// About how many parts a snapshot begun now would find not to be `stored` everywhere, judging by some
    /// that lie all over the database. While all that the last one names are there, these have changed.
    pub fn lacking(&self, stored: &dyn Fn(&name::Part) -> bool) -> io::Result<u64> {
        let (size, pages) = (part_pages(self.ledger.page_size), self.ledger.last.pages);
        let count = u64::from(pages.div_ceil(size));
        let sample = count.min(SAMPLE);
        let mut lacking = 0;
        for at in 0..sample {
            let first = 1 + (at * count / sample) as u32 * size;
            let hashes = self.ledger.hashes(first..pages.min(first + size - 1) + 1)?;
            lacking += u64::from(!stored(&self.named(PageNo(first), &hashes).0));
        }
        Ok(lacking * count / sample.max(1))
    }

    /// Whether a snapshot is under way; its pages done and in all.
    pub fn rolling(&self) -> Option<(u32, u32)> {
        let total = |roll: &Roll| roll.end.min(self.ledger.last.pages);
        self.roll.as_ref().map(|roll| (roll.next.0 - 1, total(roll)))
    }

    /// Reads the next part of the snapshot under way that is not `stored` everywhere, if one is left.
    /// Everything published must have been captured just now, and the WAL be pinned.
    pub fn next_part(
        &mut self,
        stored: &dyn Fn(&name::Part) -> bool,
    ) -> Result<Option<RawPart>, Trouble> {
        if self.ledger.large.is_some() {
            // The source is past a commit that the page index does not know yet.
            return Ok(None);
        }
        for _ in 0..TURN {
            let Some(pages) = self.next_pages() else { return Ok(None) };
            let hashes = self.ledger.hashes(pages.clone())?;
            let (part, _) = self.named(PageNo(pages.start), &hashes);
            let number = self.ledger.last.number;
            let chosen = (number.0 + self.part_count()).is_multiple_of(READ_ALL_THE_SAME);
            if self.ledger.last.digest.is_none() || chosen || !stored(&part) {
                return self.read_part(pages, &hashes);
            }
            self.add(part, pages);
            self.roll.iter_mut().for_each(|roll| roll.passed.push(part));
        }
        Ok(None)
    }

    /// The parts that were passed over since the last call: they are to stay like new ones.
    pub fn take_passed(&mut self) -> Vec<name::Part> {
        self.roll.as_mut().map(|roll| std::mem::take(&mut roll.passed)).unwrap_or_default()
    }

    /// The pages of the next part.
    fn next_pages(&mut self) -> Option<Range<u32>> {
        let last = self.ledger.last.pages;
        let roll = self.roll.as_mut()?;
        if roll.parts.is_empty() {
            roll.end = last;
        }
        let left = (roll.end.min(last) + 1).saturating_sub(roll.next.0);
        let pages = part_pages(self.ledger.page_size).min(left);
        (pages > 0).then(|| roll.next.0..roll.next.0 + pages)
    }

    fn part_count(&self) -> u64 {
        self.roll.as_ref().map_or(0, |roll| roll.parts.len() as u64)
    }

    fn add(&mut self, part: name::Part, pages: Range<u32>) {
        let Some(roll) = &mut self.roll else { return };
        let commit = self.ledger.last.number;
        roll.parts.push(PartRef { part, pages: pages.len() as u32, commit });
        roll.next.0 = pages.end;
    }

    /// Reads a part whose pages have these hashes, as far as every page is known.
    fn read_part(
        &mut self,
        pages: Range<u32>,
        before: &[PageHash],
    ) -> Result<Option<RawPart>, Trouble> {
        if !matches!(self.source.pin(), Pin::Hold(_)) {
            return Ok(None);
        }
        let page_size = self.ledger.page_size;
        let known = self.ledger.last.digest.is_some();
        let mut bytes = vec![0; pages.len() * page_size.bytes()];
        self.source.read_pages(pages.clone(), &mut bytes)?;
        let mut hashes = Vec::with_capacity(pages.len());
        let mut differing = Vec::new();
        let numbered = pages.clone().map(PageNo).zip(bytes.chunks_mut(page_size.bytes()));
        for ((page, bytes), before) in numbered.zip(before) {
            // Once every page is known, one that counts as zeros is told by the index alone.
            let is_told = known || page.0 > self.ledger.least;
            if is_told && *before == PageHash::default() {
                bytes.fill(0);
            }
            let hash = PageHash::of(page, bytes);
            if known && *before != hash {
                differing.push(page);
            }
            hashes.push(hash);
        }
        if let Some(page) = self.source.unchanged(&differing)? {
            self.roll = None;
            return Err(Trouble::Diverged(page));
        }
        let first = PageNo(pages.start);
        if !known {
            self.ledger.index.set_range(first, &hashes)?;
        }
        let (part, content) = self.named(first, &hashes);
        self.add(part, pages);
        Ok(Some(RawPart { part, content, page_size, bytes }))
    }

    /// A part's name, and the hash of its pages, if the name hides it.
    fn named(&self, first: PageNo, hashes: &[PageHash]) -> (name::Part, Option<u128>) {
        hidden(part_name(self.ledger.page_size, first, hashes), self.names.as_ref())
    }

    /// Goes back to a part that was not stored: it is read again, as it is by then, and so are those after
    /// it, which are few.
    pub fn go_back_to(&mut self, part: &name::Part) {
        let Some(roll) = &mut self.roll else { return };
        if let Some(at) = roll.parts.iter().position(|it| it.part == *part) {
            roll.parts.truncate(at);
            roll.next = part.page;
        }
    }

    /// Whether every part of the snapshot under way was read, or need not be.
    pub fn parts_are_read(&self) -> bool {
        self.rolling().is_some_and(|(done, total)| done >= total)
    }

    /// The manifest, once every part is read: from now on the digest is known.
    pub(super) fn finish_roll(&mut self) -> io::Result<Option<Manifest>> {
        if !self.parts_are_read() {
            return Ok(None);
        }
        let known = self.ledger.last.digest;
        let digest = known.map_or_else(|| self.ledger.sum(), Ok)?;
        let Some(roll) = self.roll.take() else { return Ok(None) };
        self.ledger.last.digest = Some(digest);
        (self.snapshot, self.snapshot_at) = (self.ledger.last.time, self.ledger.last.number);
        Ok(Some(Manifest {
            commit: self.ledger.last,
            timeline: self.ledger.timeline,
            page_size: self.ledger.page_size,
            chain: self.ledger.chain,
            parts: roll.parts,
        }))
    }
}
