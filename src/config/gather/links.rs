//! Names in directories that lead to one file, which is one database, by one name.
//!
//! That is the file's own, not a link's. Of several that are no links, or all are, it is the one that is
//! backed up already, else where there is a WAL, else the oldest: what comes later takes no name away.

use super::{Database, Error, Status};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A file of a directory, and the database that it is.
pub struct Found {
    /// Where it stands among all.
    pub order: usize,
    pub file: PathBuf,
    pub database: Database,
}

/// A name that is passed over.
#[derive(Debug)]
pub struct Link {
    /// What its database would be called.
    pub name: String,
    /// Whose other name it is.
    pub told: Error,
}

/// One of each file, in their order, and the other names.
pub fn apart(found: Vec<Found>) -> (Vec<Found>, Vec<Link>) {
    let mut files: BTreeMap<(u64, u64), Vec<Found>> = BTreeMap::new();
    for it in found {
        // One that is gone again is none.
        if let Ok(file) = fs::metadata(&it.file) {
            files.entry((file.dev(), file.ino())).or_default().push(it);
        }
    }
    let (mut kept, mut links) = (Vec::new(), Vec::new());
    for mut names in files.into_values() {
        names.sort_by_cached_key(Found::rank);
        let others = names.split_off(1);
        let own = names.remove(0);
        links
            .extend(others.into_iter().filter(|it| it.file != own.file).map(|it| it.link_to(&own)));
        kept.push(own);
    }
    kept.sort_unstable_by_key(|it| it.order);
    links.sort_unstable_by(|one, other| one.told.message.cmp(&other.told.message));
    (kept, links)
}

impl Found {
    /// The least one stays.
    fn rank(&self) -> (bool, bool, bool, Option<SystemTime>, usize) {
        let name = fs::symlink_metadata(&self.file).ok();
        let is_link = name.as_ref().is_some_and(fs::Metadata::is_symlink);
        let made = name.and_then(|name| name.modified().ok());
        let has_state = self.database.state_dir.is_dir();
        (is_link, !has_state, !wal_beside(&self.file).exists(), made, self.order)
    }

    fn link_to(self, own: &Self) -> Link {
        let cause = format!("passed over: it is the same file as {}", own.file.display());
        let told = Error::new(Status::Missing, "config", self.file.display(), cause);
        let called = &own.database.name;
        let told = told.hint(format!("it is backed up as {called}; a pattern can leave it out"));
        Link { name: self.database.name, told }
    }
}

fn wal_beside(file: &Path) -> PathBuf {
    let mut wal = OsString::from(file);
    wal.push("-wal");
    wal.into()
}
