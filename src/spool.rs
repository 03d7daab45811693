//! The spool: change-sets that a destination still lacks, as local files, one directory for each
//! destination. What is in there outlives the daemon, so that a destination that was away for days
//! gets every commit; a bound keeps it from filling the disk.
//!
//! A file is an object's body under its name, with `_` for each slash. It is durable before the
//! cursor says that its commits are taken care of.

use crate::commit::CommitNo;
use crate::durable;
use crate::name::Name;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
}

/// Below a state directory.
const DIR: &str = "spool";
const MARK: &str = "behind";

impl Spool {
    /// The spool of the destination that is called `place`. Nothing is made before it is needed.
    pub fn new(state_dir: &Path, place: &str) -> Self {
        let hash = blake3::hash(place.as_bytes()).to_hex();
        Self { dir: state_dir.join(DIR).join(&hash[..16]) }
    }

    /// Removes what a crash left unfinished. Only for the one that writes: another process may look at
    /// the spool at any time.
    pub fn tidy(&self) -> io::Result<()> {
        for file in self.files()? {
            if file.file_name().to_string_lossy().starts_with(durable::TEMP_PREFIX) {
                fs::remove_file(file.path())?;
            }
        }
        Ok(())
    }

    fn files(&self) -> io::Result<Vec<fs::DirEntry>> {
        match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            entries => entries?.collect(),
        }
    }

    /// What the destination lacks, in the order in which it was stored, with its sizes.
    pub fn pending(&self) -> io::Result<BTreeMap<Name, u64>> {
        let mut pending = BTreeMap::new();
        for file in self.files()? {
            let name = file.file_name().to_string_lossy().replace('_', "/");
            let Ok(name) = name.parse::<Name>() else { continue };
            if let Some(bytes) = size(file.metadata())? {
                pending.insert(name, bytes);
            }
        }
        Ok(pending)
    }

    pub fn add(&self, name: &Name, body: &[u8]) -> io::Result<()> {
        durable::make_dirs(&self.dir)?;
        match durable::create(&self.path(name), body) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            created => created,
        }
    }

    pub fn read(&self, name: &Name) -> io::Result<Vec<u8>> {
        fs::read(self.path(name))
    }

    /// The destination has it. A file that a crash brings back is put once more.
    pub fn remove(&self, name: &Name) -> io::Result<()> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Whether the destination lacks commits up to `upto`.
    pub fn owes(&self, upto: CommitNo) -> io::Result<bool> {
        let early = |name: &Name| matches!(name, Name::Change(change) if change.span.first <= upto);
        // In this order: what is dropped is marked before.
        Ok(self.pending()?.keys().any(early) || self.is_marked())
    }

    /// Notes that the destination lacks more than is in here.
    pub fn mark(&self) -> io::Result<()> {
        durable::make_dirs(&self.dir)?;
        match durable::create(&self.dir.join(MARK), b"") {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            created => created,
        }
    }

    pub fn is_marked(&self) -> bool {
        self.dir.join(MARK).exists()
    }

    pub fn unmark(&self) -> io::Result<()> {
        match fs::remove_file(self.dir.join(MARK)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn path(&self, name: &Name) -> PathBuf {
        self.dir.join(name.to_string().replace('/', "_"))
    }
}

/// `None`: it was put and removed since it was listed.
fn size(found: io::Result<fs::Metadata>) -> io::Result<Option<u64>> {
    match found {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        found => found.map(|found| Some(found.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::{CommitNo, Time, Timeline};
    use crate::name::{Change, Span};

    fn name(number: u64, part: u16) -> Name {
        let number = CommitNo(number);
        let span = Span { first: number, last: number, time: Time(5), timeline: Timeline(1) };
        Name::Change(Change { level: 0, span, part, end: part == 2 })
    }

    #[test]
    fn what_is_pending_survives_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let spool = || Spool::new(dir.path(), "file:///a");
        assert!(spool().pending().unwrap().is_empty());
        for (number, part) in [(300, 2), (2, 2), (2, 1), (20, 2)] {
            spool().add(&name(number, part), &[7; 10]).unwrap();
        }
        spool().add(&name(2, 1), b"again").unwrap();
        fs::write(spool().dir.join(".tmp-x"), b"torn").unwrap();
        let order = [name(2, 1), name(2, 2), name(20, 2), name(300, 2)];
        assert!(spool().pending().unwrap().into_keys().eq(order));
        assert_eq!(spool().read(&name(2, 1)).unwrap(), [7; 10]);
        assert!(Spool::new(dir.path(), "file:///b").pending().unwrap().is_empty());
        assert!(spool().dir.join(".tmp-x").exists(), "its writer may be at work");
        spool().tidy().unwrap();
        assert!(!spool().dir.join(".tmp-x").exists());
        assert_eq!(spool().pending().unwrap().len(), 4);
        spool().remove(&name(2, 1)).unwrap();
        spool().remove(&name(2, 1)).unwrap();
        assert_eq!(spool().pending().unwrap().len(), 3);
    }

    #[test]
    fn a_destination_is_owed_what_is_pending_or_marked() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::new(dir.path(), "file:///a");
        let owes = |upto| spool.owes(CommitNo(upto)).unwrap();
        spool.add(&name(5, 2), b"x").unwrap();
        assert_eq!([4, 5, 6].map(owes), [false, true, true]);
        spool.mark().unwrap();
        spool.mark().unwrap();
        assert!(spool.is_marked() && owes(0));
        assert_eq!(spool.pending().unwrap(), [(name(5, 2), 1)].into(), "the mark is no object");
        spool.unmark().unwrap();
        spool.unmark().unwrap();
        assert!(!spool.is_marked() && !owes(4) && owes(5));
    }

    #[test]
    fn what_was_removed_meanwhile_is_not_pending_and_what_cannot_be_read_is_an_error() {
        let error = |kind: ErrorKind| size(Err(kind.into()));
        assert_eq!(error(ErrorKind::NotFound).unwrap(), None);
        let denied = error(ErrorKind::PermissionDenied).unwrap_err();
        assert_eq!(denied.kind(), ErrorKind::PermissionDenied);
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("it"), b"four").unwrap();
        assert_eq!(size(fs::metadata(dir.path().join("it"))).unwrap(), Some(4));
    }

    /// One that cannot be read or written is not one where nothing is owed.
    #[test]
    fn a_spool_that_cannot_be_used_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::new(dir.path(), "file:///a");
        let (name, step) = (name(5, 2), durable::Step::Sync);
        spool.mark().unwrap();
        spool.unmark().unwrap();
        let full = durable::fault::fail(step, 1, 28);
        assert_eq!(spool.add(&name, b"x").unwrap_err().kind(), ErrorKind::StorageFull);
        drop(full);
        let full = durable::fault::fail(step, 1, 28);
        assert_eq!(spool.mark().unwrap_err().kind(), ErrorKind::StorageFull);
        drop(full);
        fs::create_dir(spool.path(&name)).unwrap();
        fs::create_dir(spool.dir.join(MARK)).unwrap();
        assert!(spool.remove(&name).is_err() && spool.unmark().is_err());
        fs::remove_dir_all(&spool.dir).unwrap();
        fs::write(&spool.dir, "a file in the way").unwrap();
        assert!(
            spool.pending().is_err() && spool.tidy().is_err() && spool.owes(CommitNo(9)).is_err()
        );
    }
}
