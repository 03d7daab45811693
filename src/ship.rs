//! Makes what was captured durable, in this order: objects on the destinations, a look whether they
//! still count, the cursor, the page index. So a crash between any two of these loses nothing that was
//! acknowledged, and objects that the cursor does not know of are adopted by the next start.
//!
//! # Fencing
//!
//! Who takes a replica up claims the next timeline, and then lists it: whatever was stored before the
//! claim is gone on from. Who ships looks for that claim after its objects are stored, and before it
//! acknowledges them. So either the newcomer has found them, or they are never acknowledged, and their
//! writer stops.
//!
//! Whatever fails here can be called again with the same batch: an object that is already there with
//! the same bytes counts as stored. It knows no WAL and never waits for a retry. But after an error of
//! `Status::Integrity` the database has to be taken up anew.

mod parts;
mod resync;

use crate::capture::{Batch, Capture, Changes};
use crate::commit::{PageHash, PageNo, Time};
use crate::cursor::{self, Cursor, State};
use crate::error::{Error, Result, Status};
use crate::fanout::Fanout;
use crate::index::Index;
use crate::name::Name;
use crate::source::Trouble;
use parts::Parts;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use resync::{Healed, Resync};

/// The destinations of one database, and its local state.
#[derive(Debug)]
pub struct Shipper {
    pub stores: Arc<Fanout>,
    state_dir: PathBuf,
    cursor: Cursor,
    index: Arc<Index>,
}

/// A batch on its way, encoded once however often it is tried.
#[derive(Debug)]
pub struct Parcel {
    pub batch: Batch,
    encoded: Option<(Name, Vec<u8>)>,
}

impl Parcel {
    pub fn new(batch: Batch) -> Self {
        Self { batch, encoded: None }
    }
}

impl Shipper {
    pub fn new(stores: Arc<Fanout>, state_dir: &Path, index: Arc<Index>) -> Self {
        let cursor = Cursor::new(cursor_path(state_dir));
        Self { stores, state_dir: state_dir.to_owned(), cursor, index }
    }

    /// Ships a batch: after `Ok`, all of it is durable and the cursor says so.
    pub fn ship(&mut self, parcel: &mut Parcel) -> Result<()> {
        let Parcel { batch, encoded } = parcel;
        if let Some(changes) = batch.changes.take() {
            *encoded = Some(changes.encode(batch.state.timeline, self.stores.compression));
        }
        if let Some((name, body)) = &encoded {
            self.stores.put(name, body)?;
        }
        if let Some(manifest) = &batch.manifest {
            self.stores.put(&manifest.name(), &manifest.encode(self.stores.compression))?;
        }
        if encoded.is_none() && batch.manifest.is_none() {
            self.stores.still_ours(batch.state.timeline)?;
        }
        let anew = batch.manifest.is_some();
        self.record(&batch.state, &batch.index, anew)
    }

    /// The cursor first, then the page index: the cursor's changes bring the index along.
    pub fn record(&mut self, state: &State, changes: &Changes, anew: bool) -> Result<()> {
        let mut list: Vec<_> = changes.iter().map(|(page, hash)| (*page, *hash)).collect();
        if anew {
            // The hashes of a snapshot's pages are in the index alone.
            self.replace_cursor(state, &list)?;
        } else {
            self.write_cursor(state, &list)?;
        }
        self.index.set_all(&mut list).map_err(|error| self.index_error("write", &error))
    }

    fn write_cursor(&mut self, state: &State, changes: &[(PageNo, PageHash)]) -> Result<()> {
        if self.cursor.is_long() {
            return self.replace_cursor(state, changes);
        }
        self.cursor.append(state, changes).map_err(|error| self.cursor_error(&error))
    }

    /// The page index first, since the new cursor has nothing of what the old one would make again. Where
    /// that fails, nobody knows what of the index lasts, nor what can be read from it: the next life makes
    /// the changes again, from the cursor that there is.
    fn replace_cursor(&mut self, state: &State, changes: &[(PageNo, PageHash)]) -> Result<()> {
        self.index.sync().map_err(|error| self.unsure("sync", &error))?;
        self.cursor.replace(state, changes).map_err(|error| self.cursor_error(&error))
    }

    /// Ships a transaction too large to be held. Reads it back from the pinned WAL, newest frame
    /// first, so that the first version of a page that is met is the one that counts. Memory follows
    /// the size of a part, plus one bit for each page of the database.
    pub fn ship_large(&mut self, capture: &mut Capture, before: &State) -> Result<State> {
        let shipped = self.try_large(capture, before);
        // The next state may be one before it.
        shipped.inspect_err(|_| self.cursor.take_back())
    }

    fn try_large(&mut self, capture: &mut Capture, before: &State) -> Result<State> {
        let large = capture.large().expect("called for one").clone();
        if self.cursor.is_long() {
            self.write_cursor(before, &[])?;
        }
        let mut parts = Parts::new(before, before.timeline, large.commit);
        let mut seen = vec![0u64; large.commit.pages as usize / 64 + 1];
        let mut failed = None;
        let read = capture.source.read_back(large.frames.clone(), &mut |page, bytes| {
            let (word, bit) = (page.0 as usize / 64, 1 << (page.0 % 64));
            if page.0 > large.commit.pages || seen[word] & bit != 0 {
                return Ok(());
            }
            seen[word] |= bit;
            self.add(&mut parts, page, bytes).map_err(|error| {
                failed = Some(error);
                Trouble::Lost("it could not be shipped")
            })
        });
        match (failed, read) {
            (Some(error), _) => return Err(error),
            (None, read) => read.map_err(|trouble| unreadable(&trouble))?,
        }
        self.cut(&mut parts, large.commit.pages, capture.last().pages)?;
        let (commit, ..) = parts.finish(self)?;
        let state = capture.large_state(commit.digest);
        // Appended however long the cursor is: a new one would hold none of the changes staged.
        self.cursor.append(&state, &[]).map_err(|error| self.cursor_error(&error))?;
        capture.large_shipped(&state);
        self.redo()?;
        Ok(state)
    }

    fn add(&mut self, parts: &mut Parts, page: PageNo, bytes: &[u8]) -> Result<()> {
        let old = self.index.get(page).map_err(|error| self.index_error("read", &error))?;
        parts.page(self, page, bytes, [old, PageHash::of(page, bytes)])
    }

    /// Pages past `end` that were there before count as zeros from now on.
    fn cut(&mut self, parts: &mut Parts, end: u32, before: u32) -> Result<()> {
        for page in (end + 1..=before).map(PageNo) {
            let old = self.index.get(page).map_err(|error| self.index_error("read", &error))?;
            if old != PageHash::default() {
                parts.change(self, page, [old, PageHash::default()])?;
            }
        }
        Ok(())
    }

    fn index_error(&self, operation: &str, error: &std::io::Error) -> Error {
        Error::io(operation, self.state_dir.join("index").display(), error)
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
        made.map(drop).map_err(|error| self.unsure("write", &error))
    }

    /// What the page index holds is not known any more.
    fn unsure(&self, operation: &str, error: &std::io::Error) -> Error {
        Error { status: Status::Integrity, ..self.index_error(operation, error) }
    }
}

pub fn cursor_path(state_dir: &Path) -> PathBuf {
    state_dir.join("cursor")
}

/// Whether a snapshot was shipped that this state directory tells of. One that cannot be read may.
pub fn may_have_shipped(state_dir: &Path) -> bool {
    let state = cursor::state(&cursor_path(state_dir));
    state.map_or(true, |state| state.is_some_and(|state| state.snapshot > Time(0)))
}

/// It cannot be tried again: the database has to be taken up anew.
fn unreadable(trouble: &Trouble) -> Error {
    Error::new(Status::Integrity, "capture", "a large transaction", trouble)
}

#[cfg(test)]
mod tests;
