//! SQLite's write-ahead log, read from bytes. No I/O and no clock here, and no opinion on what a
//! commit is worth: whether SQLite has published a frame, only the wal-index can tell.
//!
//! # The format
//!
//! A header, then frames of one size. Every number is big-endian, checksums as stored included; the
//! magic only says in which byte order the *inputs* of the checksums are taken.
//!
//! ```text
//! header, 32 bytes                           frame, 24 bytes and a page
//!  0  4  magic: 377f0682, or 377f0683 where   0  4  page number, never 0
//!        checksums take words big-endian      4  4  pages in the database after this commit,
//!  4  4  version: 3007000                           or 0: the commit goes on
//!  8  4  page size, 512 to 65536              8  8  both salts of the header
//! 12  4  checkpoint sequence number          16  8  checksum: all frames up to this one
//! 16  8  two salts                           24  n  the page
//! 24  8  checksum: bytes 0 to 23
//! ```
//!
//! The checksum is a pair of sums. For each two words `a` and `b` of input, `s0 += a + s1`, then
//! `s1 += b + s0`, modulo 2^32. The header's starts from (0, 0). A frame's goes on from that of the
//! frame before it, or the header's, over its own bytes 0 to 7 and its page: so a frame is worth
//! something only behind all the frames before it. The salts are not summed, they are compared.
//!
//! # What counts
//!
//! A header counts when magic, page size, checksum and version are good, looked at in that order.
//! SQLite takes a WAL that fails one of the first three for empty, and refuses a database whose WAL
//! is sound but of another version. A frame counts when it is whole, its salts are the header's,
//! its page is not 0 and its checksum is right. The first frame that does not count ends the log,
//! whatever follows it, and what follows the last commit frame before that end was never committed.
//!
//! # What a reader may conclude
//!
//! - The log is reset by a new header, its first salt one higher, its second one random; the file
//!   keeps its length. Frames beyond the new ones keep their old salts, and can still be read from
//!   a [`Position`] and header kept from before.
//! - Salts name a generation and order nothing: a file made anew has two random ones. The sequence
//!   number may go backwards.
//! - Up to a commit that SQLite has published, bytes never change while the generation lives.
//!   Behind it anything may: a transaction rolled back is overwritten under the same salts, and so
//!   is the commit of a writer that died before it published it. Pages spilled early are rewritten
//!   in place below their old frame headers; frames that follow have zeros for salts and checksum,
//!   until the commit puts all of them right. Keep no position but a published commit's.
//! - A file system that may tear a sector gets the commit frame again and again up to the sector's
//!   end. Each copy reads as a commit; it is one, with the same page, size and data.
//! - A page may come several times in a commit: the last one counts. Pages past the commit's own
//!   size may come too: they are not part of the database.

mod write;

pub use write::Encoder;

use crate::commit::{PageNo, PageSize};
use crate::sabotage;
use std::fmt;

pub const HEADER_BYTES: usize = 32;
pub const FRAME_HEADER_BYTES: usize = 24;

/// With its last bit clear: that one is the byte order of the checksums.
const MAGIC: u32 = 0x377f_0682;
/// The only version there ever was, of SQLite 3.7.0.
const VERSION: u32 = 3_007_000;

/// Both salts, as the bytes in the file: the name of one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Salts(pub [u8; 8]);

/// The running checksum of everything up to some place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Checksum(pub [u32; 2]);

impl Checksum {
    /// The checksum further on, past `bytes`, of which there is a multiple of 8.
    #[must_use]
    fn past(self, bytes: &[u8], big_endian: bool) -> Self {
        assert!(bytes.len().is_multiple_of(8), "checksums take two words at a time");
        if big_endian {
            self.sum(bytes, |pair| u64::from_be_bytes(pair).rotate_left(32))
        } else {
            self.sum(bytes, u64::from_le_bytes)
        }
    }

    /// `load` makes a number of two words, the first one in its lower half.
    #[inline(always)]
    fn sum(self, bytes: &[u8], load: impl Fn([u8; 8]) -> u64) -> Self {
        let Self([mut s0, mut s1]) = self;
        for &pair in bytes.as_chunks().0 {
            let words = load(pair);
            s0 = s0.wrapping_add(words as u32).wrapping_add(s1);
            s1 = s1.wrapping_add((words >> 32) as u32).wrapping_add(s0);
        }
        Self([s0, s1])
    }
}

/// Why reading ended, or why there is nothing to read. None of these is an error by itself: what it
/// means depends on where it was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// The bytes end between two frames.
    Exhausted,
    /// The bytes end within a frame.
    ShortFrame,
    /// A frame of another generation, or one that a transaction still open is to write again.
    ForeignSalt,
    /// A frame for page 0, which does not exist.
    ZeroPage,
    /// A frame that is torn, damaged or does not follow the one before it.
    BadChecksum,
    /// Fewer bytes than a header has: a log that was truncated or never begun.
    ShortHeader,
    /// Not a log of SQLite.
    BadMagic,
    /// The header's page size is none of SQLite's.
    BadPageSize,
    /// The header is torn or damaged.
    BadHeaderChecksum,
    /// A sound header, but of a format made after this program.
    BadVersion,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Exhausted => "end of the WAL",
            Self::ShortFrame => "incomplete frame at the end of the WAL",
            Self::ForeignSalt => "frame with other salts than the WAL's header",
            Self::ZeroPage => "frame for page 0",
            Self::BadChecksum => "frame with a wrong checksum",
            Self::ShortHeader => "WAL shorter than its header",
            Self::BadMagic => "not a WAL: unknown magic number",
            Self::BadPageSize => "WAL header with an impossible page size",
            Self::BadHeaderChecksum => "WAL header with a wrong checksum",
            Self::BadVersion => "WAL of an unknown format version",
        })
    }
}

/// The header of one generation of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub page_size: PageSize,
    pub salts: Salts,
    /// Whether checksums take their input as big-endian words.
    pub big_endian: bool,
    pub checkpoint_seq: u32,
    pub checksum: Checksum,
}

impl Header {
    /// Reads the header that `bytes` begin with.
    pub fn parse(bytes: &[u8]) -> Result<Self, End> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(End::ShortHeader)?;
        let magic = number(bytes, 0);
        if magic & !1 != MAGIC {
            return Err(End::BadMagic);
        }
        let header = Self {
            page_size: PageSize::new(number(bytes, 8)).ok_or(End::BadPageSize)?,
            salts: Salts(array(bytes, 16)),
            big_endian: magic & 1 == 1,
            checkpoint_seq: number(bytes, 12),
            checksum: checksum(bytes, 24),
        };
        if Checksum::default().past(&bytes[..24], header.big_endian) != header.checksum {
            return Err(End::BadHeaderChecksum);
        }
        if number(bytes, 4) != VERSION { Err(End::BadVersion) } else { Ok(header) }
    }

    /// The size of a frame, its header included.
    pub fn frame_bytes(&self) -> usize {
        FRAME_HEADER_BYTES + self.page_size.bytes()
    }

    /// Where a frame, counted from 1, starts in the file.
    pub fn frame_offset(&self, frame: u32) -> u64 {
        assert!(frame > 0, "frames count from 1");
        HEADER_BYTES as u64 + u64::from(frame - 1) * self.frame_bytes() as u64
    }

    /// The place before the first frame.
    pub fn start(&self) -> Position {
        Position { frame: 0, checksum: self.checksum }
    }
}

/// A place between two frames: everything up to `frame` (0: none) was read, and `checksum` is the
/// running checksum there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub frame: u32,
    pub checksum: Checksum,
}

/// One frame that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Counted from 1.
    pub number: u32,
    pub page: PageNo,
    /// The size of the database in pages, where this frame ends a commit.
    pub commit: Option<u32>,
    pub data: &'a [u8],
    /// The place after this frame.
    pub position: Position,
}

/// The frames that count, up to the first one that does not.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    header: Header,
    position: Position,
    rest: &'a [u8],
    end: Option<End>,
}

impl<'a> Frames<'a> {
    /// Reads `bytes`, which begin right after `from` in the generation of `header`.
    pub fn new(header: &Header, from: Position, bytes: &'a [u8]) -> Self {
        Self { header: *header, position: from, rest: bytes, end: None }
    }

    /// The place after the last frame read.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Why `next` gave `None`, once it did.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    fn read(&mut self) -> Result<Frame<'a>, End> {
        let (bytes, rest) = self.split()?;
        let frame = decode(&self.header, self.position, bytes)?;
        (self.position, self.rest) = (frame.position, rest);
        Ok(frame)
    }

    fn split(&self) -> Result<(&'a [u8], &'a [u8]), End> {
        let short = if self.rest.is_empty() { End::Exhausted } else { End::ShortFrame };
        self.rest.split_at_checked(self.header.frame_bytes()).ok_or(short)
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    /// An end stays one: nothing moves past it.
    fn next(&mut self) -> Option<Frame<'a>> {
        self.read().map_err(|end| self.end = Some(end)).ok()
    }
}

impl std::iter::FusedIterator for Frames<'_> {}

/// Reads the frame that `bytes` are, `before` being the place right before it.
fn decode<'a>(header: &Header, before: Position, bytes: &'a [u8]) -> Result<Frame<'a>, End> {
    let (head, data) = bytes.split_at(FRAME_HEADER_BYTES);
    if frame_salts(head) != header.salts && !sabotage::is("ignore-salts") {
        return Err(End::ForeignSalt);
    }
    let page = frame_page(head);
    if page.0 == 0 {
        return Err(End::ZeroPage);
    }
    let sum = before.checksum.past(&head[..8], header.big_endian).past(data, header.big_endian);
    if sum != frame_checksum(head) && !sabotage::is("ignore-frame-checksums") {
        return Err(End::BadChecksum);
    }
    let number = before.frame.checked_add(1).expect("frame numbers fit 32 bits");
    let position = Position { frame: number, checksum: sum };
    Ok(Frame { number, page, commit: frame_commit(head), data, position })
}

/// The page that a frame header names, unverified.
pub fn frame_page(frame_header: &[u8]) -> PageNo {
    PageNo(number(frame_header, 0))
}

/// The size of the database after the commit that a frame header ends, if it does; unverified.
pub fn frame_commit(frame_header: &[u8]) -> Option<u32> {
    Some(number(frame_header, 4)).filter(|&pages| pages > 0)
}

/// The salts that a frame header states.
pub fn frame_salts(frame_header: &[u8]) -> Salts {
    Salts(array(frame_header, 8))
}

/// The checksum that a frame header states. Salts and checksum still being those of a remembered
/// position is proof, at the cost of 24 bytes, that the log up to there is still the same.
pub fn frame_checksum(frame_header: &[u8]) -> Checksum {
    checksum(frame_header, 16)
}

fn checksum(bytes: &[u8], at: usize) -> Checksum {
    Checksum([number(bytes, at), number(bytes, at + 4)])
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array(bytes, at))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("the caller has a whole header")
}

#[cfg(test)]
mod tests;
