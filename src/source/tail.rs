//! The end of a WAL that was reset before all of it was read: what is left of it, and how much of that
//! was ever published.
//!
//! # The count
//!
//! SQLite's counter says how many commits were published. Those of the new generation can be read
//! whole; the others must be in the tail. A commit frame that repeats the one before it, page and
//! bytes, is a copy that fills up a sector, counted with the first, or a commit of its own that
//! changed nothing: the bytes do not tell. Where that leaves more than one answer, and the answers
//! differ in what the database holds, none is given and the caller heals.

use super::{Read, Sink, Trouble};
use crate::commit::PageNo;
use crate::sabotage;
use crate::wal::{self, Frame, Frames, Position, Salts};
use std::cmp::Ordering;

/// How many commits some frames hold.
#[derive(Default)]
pub struct Commits {
    all: u32,
    repeated: u32,
    last: Option<(PageNo, u32, blake3::Hash)>,
}

impl Commits {
    pub fn add(&mut self, frame: &Frame) {
        let this = frame.commit.map(|pages| (frame.page, pages, blake3::hash(frame.data)));
        if this.is_some() {
            self.all += 1;
            self.repeated += u32::from(this == self.last);
        }
        self.last = this;
    }

    /// Commit frames, copies included.
    pub fn all(&self) -> u32 {
        self.all
    }

    /// Those that do not repeat the frame before.
    fn distinct(&self) -> u32 {
        self.all - self.repeated
    }
}

/// What is known of a tail without reading it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Nothing,
    /// None of it was overwritten or cut off.
    Whole,
    /// There never was one.
    Empty,
}

/// What was left of a generation when the next one began.
pub struct Tail {
    header: wal::Header,
    from: Position,
    bytes: Vec<u8>,
    known: Known,
    /// It was the very next generation that was looked at, not a later one.
    next: bool,
}

impl Tail {
    /// `bytes` were read from right after `from` on.
    pub fn new(header: wal::Header, from: Position, bytes: Vec<u8>) -> Self {
        Self { header, from, bytes, known: Known::Nothing, next: false }
    }

    /// Notes that the file may have been truncated before it was read.
    #[must_use]
    pub fn cut(self, cut: bool) -> Self {
        let known = if cut { Known::Nothing } else { Known::Whole };
        Self { known, ..self }
    }

    /// Notes that all of the generation was captured before it ended.
    #[must_use]
    pub fn empty(self) -> Self {
        Self { bytes: Vec::new(), known: Known::Empty, ..self }
    }

    /// Notes what came after it, and how many frames of that were published once it was read. A reset
    /// adds 1 to the first salt.
    pub fn is_followed_by(&mut self, salts: Salts, frames: u32) {
        let [first, next] = [self.header.salts, salts]
            .map(|Salts([a, b, c, d, ..])| u32::from_be_bytes([a, b, c, d]));
        self.next = next == first.wrapping_add(1);
        let whole = self.next && frames <= self.from.frame && self.begins_as_it_was(salts);
        if self.known == Known::Whole && !whole {
            self.known = Known::Nothing;
        }
    }

    /// Frames are written from the first on, those of a transaction that is not over as well: they
    /// overwrite the beginning of it before they come to its end. Until it commits, their salts may be
    /// zeros.
    fn begins_as_it_was(&self, next: Salts) -> bool {
        let written = [self.header.salts, next, Salts::default()];
        let empty = self.bytes.get(8..16).is_none_or(|it| written.iter().all(|by| it != by.0));
        empty || self.frames().next().is_some()
    }

    fn frames(&self) -> Frames<'_> {
        Frames::new(&self.header, self.from, &self.bytes)
    }

    /// How many of its commits were published, repetitions aside, if SQLite's count has advanced by
    /// `advance` with those in `fresh`.
    pub fn wanted(&self, advance: u32, fresh: &Commits) -> Result<u32, Trouble> {
        let mut mine = Commits::default();
        self.frames().for_each(|frame| mine.add(&frame));
        let most = advance.checked_sub(fresh.distinct());
        let most = most.ok_or(Trouble::Lost("the count of commits was restarted"))?;
        let least = advance.saturating_sub(fresh.all);
        if mine.all < least && !sabotage::is("skip-count") {
            return Err(Trouble::Lost("the WAL was reset before its end was read"));
        }
        let clear = mine.repeated + fresh.repeated == 0;
        let sure = self.next || mine.all == 0;
        match most.cmp(&mine.distinct()) {
            _ if most == 0 => Ok(0),
            Ordering::Equal if sure => Ok(most),
            Ordering::Greater if self.known != Known::Nothing || sabotage::is("skip-count") => {
                Ok(mine.distinct())
            }
            Ordering::Less if sure && clear => Ok(most),
            _ => Err(Trouble::Lost("the count of commits fits more than one end of the old WAL")),
        }
    }

    /// Hands on the first `commits` of it.
    pub fn deliver(&self, commits: u32, sink: &mut impl Sink) {
        let mut seen = Commits::default();
        for frame in self.frames() {
            if seen.distinct() == commits {
                return;
            }
            sink.frame(&frame, Read::OldTail);
            seen.add(&frame);
        }
    }
}
