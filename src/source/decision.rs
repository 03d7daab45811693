//! What a look at the wal-index means: the decision, as a table.

use crate::wal::{Checksum, Position, Salts};
use std::cmp::Ordering;

/// The wal-index header, as last published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// SQLite's own count of commits; wraps.
    pub change: u32,
    /// The last published frame.
    pub frames: u32,
    /// The database's size in pages; 0 where no frame has told it yet.
    pub pages: u32,
    /// Of the last published frame.
    pub checksum: Checksum,
    pub salts: Salts,
    /// Frames that a checkpoint has moved into the database.
    pub backfilled: u32,
}

/// How far a database was captured: a place in one generation of its WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub salts: Salts,
    pub position: Position,
    pub big_endian: bool,
    /// SQLite's count of commits there.
    pub change: u32,
}

impl Mark {
    /// No place at all: no WAL goes on from there, since no generation has salts of zero.
    pub const NOWHERE: Self = Self {
        salts: Salts([0; 8]),
        position: Position { frame: 0, checksum: Checksum([0; 2]) },
        big_endian: false,
        change: 0,
    };
}

/// What a look at the wal-index means, given how far was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A writer is in the middle of publishing: look again.
    Torn,
    Nothing,
    /// More frames in the same generation.
    Commits,
    /// The wal-index was rebuilt by recovery, which restarts the count.
    Rebuilt,
    /// A new generation.
    Reset,
    /// Frames that were published are gone.
    Shrunk,
}

/// What makes a row of the decision: `None` stands for either.
pub(super) struct Row {
    readable: bool,
    same_salts: Option<bool>,
    frames: Option<Ordering>,
    counted: Option<bool>,
    seen: Seen,
}

/// Exactly one row matches whatever is seen; a test tries all.
pub(super) const DECISION: [Row; 7] = {
    use Ordering::{Equal, Greater, Less};
    const fn row(same: bool, frames: Option<Ordering>, counted: Option<bool>, seen: Seen) -> Row {
        Row { readable: true, same_salts: Some(same), frames, counted, seen }
    }
    [
        Row { readable: false, same_salts: None, frames: None, counted: None, seen: Seen::Torn },
        row(true, Some(Equal), Some(false), Seen::Nothing),
        row(true, Some(Greater), Some(true), Seen::Commits),
        row(true, Some(Greater), Some(false), Seen::Rebuilt),
        row(true, Some(Equal), Some(true), Seen::Rebuilt),
        row(true, Some(Less), None, Seen::Shrunk),
        row(false, None, None, Seen::Reset),
    ]
};

impl Row {
    pub(super) fn matches(
        &self,
        readable: bool,
        same: bool,
        frames: Ordering,
        counted: bool,
    ) -> bool {
        self.readable == readable
            && self.same_salts.is_none_or(|want| want == same)
            && self.frames.is_none_or(|want| want == frames)
            && self.counted.is_none_or(|want| want == counted)
    }
}

pub(super) fn decide(look: Option<&Look>, mark: &Mark) -> Seen {
    let (same, frames, counted) = look.map_or((false, Ordering::Equal, false), |look| {
        let frames = look.frames.cmp(&mark.position.frame);
        (look.salts == mark.salts, frames, look.change != mark.change)
    });
    let row = DECISION.iter().find(|row| row.matches(look.is_some(), same, frames, counted));
    row.expect("the decision covers everything").seen
}

/// Whether a wal-index header is initialised, of the known version, and gives its own checksum.
pub(super) fn is_sound(header: &[u32; 12]) -> bool {
    const VERSION: u32 = 3_007_000;
    let mut sums = (0u32, 0u32);
    for pair in header[..10].chunks(2) {
        sums.0 = sums.0.wrapping_add(pair[0]).wrapping_add(sums.1);
        sums.1 = sums.1.wrapping_add(pair[1]).wrapping_add(sums.0);
    }
    let [initialised, ..] = header[3].to_ne_bytes();
    header[0] == VERSION && initialised != 0 && sums == (header[10], header[11])
}
