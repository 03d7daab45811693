//! A change-set of a single commit, put to the destinations part by part as its pages come: for what
//! may be too large to be held, a large transaction or a resync. Memory follows the size of a part.
//!
//! The last part holds the commit; without it, those before it count for nothing. What becomes of
//! the page index is staged in the cursor, whose next state makes it good.

use super::Shipper;
use crate::change::{SOFT_BYTES, encode_part};
use crate::commit::{Chain, Commit, Digest, PageHash, PageNo, Timeline};
use crate::cursor::State;
use crate::error::{Error, Result, Status};
use crate::name::{Change, Name, Span};
use crate::object::Header;

/// Changes of the page index written to the cursor at a time; few, where it is tested what that leaves.
const STAGED: usize = if cfg!(test) { 16 } else { 4096 };

/// Parts grow with their number, so that 65536 of them are enough for 700 GiB of changed pages.
const PARTS_PER_SIZE: u16 = 8192;
const LARGEST: u16 = 3;

#[derive(Debug)]
pub struct Parts {
    commit: Commit,
    header: Header,
    timeline: Timeline,
    digest: Option<Digest>,
    pages: Vec<PageNo>,
    contents: Vec<u8>,
    changes: Vec<(PageNo, PageHash)>,
    part: u16,
    bytes: u64,
    changed: bool,
}

impl Parts {
    /// The change-set of `commit`, which comes after `before`, on `timeline`.
    pub fn new(before: &State, timeline: Timeline, commit: Commit) -> Self {
        let header =
            Header { page_size: before.page_size, parent: before.chain, chain: before.chain };
        Self {
            commit,
            header,
            timeline,
            digest: before.commit.digest,
            pages: Vec::new(),
            contents: Vec::new(),
            changes: Vec::new(),
            part: 0,
            bytes: 0,
            changed: false,
        }
    }

    /// Whether any page was added or changed.
    pub fn has_changes(&self) -> bool {
        self.changed
    }

    /// The state after all that was added.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Adds a page, which comes once only.
    pub fn page(
        &mut self,
        shipper: &mut Shipper,
        page: PageNo,
        bytes: &[u8],
        [old, new]: [PageHash; 2],
    ) -> Result<()> {
        let soft = SOFT_BYTES << (self.part / PARTS_PER_SIZE).min(LARGEST);
        if self.contents.len() >= soft {
            self.put(shipper, None)?;
        }
        self.change(shipper, page, [old, new])?;
        self.pages.push(page);
        self.contents.extend_from_slice(bytes);
        Ok(())
    }

    /// Takes a page's new hash into account; its bytes are in another part, or it is cut off.
    pub fn change(
        &mut self,
        shipper: &mut Shipper,
        page: PageNo,
        [old, new]: [PageHash; 2],
    ) -> Result<()> {
        self.changed = true;
        if let Some(digest) = &mut self.digest {
            digest.replace(old, new);
        }
        self.changes.push((page, new));
        if self.changes.len() >= STAGED { self.stage(shipper) } else { Ok(()) }
    }

    /// Puts the last part, and gives the commit with its digest, the lineage after it, and how many
    /// bytes all parts have.
    pub fn finish(mut self, shipper: &mut Shipper) -> Result<(Commit, Chain, u64)> {
        let commit = Commit { digest: self.digest, ..self.commit };
        self.put(shipper, Some(&commit))?;
        self.stage(shipper)?;
        Ok((commit, self.header.chain, self.bytes))
    }

    fn stage(&mut self, shipper: &mut Shipper) -> Result<()> {
        let changes = std::mem::take(&mut self.changes);
        shipper.cursor.stage(&changes).map_err(|error| shipper.cursor_error(&error))
    }

    /// Puts the part that was collected; the last one with the commit's record.
    fn put(&mut self, shipper: &Shipper, commit: Option<&Commit>) -> Result<()> {
        let Commit { number, time, .. } = self.commit;
        let span = Span { first: number, last: number, time, timeline: self.timeline };
        let change = Change { level: 0, span, part: self.part, end: commit.is_some() };
        let name = Name::Change(change);
        if let Some(commit) = commit {
            self.header.chain = self.header.parent.after(self.header.page_size, commit);
        }
        let (pages, contents) = self.sorted();
        let compression = shipper.stores.compression;
        let body = encode_part(change, &self.header, commit, &pages, &contents, compression);
        shipper.stores.put(&name, &body)?;
        self.bytes += body.len() as u64;
        self.pages.clear();
        self.contents.clear();
        self.part = self.part.checked_add(1).ok_or_else(|| {
            Error::new(Status::Failed, "put", name, "a single commit with more than 65536 parts")
        })?;
        Ok(())
    }

    fn sorted(&self) -> (Vec<PageNo>, Vec<u8>) {
        let size = self.header.page_size.bytes();
        let mut order: Vec<usize> = (0..self.pages.len()).collect();
        order.sort_unstable_by_key(|&at| self.pages[at]);
        let contents = order.iter().flat_map(|&at| &self.contents[at * size..][..size]);
        let contents = contents.copied().collect();
        (order.iter().map(|&at| self.pages[at]).collect(), contents)
    }
}
