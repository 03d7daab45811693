//! Frames and pages of a pinned WAL, read in large pieces.

use super::{Mark, READ_BYTES, Source, Trouble};
use crate::commit::PageNo;
use crate::sqlite::Session;
use crate::wal::{self, End, FRAME_HEADER_BYTES, Frame, Frames, Position};
use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::Range;
use std::path::Path;

/// A read transaction: while it lasts, no frame that was published after it began is moved into the
/// database file.
#[derive(Debug)]
pub struct Still {
    _session: Session,
    /// Frames that were in the database file when it began. What is counted as moved later may not
    /// be: a checkpoint that has to stop at our frames passes over a page that a later frame holds.
    backfilled: u32,
}

impl Source {
    /// Reads frames up to number `upto`, in large pieces.
    pub(super) fn read(
        &self,
        header: &wal::Header,
        from: Position,
        upto: u32,
        each: &mut dyn FnMut(&Frame) -> Go,
    ) -> Result<Reached, Trouble> {
        let frame_bytes = header.frame_bytes();
        let per_read = (READ_BYTES / frame_bytes).max(1) as u32;
        let mut at = from; // every frame read
        let mut committed = from; // every frame up to the last commit
        let mut buffer = Vec::new();
        while at.frame < upto {
            let count = per_read.min(upto - at.frame);
            buffer.resize(count as usize * frame_bytes, 0);
            let read = self.handles.read_wal(&mut buffer, header.frame_offset(at.frame + 1))?;
            let mut frames = Frames::new(header, at, &buffer[..read]);
            for frame in frames.by_ref() {
                let go = each(&frame);
                if frame.commit.is_some() {
                    committed = frame.position;
                }
                if go == Go::Stop && frame.position.frame < upto {
                    return Ok(Reached::Stopped(committed));
                }
            }
            at = frames.position();
            if frames.end() != Some(End::Exhausted) || read < buffer.len() {
                let end = frames.end().unwrap_or(End::Exhausted);
                return Ok(Reached::Broken(committed, end));
            }
        }
        Ok(Reached::All(at))
    }

    #[expect(clippy::type_complexity, reason = "it is said once")]
    /// Reads the frames `frames` in reverse, without looking at checksums: they were read before, and
    /// are pinned. For a transaction too large to be held.
    pub fn read_back(
        &self,
        frames: Range<u32>,
        each: &mut dyn FnMut(PageNo, &[u8]) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        let header = self.header(self.mark.salts)?;
        let header = header.ok_or(Trouble::Lost("the WAL was reset under a pin"))?;
        let frame_bytes = header.frame_bytes();
        let per_read = (READ_BYTES / frame_bytes).max(1) as u32;
        let mut end = frames.end;
        let mut buffer = Vec::new();
        while end > frames.start {
            let start = end.saturating_sub(per_read).max(frames.start);
            buffer.resize((end - start) as usize * frame_bytes, 0);
            let read = self.handles.read_wal(&mut buffer, header.frame_offset(start))?;
            if read < buffer.len() {
                return Err(Trouble::Corrupt(start, End::ShortFrame));
            }
            for frame in buffer.chunks(frame_bytes).rev() {
                let [a, b, c, d] = [frame[0], frame[1], frame[2], frame[3]];
                each(PageNo(u32::from_be_bytes([a, b, c, d])), &frame[FRAME_HEADER_BYTES..])?;
            }
            end = start;
        }
        // A reset writes the header before any frame: if it is still there, so was all that was read.
        self.header(self.mark.salts)?
            .map(drop)
            .ok_or(Trouble::Lost("the WAL was reset under a pin"))
    }

    /// Begins anew at what is published now, and keeps the database at `path`, which is this one,
    /// as it is at the mark for `read_pages`. Returns its size in pages. `None` if no read mark is
    /// free to be pinned.
    pub fn still(&mut self, path: &Path) -> Result<Option<(Still, u32)>, Trouble> {
        if !self.hold()? {
            return Ok(None);
        }
        let failed = |error| Trouble::Io(io::Error::other(error));
        let session = Session::open(path).map_err(failed)?;
        if self.steady_look().is_none() {
            // Its writer has left it torn, and whoever reads next recovers it.
            session.begin_read().and_then(|()| session.end()).map_err(failed)?;
        }
        let Some(before) = self.steady_look() else { return Ok(None) };
        session.begin_read().map_err(failed)?;
        // No earlier than the transaction: what it lets into the file lies at or before the mark.
        let pages = self.rebase()?;
        if self.mark.salts != before.salts {
            return Err(Trouble::Lost("the WAL was reset under a pin"));
        }
        self.check()?;
        Ok(Some((Still { _session: session, backfilled: before.backfilled }, pages)))
    }

    /// Checks the frames of the living generation up to the mark: those that are read for a page are
    /// read without the ones before them, which their checksums build on.
    fn check(&self) -> Result<(), Trouble> {
        let Mark { salts, position, .. } = self.mark;
        let header = match self.header(salts)? {
            Some(header) => header,
            None if position.frame == 0 => return Ok(()),
            None => return Err(Trouble::Corrupt(1, End::BadMagic)),
        };
        match self.read(&header, header.start(), position.frame, &mut |_| Go::On)? {
            Reached::Broken(position, end) => Err(Trouble::Corrupt(position.frame + 1, end)),
            Reached::All(_) | Reached::Stopped(_) => Ok(()),
        }
    }

    /// Whether the frame at the mark is in the file as it was captured. Frames are written from the first on,
    /// those of a transaction that is not over as well: while this one stands, none behind it was
    /// overwritten.
    pub(super) fn mark_stands(&self, header: &wal::Header) -> io::Result<bool> {
        let Position { frame, checksum } = self.mark.position;
        let mut bytes = [0; FRAME_HEADER_BYTES];
        Ok(frame > 0
            && self.handles.read_wal(&mut bytes, header.frame_offset(frame))? == bytes.len()
            && wal::frame_salts(&bytes) == self.mark.salts
            && wal::frame_checksum(&bytes) == checksum)
    }

    /// Reads the pages `pages` as of the mark into `bytes`. A page that a later commit has changed may
    /// come as that commit left it, or torn: the caller captures that commit too, before it counts on
    /// the page. Needs a pin.
    pub fn read_pages(&self, pages: Range<u32>, bytes: &mut [u8]) -> Result<(), Trouble> {
        let look =
            self.steady_look().ok_or(Trouble::Lost("the wal-index does not come to rest"))?;
        self.read_over(look.backfilled, pages, bytes)
    }

    /// Reads the pages `pages` just as they were at the mark where `still` began.
    pub fn read_still(
        &self,
        still: &Still,
        pages: Range<u32>,
        bytes: &mut [u8],
    ) -> Result<(), Trouble> {
        self.read_over(still.backfilled, pages, bytes)
    }

    /// Reads pages from the database file, and over them the frames after `backfilled`.
    fn read_over(
        &self,
        backfilled: u32,
        pages: Range<u32>,
        bytes: &mut [u8],
    ) -> Result<(), Trouble> {
        let size = self.page_size.bytes();
        assert_eq!(bytes.len(), pages.len() * size, "room for just these pages");
        let overlay = self.overlay(backfilled, &pages)?;
        let read = self.handles.read_database(bytes, self.page_size.offset(PageNo(pages.start)))?;
        bytes[read..].fill(0);
        if overlay.is_empty() {
            return Ok(());
        }
        let header = self.header(self.mark.salts)?;
        let header = header.ok_or(Trouble::Corrupt(1, End::BadMagic))?;
        for (page, frame) in overlay {
            let place = (page - pages.start) as usize * size;
            let offset = header.frame_offset(frame) + FRAME_HEADER_BYTES as u64;
            let read = self.handles.read_wal(&mut bytes[place..place + size], offset)?;
            if read < size {
                return Err(Trouble::Corrupt(frame, End::ShortFrame));
            }
        }
        Ok(())
    }

    /// The first of `pages`, read as of the mark, that no commit after it has changed or cut off: however
    /// long the reading took, they are as they were at the mark. Needs a pin.
    pub fn unchanged(&self, pages: &[PageNo]) -> Result<Option<PageNo>, Trouble> {
        let look = self.steady_look().filter(|look| look.salts == self.mark.salts);
        let header = self.header(self.mark.salts)?;
        let Some((look, header)) = look.zip(header).filter(|_| !pages.is_empty()) else {
            return Ok(None);
        };
        let (mut changed, mut least) = (HashSet::new(), look.pages);
        for frame in self.mark.position.frame + 1..=look.frames {
            changed.insert(self.frame_page(frame)?);
            let mut bytes = [0; FRAME_HEADER_BYTES];
            self.handles.read_wal(&mut bytes, header.frame_offset(frame))?;
            least = wal::frame_commit(&bytes).map_or(least, |pages| least.min(pages));
        }
        let left = |page: &&PageNo| page.0 <= least && !changed.contains(&page.0);
        Ok(pages.iter().find(left).copied())
    }

    /// For each of `pages` that a frame after `backfilled` and up to the mark holds, its last one.
    fn overlay(&self, backfilled: u32, pages: &Range<u32>) -> Result<HashMap<u32, u32>, Trouble> {
        let captured = self.mark.position.frame;
        let mut held = HashMap::new();
        for frame in backfilled.min(captured) + 1..=captured {
            let page = self.frame_page(frame)?;
            if pages.contains(&page) {
                held.insert(page, frame);
            }
        }
        Ok(held)
    }

    /// The page that a frame of the living generation holds, as the wal-index has it.
    fn frame_page(&self, frame: u32) -> Result<u32, Trouble> {
        let page = self.handles.frame_page(frame);
        page.ok_or_else(|| Trouble::Io(io::Error::other("its wal-index cannot be mapped")))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Go {
    On,
    Stop,
}

pub(super) enum Reached {
    All(Position),
    /// As asked, after a commit.
    Stopped(Position),
    /// A frame did not read; up to the last commit before it.
    Broken(Position, End),
}
