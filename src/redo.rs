//! Pages that are to take their place in a database file at rest, as a WAL beside it.
//!
//! The change is SQLite's own then, and as safe: once the WAL has its name, whoever opens the database
//! sees all of the new pages, and before that none. A checkpoint moves them into the file; one that
//! was cut off is done again by the next who opens it. The file alone means nothing until then, which
//! is true of any database in WAL mode.

use crate::commit::{PageNo, PageSize};
use crate::durable::{self, Overwrite};
use crate::wal::{Encoder, Salts};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use tempfile::NamedTempFile;

/// Collects the pages, under a name that SQLite does not know.
#[derive(Debug)]
pub struct Redo {
    file: BufWriter<NamedTempFile>,
    encoder: Encoder,
    /// The one added last: which frame is the last one, and ends the commit, is known at the end.
    last: Option<(PageNo, Vec<u8>)>,
    pages: u32,
}

impl Redo {
    /// `salts` name the WAL among those that the database ever has.
    pub fn new(database: &Path, page_size: PageSize, salts: [u8; 8]) -> io::Result<Self> {
        let (encoder, header) = Encoder::new(page_size, Salts(salts));
        let mut file = BufWriter::with_capacity(256 << 10, durable::temp_beside(database)?);
        file.write_all(&header)?;
        Ok(Self { file, encoder, last: None, pages: 0 })
    }

    /// Adds a page, each one once.
    pub fn add(&mut self, page: PageNo, bytes: &[u8]) -> io::Result<()> {
        self.put_last(None)?;
        self.last = Some((page, bytes.to_vec()));
        self.pages += 1;
        Ok(())
    }

    fn put_last(&mut self, commit: Option<u32>) -> io::Result<()> {
        let Some((page, bytes)) = &self.last else { return Ok(()) };
        self.file.write_all(&self.encoder.frame(*page, commit, bytes))?;
        self.file.write_all(bytes)
    }

    /// How many pages there are.
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// Ends the commit: the database has `pages` pages after it, and `bytes` are in its file before.
    ///
    /// Pages of zeros past the end need not be added, but SQLite takes a file that grows by more than the
    /// frames of its WAL for malformed. So the last page is there as often as that takes.
    pub fn finish(mut self, pages: u32, bytes: u64) -> io::Result<NamedTempFile> {
        let (_, last) = self.last.as_ref().expect("a commit has a page");
        let page_bytes = last.len() as u64;
        let growth = (u64::from(pages) * page_bytes).saturating_sub(bytes).div_ceil(page_bytes);
        for _ in u64::from(self.pages)..growth {
            self.put_last(None)?;
        }
        self.put_last(Some(pages))?;
        self.file.into_inner().map_err(io::IntoInnerError::into_error)
    }
}

/// Gives the WAL its name, which must be free.
pub fn publish(redo: NamedTempFile, name: &Path) -> io::Result<()> {
    durable::publish(redo, name, Overwrite::Never)
}
