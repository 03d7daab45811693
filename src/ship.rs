//! Makes what was captured durable, in this order: objects on every destination, the cursor, the page
//! index. So a crash between any two of these loses nothing that was acknowledged, and an object
//! that the cursor does not know of is passed over by the next timeline.
//!
//! Whatever fails here can be called again with the same batch: an object that is already there with
//! the same bytes counts as stored. It knows no WAL and never waits for a retry.

use crate::backend::{Backend, Kind};
use crate::capture::{Batch, Capture, Changes, Large, RawPart};
use crate::change::{SOFT_BYTES, encode_part};
use crate::commit::{Commit, Digest, PageHash, PageNo, Timeline};
use crate::cursor::{Cursor, State};
use crate::durable;
use crate::error::{Error, Result, Status};
use crate::index::Index;
use crate::name::{Change, Name, Span};
use crate::object::{Compression, Header};
use crate::snapshot::encode_part as encode_snapshot_part;
use crate::source::Trouble;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Changes of the page index written to the cursor at a time.
const STAGED: usize = 4096;

/// The destinations of one database, and its local state.
#[derive(Debug)]
pub struct Shipper {
    pub stores: Arc<Stores>,
    state_dir: PathBuf,
    cursor: Cursor,
    index: Arc<Index>,
}

/// Where the objects of one database go.
pub struct Stores {
    pub destinations: Vec<Arc<dyn Backend>>,
    pub compression: Compression,
}

impl std::fmt::Debug for Stores {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_list().entries(self.destinations.iter().map(ToString::to_string)).finish()
    }
}

/// A batch on its way, encoded once however often it is tried.
#[derive(Debug)]
pub struct Parcel {
    pub batch: Batch,
    encoded: Option<(Name, Vec<u8>)>,
    /// How many of the destinations have the change-set.
    stored: usize,
}

impl Parcel {
    pub fn new(batch: Batch) -> Self {
        Self { batch, encoded: None, stored: 0 }
    }
}

impl Stores {
    /// Stores an object on every destination. One that is there already with the same bytes was
    /// stored by us, its reply lost; other bytes mean that somebody else writes this replica.
    pub fn put(&self, name: &Name, body: &[u8]) -> Result<()> {
        self.destinations.iter().try_for_each(|destination| put(&**destination, name, body))
    }

    /// Stores a part of a snapshot. It is named by its content: one that is there is the same.
    pub fn put_part(&self, raw: &RawPart) -> Result<()> {
        let RawPart { part, page_size, bytes } = raw;
        let body = encode_snapshot_part(*part, *page_size, bytes, self.compression);
        let name = Name::Part(*part);
        self.destinations.iter().try_for_each(|destination| match destination.put(&name, &body) {
            Err(error) if error.kind == Kind::Exists => Ok(()),
            result => result.map_err(Error::from),
        })
    }
}

fn put(destination: &dyn Backend, name: &Name, body: &[u8]) -> Result<()> {
    match destination.put(name, body) {
        Err(error) if error.kind == Kind::Exists => {
            if destination.get(name)? == body {
                return Ok(());
            }
            let cause = "another daemon has stored other commits there";
            let error = Error::new(Status::Locked, "put", format!("{destination}/{name}"), cause);
            Err(error
                .hint("let only one daemon write a replica; give this one another destination"))
        }
        result => result.map_err(Error::from),
    }
}

impl Shipper {
    pub fn new(stores: Arc<Stores>, state_dir: &Path, index: Arc<Index>) -> Self {
        let cursor = Cursor::new(cursor_path(state_dir));
        Self { stores, state_dir: state_dir.to_owned(), cursor, index }
    }

    /// Ships a batch: after `Ok`, all of it is durable and the cursor says so.
    pub fn ship(&mut self, parcel: &mut Parcel) -> Result<()> {
        let Parcel { batch, encoded, stored } = parcel;
        if let Some(changes) = batch.changes.take() {
            *encoded = Some(changes.encode(batch.state.timeline, self.stores.compression));
        }
        if let Some((name, body)) = &encoded {
            for destination in &self.stores.destinations[*stored..] {
                put(&**destination, name, body)?;
                *stored += 1;
            }
        }
        if let Some(manifest) = &batch.manifest {
            self.stores.put(&manifest.name(), &manifest.encode(self.stores.compression))?;
        }
        let anew = batch.manifest.is_some();
        self.record(&batch.state, &batch.index, anew)
    }

    /// The cursor first, then the page index: the cursor's changes bring the index along.
    fn record(&mut self, state: &State, changes: &Changes, anew: bool) -> Result<()> {
        let mut list: Vec<_> = changes.iter().map(|(page, hash)| (*page, *hash)).collect();
        if anew {
            // The hashes of a snapshot's pages are in the index alone.
            self.replace_cursor(state, &list)?;
        } else {
            self.write_cursor(state, &list)?;
        }
        self.index
            .set_all(&mut list)
            .map_err(|error| Error::io("write", self.state_dir.join("index").display(), &error))
    }

    fn write_cursor(&mut self, state: &State, changes: &[(PageNo, PageHash)]) -> Result<()> {
        if self.cursor.is_long() {
            return self.replace_cursor(state, changes);
        }
        self.cursor.append(state, changes).map_err(|error| self.cursor_error(&error))
    }

    fn replace_cursor(&mut self, state: &State, changes: &[(PageNo, PageHash)]) -> Result<()> {
        let synced = durable::sync_data(self.index.file());
        let written = synced.and_then(|()| self.cursor.replace(state, changes));
        written.map_err(|error| self.cursor_error(&error))
    }

    /// Ships a transaction too large to be held. An error of `Status::Integrity` means that it cannot
    /// be tried again: the database has to be taken up anew. Reads it back from the pinned WAL, newest frame
    /// first, so that the first version of a page that is met is the one that counts. Memory follows
    /// the size of a part, plus one bit for each page of the database.
    pub fn ship_large(&mut self, capture: &mut Capture, before: &State) -> Result<State> {
        let large = capture.large().expect("called for one").clone();
        if self.cursor.is_long() {
            self.write_cursor(before, &[])?;
        }
        let mut writer = LargeWriter::new(self, &large, before);
        let mut failed = None;
        let read = capture.source.read_back(large.frames.clone(), &mut |page, bytes| {
            writer.page(page, bytes).map_err(|error| {
                failed = Some(error);
                Trouble::Lost("it could not be shipped")
            })
        });
        match (failed, read) {
            (Some(error), _) => return Err(error),
            (None, read) => read.map_err(|trouble| unreadable(&trouble))?,
        }
        let state = capture.large_state(writer.finish(capture.last())?);
        // Appended however long the cursor is: a new one would hold none of the changes staged.
        self.cursor.append(&state, &[]).map_err(|error| self.cursor_error(&error))?;
        capture.large_shipped(&state);
        self.redo()?;
        Ok(state)
    }

    fn cursor_error(&self, error: &std::io::Error) -> Error {
        Error::io("write", cursor_path(&self.state_dir).display(), error)
    }

    /// Makes the changes that the cursor holds in the page index. Where that fails, only taking the
    /// database up again brings the two to agree.
    fn redo(&self) -> Result<()> {
        let index = &self.index;
        let made = crate::cursor::load(&cursor_path(&self.state_dir), |changes| {
            changes.iter().try_for_each(|(page, hash)| index.set(*page, *hash))
        });
        made.map(drop).map_err(|error| {
            let index = self.state_dir.join("index");
            Error::new(Status::Integrity, "write", index.display(), error)
        })
    }
}

pub fn cursor_path(state_dir: &Path) -> PathBuf {
    state_dir.join("cursor")
}

fn unreadable(trouble: &Trouble) -> Error {
    Error::new(Status::Integrity, "capture", "a large transaction", trouble)
}

/// Writes the parts of one large transaction's change-set.
struct LargeWriter<'a> {
    shipper: &'a mut Shipper,
    large: &'a Large,
    header: Header,
    timeline: Timeline,
    digest: Option<Digest>,
    seen: Vec<u64>,
    pages: Vec<PageNo>,
    contents: Vec<u8>,
    changes: Vec<(PageNo, PageHash)>,
    part: u16,
}

impl<'a> LargeWriter<'a> {
    fn new(shipper: &'a mut Shipper, large: &'a Large, before: &State) -> Self {
        let header =
            Header { page_size: before.page_size, parent: large.parent, chain: large.parent };
        Self {
            shipper,
            large,
            header,
            timeline: before.timeline,
            digest: before.commit.digest,
            seen: vec![0; large.commit.pages as usize / 64 + 1],
            pages: Vec::new(),
            contents: Vec::new(),
            changes: Vec::new(),
            part: 0,
        }
    }

    fn page(&mut self, page: PageNo, bytes: &[u8]) -> Result<()> {
        let (word, bit) = (page.0 as usize / 64, 1 << (page.0 % 64));
        if page.0 > self.large.commit.pages || self.seen[word] & bit != 0 {
            return Ok(());
        }
        self.seen[word] |= bit;
        if self.contents.len() >= SOFT_BYTES {
            self.put(None)?;
        }
        self.change(page, PageHash::of(page, bytes))?;
        self.pages.push(page);
        self.contents.extend_from_slice(bytes);
        Ok(())
    }

    fn change(&mut self, page: PageNo, new: PageHash) -> Result<()> {
        let failed = |error| Error::io("update", "the page index", &error);
        let old = self.shipper.index.get(page).map_err(failed)?;
        if let Some(digest) = &mut self.digest {
            digest.replace(old, new);
        }
        self.changes.push((page, new));
        if self.changes.len() >= STAGED {
            self.shipper.cursor.stage(&std::mem::take(&mut self.changes)).map_err(failed)?;
        }
        Ok(())
    }

    /// Puts the part that was collected; the last one with the commit's record.
    fn put(&mut self, commit: Option<&Commit>) -> Result<()> {
        let Commit { number, time, .. } = self.large.commit;
        let span = Span { first: number, last: number, time, timeline: self.timeline };
        let change = Change { level: 0, span, part: self.part, end: commit.is_some() };
        if let Some(commit) = commit {
            self.header.chain = self.large.parent.after(self.header.page_size, commit);
        }
        let (pages, contents) = self.sorted();
        let compression = self.shipper.stores.compression;
        let body = encode_part(change, &self.header, commit, &pages, &contents, compression);
        self.shipper.stores.put(&Name::Change(change), &body)?;
        self.pages.clear();
        self.contents.clear();
        self.part = self.part.checked_add(1).expect("65536 parts hold 256 GiB");
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

    /// Puts the last part. Pages that the transaction cut off count as zeros from now on.
    fn finish(mut self, last: &Commit) -> Result<Option<Digest>> {
        for page in self.large.commit.pages + 1..=last.pages {
            self.change(PageNo(page), PageHash::default())?;
        }
        let commit = Commit { digest: self.digest, ..self.large.commit };
        self.put(Some(&commit))?;
        let changes = std::mem::take(&mut self.changes);
        let staged = self.shipper.cursor.stage(&changes);
        staged.map_err(|error| self.shipper.cursor_error(&error))?;
        Ok(self.digest)
    }
}

#[cfg(test)]
mod tests;
