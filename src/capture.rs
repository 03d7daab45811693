//! From the frames of one database to change-sets and snapshots: numbers the commits, keeps the page
//! index and the state digest, and hands out what is to be shipped, in order.
//!
//! While the first snapshot is rolled, not every page's hash is known yet, so commits have no digest
//! and are no restore points; they are when the snapshot's manifest stands.
//!
//! This module sees no backend and no clock.

mod ledger;
mod roll;
mod stage;

use crate::change::Builder;
use crate::commit::{Chain, Commit, CommitNo, Digest, PageHash, PageNo, PageSize, Time, Timeline};
use crate::cursor::State;
use crate::index::Index;
use crate::seal::NameKey;
use crate::snapshot::Manifest;
use crate::source::{Caught, Look, Mark, Sink, Source, Still, Trouble};
use crate::wal::{Position, Salts};
use ledger::Ledger;
use roll::Roll;
use stage::Stage;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

pub use roll::RawPart;

/// Looks at a WAL that nobody may capture are remembered up to this number; then every other one is.
const TIMES: usize = 4096;

pub type Changes = HashMap<PageNo, PageHash>;

/// One database being captured.
#[derive(Debug)]
pub struct Capture {
    pub source: Source,
    ledger: Ledger,
    identity: (u64, u64),
    /// Where the last commit stands that was handed out or can be.
    mark: Mark,
    /// Where the last state stands that was handed out.
    handed: Mark,
    snapshot: Time,
    /// The last commit when that was finished, or where this run began.
    snapshot_at: CommitNo,
    roll: Option<Roll>,
    /// Hides what is in a snapshot's parts from who reads their names.
    names: Option<NameKey>,
    /// The time of the last resync that was tried: each try names its objects anew.
    tried: Time,
    /// A pass failed between what it numbered and where the mark is: nothing of that is handed out, and only
    /// a new start is right.
    broken: bool,
}

/// A change-set to be shipped, and what is true once it is.
#[derive(Debug)]
pub struct Batch {
    /// `None`: nothing but a manifest, or a state.
    pub changes: Option<Builder>,
    pub manifest: Option<Manifest>,
    pub state: State,
    /// Changes of the page index.
    pub index: Arc<Changes>,
}

/// Whether a batch ends the snapshot under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    Nothing,
    Snapshot,
}

/// A transaction too large to be held, left in the WAL under the pin.
#[derive(Clone, Debug)]
pub struct Large {
    pub commit: Commit,
    pub parent: Chain,
    pub frames: Range<u32>,
}

/// Where a capture starts.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    pub page_size: PageSize,
    pub timeline: Timeline,
    pub identity: (u64, u64),
    /// The last commit before, and its lineage.
    pub last: Commit,
    pub chain: Chain,
    pub snapshot: Time,
}

impl Capture {
    pub fn new(source: Source, index: Arc<Index>, start: &Start) -> Self {
        let Start { page_size, timeline, identity, last, chain, snapshot } = *start;
        let ledger = Ledger {
            page_size,
            timeline,
            index,
            last,
            chain,
            builder: Builder::new(page_size, chain),
            changes: Changes::new(),
            shipping: Arc::default(),
            stage: Stage::default(),
            large: None,
            limit: None,
            committed: None,
            least: u32::MAX,
            times: VecDeque::new(),
            timed: Salts::default(),
            now: last.time,
            seen: last.time,
            failed: None,
        };
        let mark = *source.mark();
        Self {
            source,
            ledger,
            identity,
            mark,
            handed: mark,
            snapshot,
            snapshot_at: last.number,
            roll: None,
            names: None,
            tried: Time(0),
            broken: false,
        }
    }

    #[must_use]
    pub fn with_names(self, names: Option<NameKey>) -> Self {
        Self { names, ..self }
    }

    /// Has it look up pages elsewhere; where it did so far.
    #[cfg(test)]
    pub fn swap_index(&mut self, index: Arc<Index>) -> Arc<Index> {
        std::mem::replace(&mut self.ledger.index, index)
    }

    pub fn last(&self) -> &Commit {
        &self.ledger.last
    }

    /// Notes what was published by now, so that commits are dated by the first look that showed
    /// them, and never too early.
    pub fn note(&mut self, look: &Look, now: Time) {
        self.ledger.generation(look.salts);
        let times = &mut self.ledger.times;
        if times.back().is_none_or(|&(last, _)| last != look.frames) {
            times.push_back((look.frames, now));
        }
        if times.len() > TIMES {
            // The later of each two stays: no commit seems older than it is.
            let mut later = true;
            times.retain(|_| {
                later = !later;
                later
            });
        }
        self.ledger.now = now;
    }

    /// Captures what `look` shows, which was noted, as far as the change-set under way has room.
    pub fn capture(&mut self, look: &Look) -> Result<Caught, Trouble> {
        if self.ledger.is_full() {
            return Ok(Caught::Behind);
        }
        self.ledger.committed = None;
        let captured = self.source.capture(look, &mut self.ledger);
        self.ledger.stage.clear();
        let mark = *self.source.mark();
        self.mark = match self.ledger.large {
            None => mark,
            Some(_) => self.before_large(mark),
        };
        if matches!(captured, Err(Trouble::Lost(_))) {
            // Parts that were read stand for pages that somebody may have changed unseen.
            self.roll = None;
        }
        let captured = match self.ledger.failed.take() {
            // The frames are behind us, their effect is not.
            Some(error) => Err(Trouble::Io(error)),
            None if self.ledger.is_full() => captured.map(|_| Caught::Behind),
            None => captured,
        };
        // Of a read that failed, what came before is numbered, and the mark is not past it.
        self.broken |= matches!(captured, Err(Trouble::Io(_)));
        captured
    }

    /// The mark before the large transaction that ends at `mark`: a cursor must not lead past one
    /// that was read, but not shipped.
    fn before_large(&self, mark: Mark) -> Mark {
        let change = mark.change.wrapping_sub(1);
        match self.ledger.committed {
            Some(position) => Mark { position, change, ..mark },
            None if mark.salts == self.mark.salts => self.mark,
            None => {
                let position = Position { frame: 0, ..mark.position };
                Mark { position, change, ..mark }
            }
        }
    }

    /// Reads up to the commit numbered like `upto`, which was stored before. What it changed, if the
    /// WAL holds just that; nothing is to be shipped.
    pub fn replay(&mut self, upto: &Commit) -> Result<Option<Batch>, Trouble> {
        let Some(look) = self.source.steady_look() else { return Ok(None) };
        self.ledger.limit = Some(upto.number);
        let captured = self.capture(&look);
        self.ledger.limit = None;
        captured?;
        let Commit { number, pages, digest, .. } = self.ledger.last;
        let same = (number, pages, digest) == (upto.number, upto.pages, upto.digest);
        if same { Ok(self.batch(Finish::Nothing)?) } else { Ok(None) }
    }

    pub fn is_full(&self) -> bool {
        self.ledger.is_full()
    }

    /// Whether everything captured was handed out.
    pub fn is_drained(&self) -> bool {
        self.ledger.large.is_none() && !self.has_batch() && !self.broken
    }

    /// Whether there is something to hand out: commits, or a place in the WAL past some that changed
    /// nothing.
    pub fn has_batch(&self) -> bool {
        !self.broken && (!self.ledger.builder.is_empty() || self.mark != self.handed)
    }

    /// Whether a transaction waits in the WAL to be read again.
    pub fn has_large(&self) -> bool {
        self.ledger.large.is_some()
    }

    /// A transaction that has to be read again to be shipped; after all that comes before it.
    pub fn large(&self) -> Option<&Large> {
        self.ledger.large.as_ref().filter(|_| !self.broken && self.ledger.builder.is_empty())
    }

    /// What is true once the large transaction is shipped, with this digest.
    pub fn large_state(&self, digest: Option<Digest>) -> State {
        let Large { commit, parent, .. } = self.ledger.large.as_ref().expect("one is shipped");
        let commit = Commit { digest, ..*commit };
        let chain = parent.after(self.ledger.page_size, &commit);
        State { commit, chain, mark: *self.source.mark(), ..self.state() }
    }

    /// Takes a large transaction's place in the line: it was shipped, and led to this state.
    pub fn large_shipped(&mut self, state: &State) {
        self.ledger.large = None;
        self.ledger.last = state.commit;
        self.ledger.least = self.ledger.least.min(state.commit.pages);
        self.ledger.chain = state.chain;
        self.ledger.builder = Builder::new(self.ledger.page_size, state.chain);
        (self.mark, self.handed) = (state.mark, state.mark);
    }

    pub fn state(&self) -> State {
        State {
            commit: self.ledger.last,
            chain: self.ledger.chain,
            timeline: self.ledger.timeline,
            page_size: self.ledger.page_size,
            identity: self.identity,
            mark: self.mark,
            snapshot: self.snapshot,
        }
    }

    /// Hands out what was captured, if there is any. The one before must have been shipped. With
    /// `Finish::Snapshot`, everything published when the last part was read has been captured, every
    /// part is stored, and the manifest goes along.
    pub fn batch(&mut self, finish: Finish) -> io::Result<Option<Batch>> {
        if self.broken {
            return Ok(None);
        }
        let manifest = match finish {
            Finish::Snapshot => self.finish_roll()?,
            Finish::Nothing => None,
        };
        if !self.has_batch() && manifest.is_none() {
            return Ok(None);
        }
        let next = Builder::new(self.ledger.page_size, self.ledger.chain);
        let changes = std::mem::replace(&mut self.ledger.builder, next);
        let index = Arc::new(std::mem::take(&mut self.ledger.changes));
        self.ledger.shipping = Arc::clone(&index);
        let changes = (!changes.is_empty()).then_some(changes);
        let state = self.state();
        self.handed = state.mark;
        Ok(Some(Batch { changes, manifest, state, index }))
    }

    /// The last batch was shipped, and the page index holds its changes.
    pub fn shipped(&mut self) {
        self.ledger.shipping = Arc::default();
    }

    /// Takes up what is published now, for a resync. Nothing captured may wait to be handed out.
    pub fn still(&mut self, database: &Path) -> Result<Option<(Still, u32)>, Trouble> {
        assert!(self.ledger.builder.is_empty(), "nothing captured is given up");
        self.source.still(database)
    }

    /// The commit that stands for all that was not seen; its digest comes with its pages. By `now` all of
    /// that had been taken up: an earlier look knows less.
    pub fn resync_commit(&mut self, pages: u32, now: Time) -> Commit {
        self.ledger.now = self.ledger.now.max(now);
        let Commit { number, time, .. } = self.ledger.last;
        self.tried = time.max(self.ledger.now).max(Time(self.tried.0 + 1));
        Commit { number: number.next(), time: self.tried, pages, digest: None, resync: true }
    }

    /// The database at the mark is what `commit` says, as all destinations know.
    pub fn resynced(&mut self, commit: Commit, chain: Chain) -> State {
        self.ledger.begin_at(commit, chain);
        self.mark = *self.source.mark();
        self.handed = self.mark;
        self.state()
    }

    /// Begins a snapshot of everything at what is published now: there is nothing to go on from, or
    /// commits were lost. What was captured must have been handed out. The clock is read when it is known
    /// what is taken up.
    pub fn begin_snapshot(&mut self, clock: impl FnOnce() -> Time) -> Result<(), Trouble> {
        assert!(self.is_drained(), "nothing captured is given up");
        self.source.hold()?;
        let pages = self.source.rebase()?;
        self.ledger.now = self.ledger.now.max(clock());
        self.mark = *self.source.mark();
        self.handed = self.mark;
        self.ledger.begin_anew(pages)?;
        self.roll = Some(Roll::new());
        self.ledger.least = pages;
        Ok(())
    }

    /// When the last snapshot was finished; 0: there is none.
    pub fn snapshot(&self) -> Time {
        self.snapshot
    }

    /// Whether anything is known to have been committed since.
    pub fn has_news(&self) -> bool {
        let last = self.ledger.last;
        last.time > self.snapshot || last.number > self.snapshot_at
    }
}

/// The state before the first commit of all.
pub fn origin() -> Commit {
    Commit { number: CommitNo(0), time: Time(0), pages: 0, digest: None, resync: false }
}

#[cfg(test)]
mod tests;
