//! Which files a database is made of, by device and inode: whether they are still those that were
//! opened.
//!
//! SQLite takes whatever WAL lies beside a database for its own. So does whoever opens a new file
//! while the WAL of the old one is still there, and what that makes of it is neither of the two.

use super::{Handles, PageSize, failed, open_database};
use crate::error::{Error, Result};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Device and inode.
pub type Identity = (u64, u64);

/// The files of an open database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Files {
    pub database: Identity,
    pub wal: Identity,
    pub shm: Identity,
}

impl Files {
    /// Those that are at `path` now.
    pub fn at(path: &Path) -> io::Result<Self> {
        Ok(Self {
            database: identity(path)?,
            wal: identity(&beside(path, "-wal"))?,
            shm: identity(&beside(path, "-shm"))?,
        })
    }

    /// Whether these are the ones at `path` now, where they were opened. Another connection there takes what
    /// lies at the path for the database: a WAL that is left of these, beside a file that has taken its place.
    pub fn are_still_at(self, path: &Path) -> bool {
        Self::at(path).is_ok_and(|now| now == self)
    }
}

pub fn identity(path: &Path) -> io::Result<Identity> {
    let metadata = path.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Opens a database, and says which files just those are that were opened.
pub fn open_identified(path: &Path) -> Result<(Handles, PageSize, Files)> {
    const TRIES: u32 = 100;
    for _ in 0..TRIES {
        let before = identity(path).ok();
        let (handles, page_size) = open_database(path)?;
        // An open database has all three, and nobody who heeds SQLite's rules removes them.
        let files = Files::at(path).ok().filter(|files| before == Some(files.database));
        if let Some(files) = files {
            return Ok((handles, page_size, files));
        }
    }
    Err(failed("open", path, "its files are being replaced"))
}

/// Refuses to open a database whose files, `before` as they were opened last, are just being replaced.
///
/// A new file beside the WAL of the old one: both would be taken for one database. The old file
/// without its WAL: a new one would be made for it, and be found beside the file that comes next.
pub fn refuse_half_replaced(path: &Path, before: Files) -> Result<()> {
    let wal = beside(path, "-wal");
    let same_file = identity(path).is_ok_and(|now| now == before.database);
    let (cause, hint) = match (same_file, identity(&wal).ok()) {
        (true, None) => (
            "its WAL was removed while it was open",
            "it is taken up when it is replaced, or when an application opens it".into(),
        ),
        (false, Some(now)) if now == before.wal => (
            "the WAL beside it belongs to the file that it has replaced",
            format!("remove it before an application opens the new file: {}", wal.display()),
        ),
        _ => return Ok(()),
    };
    Err(Error::hint(failed("open", path, cause), hint))
}
