//! The end of a WAL that was reset before all of it was read: what is left of it, and how much of that
//! was ever published.
//!
//! # The count
//!
//! SQLite's counter says how many commits were published. Those of the new generation can be read
//! whole; the others must be in the tail, and there may be one more, the last, whose writer died before
//! it was published. A commit frame that repeats the one before it, page and bytes, is a copy that fills
//! up a sector, counted with the first, or a commit of its own that changed nothing: the bytes do not
//! tell. Where that leaves more than one answer, none is given and the caller heals.

use super::{Read, Sink, Trouble};
use crate::commit::PageNo;
use crate::sabotage;
use crate::wal::{self, End, Frame, Frames, Position, Salts};

/// How many commits some frames hold.
#[derive(Default)]
pub struct Commits {
    all: u32,
    repeated: u32,
    /// How many of them repeat each other at the end.
    run: u32,
    last: Option<(PageNo, u32)>,
    data: Vec<u8>,
}

impl Commits {
    pub fn add(&mut self, frame: &Frame) {
        let this = frame.commit.map(|pages| (frame.page, pages));
        if this.is_some() {
            let again = this == self.last && self.data == frame.data;
            self.all += 1;
            self.repeated += u32::from(again);
            self.run = if again { self.run + 1 } else { 1 };
            self.data.clear();
            self.data.extend_from_slice(frame.data);
        }
        self.last = this;
    }

    /// Commit frames, copies included.
    pub fn all(&self) -> u32 {
        self.all
    }

    /// Whether some may be copies of others, or changed nothing.
    pub fn has_copies(&self) -> bool {
        self.repeated > 0
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
    /// `bytes` were read from right after `from` on, none of them overwritten if it is `intact`. Where the
    /// file ends with them, `journal_size_limit` may have cut it off, between two frames as well.
    pub fn new(header: wal::Header, from: Position, bytes: Vec<u8>, intact: bool) -> Self {
        let mut frames = Frames::new(&header, from, &bytes);
        frames.by_ref().for_each(drop);
        let cut = matches!(frames.end(), Some(End::ShortFrame | End::Exhausted));
        let known = if intact && !cut { Known::Whole } else { Known::Nothing };
        Self { header, from, bytes, known, next: false }
    }

    /// That of a generation of which all was captured before it ended.
    pub fn empty(header: wal::Header, from: Position) -> Self {
        Self { header, from, bytes: Vec::new(), known: Known::Empty, next: false }
    }

    /// Notes what came after it. A reset adds 1 to the first salt.
    pub fn is_followed_by(&mut self, salts: Salts) {
        let [first, next] = [self.header.salts, salts]
            .map(|Salts([a, b, c, d, ..])| u32::from_be_bytes([a, b, c, d]));
        self.next = next == first.wrapping_add(1);
        if self.known == Known::Whole && !self.next {
            self.known = Known::Nothing;
        }
    }

    fn frames(&self) -> Frames<'_> {
        Frames::new(&self.header, self.from, &self.bytes)
    }

    /// How many of its commits were published, repetitions aside, if SQLite's count was `before` where it
    /// begins, and is `count` with those in `fresh`.
    pub fn wanted(&self, before: u32, count: u32, fresh: &Commits) -> Result<u32, Trouble> {
        let mut mine = Commits::default();
        self.frames().for_each(|frame| mine.add(&frame));
        if sabotage::is("skip-count") {
            return Ok(mine.distinct());
        }
        // A recovery begins the count anew: all of it may be of these here.
        let anew = count >= before && count <= mine.all + fresh.all;
        if anew && self.known != Known::Empty {
            return Err(Trouble::Lost("the count of commits may have been restarted"));
        }
        let advance = count.wrapping_sub(before);
        let most = advance.checked_sub(fresh.distinct());
        let most = most.ok_or(Trouble::Lost("the count of commits was restarted"))?;
        let least = advance.saturating_sub(fresh.all);
        if mine.all < least {
            return Err(Trouble::Lost("the WAL was reset before its end was read"));
        }
        // What is seen of it, or that without its last transaction.
        let all = mine.distinct() <= most;
        let but_last = mine.all > 0 && mine.distinct() - 1 <= most && least <= mine.all - mine.run;
        let hidden = self.known == Known::Nothing && most > mine.distinct();
        let wanted = match (all, but_last) {
            (true, false) => mine.distinct(),
            (false, true) => mine.distinct() - 1,
            (true, true) => {
                let why = "the count of commits fits more than one end of the old WAL";
                return Err(Trouble::Lost(why));
            }
            (false, false) => return Err(Trouble::Lost("the count of commits was restarted")),
        };
        match wanted == 0 || self.next {
            true if !hidden => Ok(wanted),
            _ => Err(Trouble::Lost("what was left of the old WAL may not be all of it")),
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
