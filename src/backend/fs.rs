//! A replica in a directory: the object `change/0/…` is the file `change/0/…` below its root.
//!
//! Holds no descriptor between calls, and never makes the directory above the root: where a disk is
//! not mounted there must be an error, not a replica in the mount point.

mod list;

use super::{Backend, Error, Kind, Listing, NONE_HERE};
use crate::durable;
use crate::error::way_out;
use crate::name::Name;
use crate::sabotage;
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// How many objects a listing shows at a time: some 2 MiB, and a directory of a million is read a
/// hundred times.
const PAGE: usize = 10_000;

/// So much of a file is compared at a time.
const PIECE: usize = 128 << 10;

/// Directories below the root that can hold a name of ours: `change/0`. Deeper ones are foreign.
const DEPTH: usize = 2;

#[derive(Debug)]
pub struct Fs {
    root: PathBuf,
    page: usize,
    /// Directories known to be there for good. Each is made at the first put that needs it.
    made: Mutex<BTreeSet<PathBuf>>,
}

impl Fs {
    /// A replica that must be there. Changes nothing: a restore may read from a read-only disk.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let fs = Self { root: root.to_path_buf(), page: PAGE, made: Mutex::default() };
        fs.check_root().map_err(|cause| Error {
            hint: Some(NONE_HERE.to_owned()),
            ..fs.error("open", "", &cause)
        })?;
        Ok(fs)
    }

    /// A replica that may be new: the directory is made, the one above it must be there.
    pub fn create(root: &Path) -> Result<Self, Error> {
        let fs = Self { root: root.to_path_buf(), page: PAGE, made: Mutex::default() };
        durable::make_dir(root).map_err(|cause| fs.error("create", "", &cause))?;
        Ok(fs)
    }

    /// With fewer objects to a page of a listing.
    #[must_use]
    pub fn with_page(self, page: usize) -> Self {
        Self { page, ..self }
    }

    /// Clears up after a writer that died, for the next writer to call before it lists: what a
    /// listing then shows is durable, and unfinished files are gone.
    ///
    /// Those of a writer still alive go too. They cannot be told apart without trusting clocks, and
    /// need not be: its put fails, nothing is stored, and it puts again.
    pub fn tidy(&self) -> Result<(), Error> {
        Name::PREFIXES.iter().try_for_each(|prefix| {
            self.tidy_dir(&self.root.join(prefix.trim_end_matches('/')), 1)
                .map_err(|cause| self.error("tidy", prefix, &cause))
        })
    }

    fn tidy_dir(&self, dir: &Path, depth: usize) -> io::Result<()> {
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return self.check_root(),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let (path, found) = (entry.path(), entry.file_type());
            let is_file = found.as_ref().is_ok_and(fs::FileType::is_file);
            if is_file && is_temp(&entry.file_name().to_string_lossy()) {
                self.remove(&path)?;
            } else if depth < DEPTH && list::is_dir(&path, found)? == Some(true) {
                self.tidy_dir(&path, depth + 1)?;
            }
        }
        durable::sync_dir(dir)
    }

    fn path(&self, name: &Name) -> PathBuf {
        self.root.join(name.to_string())
    }

    fn check_root(&self) -> io::Result<()> {
        match fs::metadata(&self.root) {
            Ok(metadata) if metadata.is_dir() => Ok(()),
            Ok(_) => Err(ErrorKind::NotADirectory.into()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(io::Error::new(ErrorKind::NotFound, "destination is not there"))
            }
            Err(error) => Err(error),
        }
    }

    /// Makes the directories between the root and an object, never the root.
    fn make_dirs(&self, dir: &Path) -> io::Result<()> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.contains(dir) {
            return Ok(());
        }
        let below = dir.strip_prefix(&self.root).expect("names are relative");
        let mut path = self.root.clone();
        for part in below.components() {
            path.push(part);
            durable::make_dir(&path)?;
        }
        made.insert(path);
        Ok(())
    }

    fn write(
        &self,
        name: &Name,
        body: &[u8],
        write: fn(&Path, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let path = self.path(name);
        self.make_dirs(durable::parent(&path))
            .and_then(|()| write(&path, body))
            .map_err(|error| self.explain_missing(error))
    }

    /// A file that is absent counts as removed, but not where the whole destination is.
    fn remove(&self, path: &Path) -> io::Result<()> {
        match durable::remove(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => self.check_root(),
            removed => removed,
        }
    }

    /// A directory that vanished under a put: somebody wiped the destination, and another put makes
    /// it again; or the destination itself is gone.
    fn explain_missing(&self, error: io::Error) -> io::Error {
        if error.kind() != ErrorKind::NotFound {
            return error;
        }
        self.made.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.check_root().err().unwrap_or_else(|| {
            io::Error::new(ErrorKind::ResourceBusy, "removed by somebody while being written")
        })
    }

    fn list_page(&self, prefix: &str, after: Option<&Name>) -> io::Result<Listing> {
        assert!(Name::PREFIXES.iter().any(|known| prefix.starts_with(known)), "{prefix}");
        self.check_root()?;
        let after = after.map(Name::to_string).unwrap_or_default();
        list::page(&self.root, prefix, &after, self.page)
    }

    /// The directories right below, whatever they are.
    pub fn below(&self) -> Result<Vec<String>, Error> {
        let names = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(&self.root)? {
                let entry = entry?;
                if entry.path().is_dir() {
                    names.extend(entry.file_name().into_string());
                }
            }
            Ok(names)
        };
        names().map_err(|cause| self.error("list", "", &cause))
    }

    fn unread(&self, name: &Name, cause: &io::Error) -> Error {
        match self.check_root() {
            // The object is not known to be absent.
            Err(gone) => Error { kind: Kind::Other, ..self.error("get", &name.to_string(), &gone) },
            Ok(()) => self.error("get", &name.to_string(), cause),
        }
    }

    fn error(&self, operation: &'static str, name: &str, cause: &io::Error) -> Error {
        Error {
            operation,
            place: self.to_string(),
            name: name.to_owned(),
            kind: kind(cause),
            cause: cause.to_string(),
            hint: way_out(cause).map(str::to_owned),
        }
    }
}

impl fmt::Display for Fs {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.root.display().fmt(f)
    }
}

impl Backend for Fs {
    fn put(&self, name: &Name, body: &[u8]) -> Result<(), Error> {
        let put = if sabotage::is("put-overwrites") { durable::replace } else { durable::create };
        self.write(name, body, put).map_err(|cause| self.error("put", &name.to_string(), &cause))
    }

    fn replace(&self, name: &Name, body: &[u8]) -> Result<(), Error> {
        self.write(name, body, durable::replace)
            .map_err(|cause| self.error("replace", &name.to_string(), &cause))
    }

    fn renew(&self, _: &Name) -> Result<(), Error> {
        Ok(())
    }

    fn get(&self, name: &Name) -> Result<Vec<u8>, Error> {
        read_whole(&self.path(name)).map_err(|cause| self.unread(name, &cause))
    }

    fn holds(&self, name: &Name, body: &[u8]) -> Result<bool, Error> {
        is_same(&self.path(name), body).map_err(|cause| self.unread(name, &cause))
    }

    fn start(&self, name: &Name, bytes: usize) -> Result<Vec<u8>, Error> {
        let mut start = Vec::new();
        let file = fs::File::open(self.path(name));
        let read = file.and_then(|file| file.take(bytes as u64).read_to_end(&mut start));
        read.map_err(|cause| self.unread(name, &cause))?;
        Ok(start)
    }

    fn list(&self, prefix: &str, after: Option<&Name>) -> Result<Listing, Error> {
        self.list_page(prefix, after).map_err(|cause| self.error("list", prefix, &cause))
    }

    fn delete(&self, name: &Name) -> Result<(), Error> {
        self.remove(&self.path(name))
            .map_err(|cause| self.error("delete", &name.to_string(), &cause))
    }
}

fn is_temp(file_name: &str) -> bool {
    file_name.starts_with(durable::TEMP_PREFIX)
}

fn read_whole(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = fs::File::open(path)?;
    let metadata = file.metadata()?;
    let mut body = Vec::with_capacity(metadata.len() as usize);
    file.read_to_end(&mut body)?;
    if body.len() as u64 != metadata.len() && !sabotage::is("accept-short-file") {
        let cause = format!("{} bytes read of {}", body.len(), metadata.len());
        return Err(io::Error::new(ErrorKind::UnexpectedEof, cause));
    }
    Ok(body)
}

/// Compares piece by piece, so that what is read stays in a core's cache.
fn is_same(path: &Path, mut body: &[u8]) -> io::Result<bool> {
    let mut file = fs::File::open(path)?;
    let mut piece = Vec::with_capacity(PIECE);
    loop {
        piece.clear();
        file.by_ref().take(PIECE as u64).read_to_end(&mut piece)?;
        if piece.is_empty() {
            return Ok(body.is_empty());
        }
        match body.strip_prefix(&piece[..]) {
            Some(rest) => body = rest,
            None => return Ok(false),
        }
    }
}

/// What a caller can do about an error of the system.
fn kind(error: &io::Error) -> Kind {
    use ErrorKind::*;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    match error.kind() {
        NotFound => Kind::NotFound,
        AlreadyExists => Kind::Exists,
        PermissionDenied | ReadOnlyFilesystem => Kind::Denied,
        StorageFull | QuotaExceeded | FileTooLarge => Kind::Full,
        UnexpectedEof => Kind::Corrupt,
        TimedOut
        | Interrupted
        | WouldBlock
        | ResourceBusy
        | OutOfMemory
        | StaleNetworkFileHandle => Kind::Transient,
        _ if matches!(error.raw_os_error(), Some(ENFILE | EMFILE)) => Kind::Transient,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests;
