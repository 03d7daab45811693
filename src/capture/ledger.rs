//! What frames turn into: numbered commits, page hashes, the state digest.

use super::stage::Stage;
use super::{Changes, Large};
use crate::change::Builder;
use crate::commit::{Chain, Commit, CommitNo, Digest, PageHash, PageNo, PageSize, Time, Timeline};
use crate::index::Index;
use crate::sabotage;
use crate::source::{Read, Sink};
use crate::wal::{Frame, Position, Salts};
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// What passes from one commit to the next is more likely to be a clock that was set.
const MOST_PASSED_MS: u64 = 3_600_000;

/// Everything but the source: what frames turn into.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) page_size: PageSize,
    pub(super) timeline: Timeline,
    pub(super) index: Arc<Index>,
    /// The last commit, with its digest if it is known.
    pub(super) last: Commit,
    pub(super) chain: Chain,
    pub(super) builder: Builder,
    /// Changes of the page index by the commits in `builder`, and by those being shipped.
    pub(super) changes: Changes,
    pub(super) shipping: Arc<Changes>,
    pub(super) stage: Stage,
    pub(super) large: Option<Large>,
    /// The last commit that is to be read, if not all are.
    pub(super) limit: Option<CommitNo>,
    /// The place after the last commit in `builder`, if that is in the living generation.
    pub(super) committed: Option<Position>,
    /// The smallest size of the database since the snapshot under way began. A page past it counts
    /// as zeros until a commit writes it, whatever stale bytes the file holds there.
    pub(super) least: u32,
    /// Which frame of the living generation was published when.
    pub(super) times: VecDeque<(u32, Time)>,
    /// The generation that they are about.
    pub(super) timed: Salts,
    pub(super) now: Time,
    /// By the clock, when the last commit was seen.
    pub(super) seen: Time,
    pub(super) failed: Option<io::Error>,
}

impl Ledger {
    pub(super) fn is_full(&self) -> bool {
        let reached = self.limit.is_some_and(|limit| self.last.number >= limit);
        reached || self.builder.is_full() || self.large.is_some() || self.failed.is_some()
    }

    pub(super) fn lookup(&self, page: PageNo) -> io::Result<PageHash> {
        let known = self.changes.get(&page).or_else(|| self.shipping.get(&page));
        known.map_or_else(|| self.index.get(page), |hash| Ok(*hash))
    }

    /// The hashes of `pages` as of the last commit.
    pub(super) fn hashes(&self, pages: Range<u32>) -> io::Result<Vec<PageHash>> {
        let mut hashes = self.index.range(PageNo(pages.start), pages.len())?;
        for (page, hash) in pages.map(PageNo).zip(&mut hashes) {
            if let Some(newer) = self.changes.get(&page).or_else(|| self.shipping.get(&page)) {
                *hash = *newer;
            }
        }
        Ok(hashes)
    }

    /// The state digest from the page index itself and the changes that it does not hold yet.
    pub(super) fn sum(&self) -> io::Result<Digest> {
        assert!(self.shipping.is_empty(), "the index is at rest");
        let mut digest = self.index.digest()?;
        for (page, hash) in &self.changes {
            digest.replace(self.index.get(*page)?, *hash);
        }
        Ok(digest)
    }

    /// A commit that stands for all that was not seen.
    pub(super) fn begin_anew(&mut self, pages: u32) -> io::Result<()> {
        self.index.clear()?;
        self.changes.clear();
        let number = self.last.number.next();
        let time = self.stamp(self.now);
        self.last = Commit { number, time, pages, digest: None, resync: true };
        self.chain = self.chain.after(self.page_size, &self.last);
        self.builder = Builder::new(self.page_size, self.chain);
        Ok(())
    }

    /// Goes on from `commit`.
    pub(super) fn begin_at(&mut self, commit: Commit, chain: Chain) {
        self.changes.clear();
        (self.last, self.chain) = (commit, chain);
        self.builder = Builder::new(self.page_size, chain);
    }

    /// When something was seen, by a clock that may have been set back. Times never fall: until it has
    /// passed the last commit's, they go on from there at half its pace. So commits keep apart, and the
    /// clock catches up.
    fn stamp(&mut self, seen: Time) -> Time {
        let passed = seen.0.saturating_sub(self.seen.0).min(MOST_PASSED_MS);
        self.seen = Time(seen.0 - passed % 2);
        match self.last.time {
            last if seen >= last => seen,
            last => Time(last.0.saturating_add(passed / 2)),
        }
    }

    /// When `frame` was seen, no earlier than the commit before it.
    fn time_of(&mut self, frame: u32, read: Read) -> Time {
        while self.times.front().is_some_and(|&(upto, _)| upto < frame && read == Read::Living) {
            self.times.pop_front();
        }
        let seen = self.times.front().filter(|_| read == Read::Living);
        let early = if sabotage::is("date-early") { 100 } else { 0 };
        let time = seen.map_or(self.now, |&(_, time)| time);
        self.stamp(Time(time.0.saturating_sub(early)))
    }

    fn commit(&mut self, frame: &Frame, pages: u32, read: Read) -> io::Result<()> {
        let grown = sabotage::is("forget-truncation") && pages < self.last.pages;
        let pages = if grown { self.last.pages } else { pages };
        let time = self.time_of(frame.number, read);
        let number = self.last.number.next();
        let mut commit = Commit { number, time, pages, digest: self.last.digest, resync: false };
        self.stage.cut(self.last.pages.saturating_sub(pages), read);
        if let Some(first) = self.stage.large {
            let frames = first..frame.number + 1;
            commit.digest = None;
            self.large = Some(Large { commit, parent: self.chain, frames });
            return Ok(());
        }
        let stage = std::mem::take(&mut self.stage);
        let mut staged: Vec<(PageNo, usize)> =
            stage.places.iter().map(|(page, place)| (*page, *place)).collect();
        staged
            .retain(|(page, _)| page.0 <= pages && !(sabotage::is("drop-page") && page.0 % 8 == 3));
        staged.sort_unstable();
        let size = self.page_size.bytes();
        let mut changed = pages != self.last.pages;
        for &(page, place) in &staged {
            let (old, new) =
                (self.lookup(page)?, PageHash::of(page, &stage.bytes[place..place + size]));
            changed |= old != new;
            self.change(page, old, new, &mut commit.digest);
        }
        for page in (pages + 1..=self.last.pages).map(PageNo) {
            let old = self.lookup(page)?;
            self.change(page, old, PageHash::default(), &mut commit.digest);
        }
        // A commit frame is repeated to fill up a sector; the copies change nothing and count once.
        if changed || commit.digest.is_none() {
            let pages =
                staged.iter().map(|&(page, place)| (page, &stage.bytes[place..place + size]));
            self.builder.commit(commit, pages);
            self.chain = self.builder.chain();
            self.last = commit;
        }
        self.least = self.least.min(pages);
        self.committed = (read == Read::Living).then_some(frame.position);
        self.stage = stage;
        Ok(())
    }

    fn change(&mut self, page: PageNo, old: PageHash, new: PageHash, digest: &mut Option<Digest>) {
        if let Some(digest) = digest {
            digest.replace(old, new);
        }
        if old != new {
            self.changes.insert(page, new);
        }
    }
}

impl Sink for Ledger {
    fn frame(&mut self, frame: &Frame, read: Read) {
        if self.failed.is_some() || self.large.is_some() {
            return;
        }
        self.stage.add(frame, read);
        if let Some(pages) = frame.commit {
            self.failed = self.commit(frame, pages, read).err();
            self.stage.clear();
        }
    }

    /// What was noted of the last generation says nothing of this one.
    fn generation(&mut self, salts: Salts) {
        if self.timed != salts {
            self.timed = salts;
            self.times.clear();
        }
    }

    fn is_full(&self) -> bool {
        Ledger::is_full(self)
    }
}
