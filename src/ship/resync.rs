//! Heals by difference: the database as it is now is compared with the page index, page by page, and
//! those that differ become one commit, which stands for all that was not seen.
//!
//! It is read at one commit: a read transaction keeps checkpoints from moving later frames into the
//! file, and the pin keeps the WAL. Both last as long as the reading does. When something fails
//! before the last part is put, nothing has changed, and it begins again under another name.
//!
//! The digest of what was read has to be that of the commit before with what differed: else the page
//! index was not at that commit, and what seemed to be known was not.

use super::{Parts, Shipper};
use crate::capture::Capture;
use crate::commit::{Digest, PageHash, PageNo, Time, Timeline};
use crate::cursor::State;
use crate::error::{Error, Result, Status};
use crate::sabotage;
use crate::source::{Still, Trouble};
use std::path::Path;

/// Bytes of pages read and compared at a time.
const CHUNK_BYTES: usize = 4 << 20;
/// Chunks compared before the loop hears how far it is.
const CHUNKS: usize = 16;

#[derive(Debug)]
pub struct Resync {
    still: Still,
    base: State,
    parts: Parts,
    timeline: Timeline,
    /// The size of the database, and the next page to be compared.
    pages: u32,
    next: u32,
    /// Of the pages that were read.
    digest: Digest,
    differing: u64,
}

/// What a resync came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Healed {
    /// Pages that differed.
    pub pages: u64,
    /// Bytes put to each destination.
    pub bytes: u64,
}

impl Resync {
    /// Takes up what is published now, to be compared with the page index, which is at `base`.
    pub fn begin(
        shipper: &mut Shipper,
        capture: &mut Capture,
        base: &State,
        database: &Path,
        clock: impl FnOnce() -> Time,
    ) -> Result<Self> {
        // Where the cursor is lost, or older than the page index, it does not tell what of that lasts.
        let index = shipper.index.set_again();
        index.map_err(|error| shipper.index_error("write", &error))?;
        // What an earlier try has staged must not be made good by this one.
        shipper.replace_cursor(base, &[])?;
        let still = capture.still(database).map_err(|trouble| unreadable(&trouble))?;
        let Some((still, pages)) = still else {
            let cause = "every read mark of the WAL is in use by an application";
            return Err(Error::new(Status::Failed, "resync", database.display(), cause));
        };
        let timeline = capture.state().timeline;
        let parts = Parts::new(base, timeline, capture.resync_commit(pages, clock()));
        let digest = Digest::default();
        Ok(Self { still, base: *base, parts, timeline, pages, next: 1, digest, differing: 0 })
    }

    /// Pages compared, and all.
    pub fn progress(&self) -> (u32, u32) {
        (self.next - 1, self.pages)
    }

    /// Compares some more pages, and puts those that differ. Whether all were compared.
    pub fn step(&mut self, shipper: &mut Shipper, capture: &Capture) -> Result<bool> {
        let size = self.base.page_size.bytes();
        let per_chunk = (CHUNK_BYTES / size) as u32;
        let mut bytes = vec![0; CHUNK_BYTES];
        for _ in 0..CHUNKS {
            let count = per_chunk.min(self.pages + 1 - self.next);
            if count == 0 {
                return Ok(true);
            }
            let bytes = &mut bytes[..count as usize * size];
            let range = self.next..self.next + count;
            let read = capture.source.read_still(&self.still, range.clone(), bytes);
            read.map_err(|trouble| unreadable(&trouble))?;
            let known = shipper.index.range(PageNo(self.next), count as usize);
            let known = known.map_err(|error| shipper.index_error("read", &error))?;
            let hashes = hashes(self.next, bytes, size);
            for ((page, bytes), (old, new)) in
                range.zip(bytes.chunks(size)).zip(known.into_iter().zip(hashes))
            {
                let skipped = sabotage::is("resync-skips-pages") && page % 8 == 3;
                self.digest.replace(PageHash::default(), if skipped { old } else { new });
                if old != new && !skipped {
                    self.differing += 1;
                    self.parts.page(shipper, PageNo(page), bytes, [old, new])?;
                }
            }
            self.next += count;
        }
        Ok(self.next > self.pages)
    }

    /// Ends it, when all were compared: the commit is put, if there is anything to be put, and the
    /// cursor stands where the reading began. After an error of `Status::Integrity` the commit may be
    /// stored and may be not: only a new start finds out.
    pub fn finish(self, shipper: &mut Shipper, capture: &mut Capture) -> Result<Healed> {
        self.end(shipper, capture).map_err(|error| match error.status {
            Status::Locked => error,
            _ => Error { status: Status::Integrity, ..error },
        })
    }

    fn end(self, shipper: &mut Shipper, capture: &mut Capture) -> Result<Healed> {
        let Self { base, mut parts, timeline, pages, digest, differing, .. } = self;
        shipper.cut(&mut parts, pages, base.commit.pages)?;
        if parts.digest() != Some(digest) {
            let cause = format!("it is not at commit {}", base.commit.number);
            return Err(Error::new(Status::Integrity, "compare", "the page index", cause));
        }
        let same = !parts.has_changes() && pages == base.commit.pages;
        let mut bytes = 0;
        let (commit, chain) = if same {
            shipper.stores.still_ours(timeline)?;
            (base.commit, base.chain)
        } else {
            let (commit, chain, put) = parts.finish(shipper)?;
            bytes = put;
            (commit, chain)
        };
        let state = capture.resynced(commit, chain);
        // Appended however long the cursor is: a new one would hold none of the changes staged.
        shipper.cursor.append(&state, &[]).map_err(|error| shipper.cursor_error(&error))?;
        shipper.redo()?;
        Ok(Healed { pages: differing, bytes })
    }
}

fn unreadable(trouble: &Trouble) -> Error {
    Error::new(Status::Failed, "resync", "the database", trouble)
}

/// The hashes of consecutive pages.
fn hashes(first: u32, bytes: &[u8], size: usize) -> Vec<PageHash> {
    let pages = (first..).map(PageNo).zip(bytes.chunks(size));
    pages.map(|(page, bytes)| PageHash::of(page, bytes)).collect()
}
