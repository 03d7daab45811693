//! A replica in a directory: the object `change/0/…` is the file `change/0/…` below its root.
//!
//! Holds no descriptor between calls, and never makes the directory above the root: where a disk is
//! not mounted there must be an error, not a replica in the mount point.

mod list;

use super::{Backend, Error, Kind, Listing};
use crate::durable;
use crate::name::Name;
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// How many objects a listing shows at a time: some 2 MiB, and a directory of a million is read a
/// hundred times.
const PAGE: usize = 10_000;

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
        fs.check_root().map_err(|cause| fs.error("open", "", &cause))?;
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
            let path = entry.path();
            if is_temp(&entry.file_name().to_string_lossy()) && entry.file_type()?.is_file() {
                self.remove(&path)?;
            } else if depth < DEPTH && path.is_dir() {
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

    fn error(&self, operation: &'static str, name: &str, cause: &io::Error) -> Error {
        Error {
            operation,
            place: self.to_string(),
            name: name.to_owned(),
            kind: kind(cause),
            cause: cause.to_string(),
            hint: None,
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
        self.write(name, body, durable::create)
            .map_err(|cause| self.error("put", &name.to_string(), &cause))
    }

    fn replace(&self, name: &Name, body: &[u8]) -> Result<(), Error> {
        self.write(name, body, durable::replace)
            .map_err(|cause| self.error("replace", &name.to_string(), &cause))
    }

    fn renew(&self, _: &Name) -> Result<(), Error> {
        Ok(())
    }

    fn get(&self, name: &Name) -> Result<Vec<u8>, Error> {
        read_whole(&self.path(name)).map_err(|cause| match self.check_root() {
            // The object is not known to be absent.
            Err(gone) => Error { kind: Kind::Other, ..self.error("get", &name.to_string(), &gone) },
            Ok(()) => self.error("get", &name.to_string(), &cause),
        })
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
    if body.len() as u64 != metadata.len() {
        let cause = format!("{} bytes read of {}", body.len(), metadata.len());
        return Err(io::Error::new(ErrorKind::UnexpectedEof, cause));
    }
    Ok(body)
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
mod tests {
    use super::*;
    use crate::backend::conformance::change;
    use crate::durable::Step::{self, *};
    use crate::durable::fault;
    use std::env;
    use std::process::Command;
    use tempfile::TempDir;

    const EIO: i32 = 5;
    const ENOSPC: i32 = 28;
    const EDQUOT: i32 = 122;

    fn replica() -> (TempDir, Fs) {
        let dir = tempfile::tempdir().unwrap();
        let fs = Fs::open(dir.path()).unwrap();
        (dir, fs)
    }

    /// Every file below a directory, those that listings leave out too.
    fn files(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
        let mut files: Vec<_> = entries
            .flat_map(|entry| match entry.path() {
                path if path.is_dir() => files(&path),
                path => vec![path.file_name().unwrap().to_str().unwrap().to_owned()],
            })
            .collect();
        files.sort();
        files
    }

    fn listed(fs: &Fs) -> Vec<Name> {
        let listing = fs.list(Name::CHANGES, None).unwrap();
        assert_eq!(listing.foreign, [""; 0]);
        listing.entries.into_iter().map(|entry| entry.name).collect()
    }

    /// The first put of a replica: makes `change`, then `change/0`, then the file.
    const FIRST_PUT: [(Step, u64); 9] = [
        (MakeDir, 1),
        (SyncDir, 1),
        (MakeDir, 2),
        (SyncDir, 2),
        (Create, 1),
        (Write, 1),
        (Sync, 1),
        (Rename, 1),
        (SyncDir, 3),
    ];

    /// A put fails at its `nth` step of a kind, leaves nothing, and the same put then succeeds.
    fn check_failed_put((step, nth): (Step, u64), errno: i32, expected: Kind) {
        let (dir, fs) = replica();
        let name = change(0, 1);
        let watch = fault::fail(step, nth, errno);
        let error = fs.put(&name, b"body").unwrap_err();
        assert_eq!(error.kind, expected, "{step:?} {nth}: {error}");
        drop(watch);
        assert_eq!(files(dir.path()), [""; 0], "{step:?} {nth}");
        assert_eq!(fs.get(&name).unwrap_err().kind, Kind::NotFound);
        assert_eq!(listed(&fs), []);
        fs.put(&name, b"body").unwrap();
        assert_eq!(fs.get(&name).unwrap(), b"body");
    }

    #[test]
    fn trap_56_disk_full() {
        for step in FIRST_PUT {
            check_failed_put(step, ENOSPC, Kind::Full);
            check_failed_put(step, EDQUOT, Kind::Full);
        }
    }

    /// The same without pretence: the kernel takes the first bytes of a body and no more. A limit
    /// on the size of files does that for any user; it holds for a process, so the test runs itself.
    #[test]
    fn trap_56_the_kernel_takes_half_a_body() {
        const LIMITED: &str = "BAKELITE_TEST_LIMITED";
        if env::var_os(LIMITED).is_some() {
            return put_past_the_limit();
        }
        let test = "backend::fs::tests::trap_56_the_kernel_takes_half_a_body";
        // The limit is in blocks of 512 or 1024 bytes. A process that ignores its signal is told by
        // an error.
        let script = format!("trap '' XFSZ && ulimit -f 64 && exec \"$0\" --exact {test}");
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(script).arg(env::current_exe().unwrap()).env(LIMITED, "1");
        let output = shell.output().unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}");
    }

    fn put_past_the_limit() {
        let (dir, fs) = replica();
        let error = fs.put(&change(0, 1), &[7; 200_000]).unwrap_err();
        assert_eq!(error.kind, Kind::Full, "{error}");
        assert_eq!(files(dir.path()), [""; 0]);
        fs.put(&change(0, 1), &[7; 10_000]).unwrap();
    }

    #[test]
    fn trap_57_fsync_eio_is_final() {
        for step in FIRST_PUT {
            check_failed_put(step, EIO, Kind::Other);
        }
    }

    #[test]
    fn trap_58_denied_and_out_of_means() {
        const EPERM: i32 = 1;
        const ENOMEM: i32 = 12;
        const EACCES: i32 = 13;
        const ENFILE: i32 = 23;
        const EMFILE: i32 = 24;
        const EROFS: i32 = 30;
        const ESTALE: i32 = 116;
        let errors = [
            (Kind::Denied, [EPERM, EACCES, EROFS].as_slice()),
            (Kind::Transient, &[ENOMEM, ENFILE, EMFILE, ESTALE]),
        ];
        for (expected, errno) in
            errors.iter().flat_map(|(k, all)| all.iter().map(move |e| (*k, *e)))
        {
            for step in FIRST_PUT {
                check_failed_put(step, errno, expected);
            }
        }
    }

    /// Errors that even root gets. Above all, what is in the way is not an object that exists.
    #[test]
    fn trap_58_something_else_in_the_way() {
        let (dir, fs) = replica();
        fs::write(dir.path().join("change"), b"").unwrap();
        assert_eq!(fs.put(&change(0, 1), b"").unwrap_err().kind, Kind::Other);
        assert_eq!(fs.get(&change(0, 1)).unwrap_err().kind, Kind::Other);
        assert_eq!(fs.list(Name::CHANGES, None).unwrap_err().kind, Kind::Other);
        assert_eq!(fs.delete(&change(0, 1)).unwrap_err().kind, Kind::Other);
        std::os::unix::fs::symlink("part", dir.path().join("part")).unwrap();
        let error = fs.list(Name::PARTS, None).unwrap_err();
        assert_eq!(error.kind, Kind::Other, "{error}");
        assert_eq!(Fs::open(&dir.path().join("change")).unwrap_err().kind, Kind::Other);
        assert_eq!(Fs::create(&dir.path().join("change")).unwrap_err().kind, Kind::Other);
    }

    #[test]
    fn trap_59_new_directories_are_synced_too() {
        let (dir, fs) = replica();
        let put = [Create, Write, Sync, Rename, SyncDir];
        let check = |level, first, expected: &[Step]| {
            let watch = fault::watch();
            fs.put(&change(level, first), b"").unwrap();
            let steps = watch.steps().into_iter().map(|(step, _)| step).collect::<Vec<_>>();
            assert_eq!(steps, expected);
        };
        check(0, 1, &[&[MakeDir, SyncDir, MakeDir, SyncDir], &put[..]].concat());
        check(0, 2, &put);
        check(1, 1, &[&[MakeDir, SyncDir, MakeDir, SyncDir], &put[..]].concat());
        let watch = fault::watch();
        fs.delete(&change(0, 1)).unwrap();
        let last = watch.steps().pop();
        assert_eq!(last, Some((SyncDir, dir.path().join("change/0"))));
    }

    #[test]
    fn trap_83_a_disk_that_is_not_mounted() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("disk/app.db");
        let missing = |error: Error| {
            assert_eq!(error.kind, Kind::NotFound, "{error}");
            assert_eq!(files(dir.path()), [""; 0]);
            assert!(!root.exists());
        };
        missing(Fs::open(&root).unwrap_err());
        missing(Fs::create(&root).unwrap_err());
        fs::create_dir(dir.path().join("disk")).unwrap();
        missing(Fs::open(&root).unwrap_err());
        let fs = Fs::create(&root).unwrap();
        fs.put(&change(0, 1), b"x").unwrap();
        fs::rename(dir.path().join("disk"), dir.path().join("gone")).unwrap();
        for error in [
            fs.put(&change(0, 2), b"").unwrap_err(),
            fs.put(&change(1, 1), b"").unwrap_err(),
            fs.list(Name::PARTS, None).unwrap_err(),
            fs.delete(&change(0, 1)).unwrap_err(),
            fs.tidy().unwrap_err(),
        ] {
            assert_eq!(error.kind, Kind::NotFound, "{error}");
        }
        let error = fs.get(&change(0, 1)).unwrap_err();
        assert_eq!(error.kind, Kind::Other, "the object may well exist");
        assert!(error.to_string().ends_with("destination is not there"), "{error}");
        assert!(!root.exists());
    }

    #[test]
    fn trap_85_a_wiped_destination_is_filled_again() {
        let (dir, fs) = replica();
        fs.put(&change(0, 1), b"x").unwrap();
        fs::remove_dir_all(dir.path().join("change")).unwrap();
        assert_eq!(fs.put(&change(0, 2), b"x").unwrap_err().kind, Kind::Transient);
        fs.put(&change(0, 2), b"x").unwrap();
        assert_eq!(listed(&fs), [change(0, 2)]);
    }

    #[test]
    fn trap_86_foreign_files_leftovers_and_empty_objects() {
        let (dir, fs) = replica();
        fs.put(&change(0, 1), b"x").unwrap();
        let plant = |key: &str| fs::write(dir.path().join(key), b"").unwrap();
        plant(&change(0, 2).to_string());
        plant("change/0/.tmp-a1b2c3");
        plant("change/.tmp-a1b2c3");
        plant("change/.tmp");
        plant(".tmp-not-ours");
        fs::create_dir_all(dir.path().join("change/0/attic/deep")).unwrap();
        let listing = fs.list(Name::CHANGES, None).unwrap();
        let sizes = listing.entries.iter().map(|entry| entry.bytes).collect::<Vec<_>>();
        assert_eq!(sizes, [1, 0], "an empty object is for the reader of objects to refuse");
        assert_eq!(listing.foreign, ["change/.tmp", "change/0/attic/"]);
        assert_eq!(fs.get(&change(0, 2)).unwrap(), b"");
        fs.tidy().unwrap();
        assert_eq!(
            files(dir.path()).into_iter().filter(|file| file.starts_with('.')).collect::<Vec<_>>(),
            [".tmp", ".tmp-not-ours"]
        );
        assert_eq!(fs.list(Name::CHANGES, None).unwrap(), listing);
    }

    /// A writer was killed between rename and sync; the next one adopts what it finds listed.
    #[test]
    fn tidying_makes_last_what_is_listed() {
        let (dir, fs) = replica();
        fs.put(&change(0, 1), b"x").unwrap();
        let watch = fault::watch();
        fs.tidy().unwrap();
        let synced = ["change/0", "change"].map(|key| (SyncDir, dir.path().join(key)));
        assert_eq!(watch.steps(), synced);
    }

    #[test]
    fn a_level_moved_to_another_disk_is_found_through_its_link() {
        let (dir, fs) = replica();
        let other = tempfile::tempdir().unwrap();
        fs.put(&change(0, 1), b"x").unwrap();
        let (level, moved) = (dir.path().join("change/0"), other.path().join("0"));
        fs::create_dir(&moved).unwrap();
        let file = change(0, 1).to_string();
        let file = file.rsplit('/').next().unwrap();
        fs::rename(level.join(file), moved.join(file)).unwrap();
        fs::remove_dir(&level).unwrap();
        std::os::unix::fs::symlink(&moved, &level).unwrap();
        assert_eq!(listed(&fs), [change(0, 1)]);
        fs.put(&change(0, 2), b"y").unwrap();
        assert_eq!(listed(&fs).len(), 2);
    }

    /// A file of the proc filesystem claims to be empty and is not.
    #[test]
    fn a_body_of_another_length_than_the_file_is_an_error() {
        let error = read_whole(Path::new("/proc/self/stat")).unwrap_err();
        assert_eq!(kind(&error), Kind::Corrupt, "{error}");
    }
}
