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

/// Refuses to open a new file beside the WAL of the old one.
pub fn refuse_stale_wal(path: &Path, stale: Option<Identity>) -> Result<()> {
    let wal = beside(path, "-wal");
    match stale {
        Some(stale) if identity(&wal).is_ok_and(|wal| wal == stale) => {
            let cause = "the WAL beside it belongs to the file that it has replaced";
            let error: Error = failed("open", path, cause);
            Err(error.hint(format!("remove it before an application opens it: {}", wal.display())))
        }
        _ => Ok(()),
    }
}
