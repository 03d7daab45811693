//! Making files last: the only caller of fsync, rename and link, and of mkdir and unlink where the
//! result has to outlive a power cut.
//!
//! A new file is written beside its target under a name that begins with `.tmp-`, synced, renamed,
//! and then its directory is synced: before the rename nobody sees it, after the last step nothing
//! loses it. A rename alone survives a crash of the process, not one of the machine.
//!
//! A failed fsync is final. The kernel reports a failed write-back once, marks the pages clean and
//! drops what they held, so that a second fsync of the same descriptor succeeds without the data
//! being anywhere ("fsyncgate", PostgreSQL 2018). So nothing here syncs twice: the file is thrown
//! away, and a caller that wants another try writes a new one from memory.
//!
//! Errors are bare; callers know the words.

use crate::sabotage;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use tempfile::NamedTempFile;

/// How the names of unfinished files begin.
pub const TEMP_PREFIX: &str = ".tmp-";

/// What happens to a file that is already at the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    Never,
    Replace,
}

/// Writes a file that must not exist yet, else `AlreadyExists`. After any other error nothing of it
/// is left.
pub fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    publish(write_temp(path, bytes)?, path, Overwrite::Never)
}

/// Writes a file, in place of the old one if there is one. After an error the file is the old or
/// the new one, whole.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    publish(write_temp(path, bytes)?, path, Overwrite::Replace)
}

/// The same, for a file that everybody may read, written by one at a time in a directory that others
/// use: what a writer that was killed has left there has one name, and the next one removes it.
pub fn replace_readable(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = std::ffi::OsString::from(TEMP_PREFIX);
    name.push(path.file_name().unwrap_or_default());
    fs::remove_file(path.with_file_name(&name)).or_else(|error| match error.kind() {
        ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    let mut builder = tempfile::Builder::new();
    step(Step::Create, path)?;
    let temp = builder.prefix(&name).rand_bytes(0).make_in(parent(path), create_private)?;
    let temp = write_into(temp, bytes)?;
    temp.as_file().set_permissions(Permissions::from_mode(0o644))?;
    publish(temp, path, Overwrite::Replace)
}

/// Replaces a file whose loss loses nothing, and syncs nothing: whoever reads it has the old one or the
/// new one, and after a power cut perhaps none. It is written by one at a time.
pub fn replace_hint(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = std::ffi::OsString::from(TEMP_PREFIX);
    name.push(path.file_name().unwrap_or_default());
    let temp = path.with_file_name(name);
    fs::write(&temp, bytes)?;
    fs::rename(temp, path)
}

/// An empty file beside `path`, readable by its owner alone, removed when dropped.
pub fn temp_beside(path: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    step(Step::Create, path)?;
    builder.prefix(TEMP_PREFIX).make_in(parent(path), create_private)
}

/// Moves a finished file to its target and makes both last. The file is synced through the
/// descriptor that wrote it: another one might be opened too late to be told of a failed write.
///
/// `Never` leaves nothing at the target after an error, and takes care that a file which was there
/// already lasts too: its writer may have died between rename and directory sync.
pub fn publish(temp: NamedTempFile, target: &Path, overwrite: Overwrite) -> io::Result<()> {
    if !sabotage::is("skip-file-fsync") {
        step(Step::Sync, temp.path())?;
        temp.as_file().sync_all()?;
    }
    step(Step::Rename, target)?;
    let renamed = match overwrite {
        Overwrite::Never => temp.persist_noclobber(target),
        Overwrite::Replace => temp.persist(target),
    };
    if let Err(failed) = renamed {
        if failed.error.kind() == ErrorKind::AlreadyExists {
            sync_dir(parent(target))?;
        }
        return Err(failed.error);
    }
    sync_dir(parent(target)).inspect_err(|_| {
        if overwrite == Overwrite::Never {
            // It is ours, and it may or may not last: better none than one that looks stored.
            fs::remove_file(target).ok();
        }
    })
}

/// Gives a file another name in its directory, and makes that last.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    step(Step::Rename, to)?;
    fs::rename(from, to)?;
    sync_dir(parent(to))
}

/// Removes a file for good. `NotFound` if there is none.
pub fn remove(path: &Path) -> io::Result<()> {
    step(Step::Remove, path)?;
    fs::remove_file(path)?;
    sync_dir(parent(path))
}

/// Makes a directory and what is missing above it.
pub fn make_dirs(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    make_dirs(parent(path))?;
    make_dir(path)
}

/// Makes one directory below an existing one. One that is there already is synced into its parent
/// nevertheless: whoever made it may not have come that far.
pub fn make_dir(path: &Path) -> io::Result<()> {
    step(Step::MakeDir, path)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
        // A file in the way is not an object that exists.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(ErrorKind::NotADirectory.into());
        }
        made => made?,
    }
    sync_dir(parent(path))
}

/// Makes what was appended to a file last. After an error the file is not to be trusted again.
pub fn sync_data(file: &File) -> io::Result<()> {
    step_of_file(Step::Sync, file)?;
    file.sync_data()
}

/// Makes the names in a directory last.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    if sabotage::is("skip-directory-fsync") {
        return Ok(());
    }
    match step(Step::SyncDir, path).and_then(|()| File::open(path)?.sync_all()) {
        // Some network and FUSE filesystems know no sync of a directory and say so like this.
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => {
            Ok(())
        }
        synced => synced,
    }
}

/// Where a file is; `.` for a bare name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

fn write_temp(path: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    write_into(temp_beside(path)?, bytes)
}

fn write_into(mut temp: NamedTempFile, bytes: &[u8]) -> io::Result<NamedTempFile> {
    step(Step::Write, temp.path())?;
    temp.as_file_mut().write_all(bytes)?;
    Ok(temp)
}

/// Left to tempfile, an error would carry the name of a file that nobody has heard of.
fn create_private(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// What the disk is asked to do. Tests see every step and can make it fail; a release has nothing
/// of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Create,
    Write,
    Sync,
    Rename,
    SyncDir,
    MakeDir,
    Remove,
}

#[cfg(not(test))]
fn step(_step: Step, _path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(not(test))]
fn step_of_file(_step: Step, _file: &File) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
use fault::{step, step_of_file};

/// A disk that fails when told to, on the calling thread alone.
#[cfg(test)]
pub(crate) mod fault {
    use super::*;
    use std::cell::RefCell;
    use std::path::PathBuf;

    type Observer = Box<dyn FnMut(Step, &Path)>;

    #[derive(Default)]
    struct Disk {
        taken: Vec<(Step, PathBuf)>,
        /// The step, how many of it still succeed, and the error number after that.
        plan: Option<(Step, u64, i32)>,
        /// Only steps below it count.
        below: PathBuf,
        observer: Option<Observer>,
    }

    thread_local!(static DISK: RefCell<Disk> = RefCell::default());

    /// The steps taken until this is dropped.
    #[derive(Debug)]
    pub struct Watch;

    /// Records every step of this thread.
    pub fn watch() -> Watch {
        DISK.take();
        Watch
    }

    /// Tells of every step of this thread, before it is taken.
    pub fn observe(observer: impl FnMut(Step, &Path) + 'static) -> Watch {
        let watch = watch();
        DISK.with_borrow_mut(|disk| disk.observer = Some(Box::new(observer)));
        watch
    }

    /// Makes the `nth` step of a kind fail (counted from 1), once, with a number from errno(3).
    /// Dropping the watch panics if it never came to that: such a test would prove nothing.
    pub fn fail(step: Step, nth: u64, errno: i32) -> Watch {
        let watch = watch();
        DISK.with_borrow_mut(|disk| disk.plan = Some((step, nth - 1, errno)));
        watch
    }

    /// The same for the first step of a kind below a directory.
    pub fn fail_below(dir: &Path, step: Step, errno: i32) -> Watch {
        let watch = fail(step, 1, errno);
        DISK.with_borrow_mut(|disk| disk.below = dir.to_owned());
        watch
    }

    impl Watch {
        /// What was asked of the disk so far, the failed step included.
        pub fn steps(&self) -> Vec<(Step, PathBuf)> {
            DISK.with_borrow(|disk| disk.taken.clone())
        }
    }

    impl Drop for Watch {
        fn drop(&mut self) {
            let plan = DISK.take().plan;
            assert!(plan.is_none() || std::thread::panicking(), "never fired: {plan:?}");
        }
    }

    pub(super) fn step_of_file(kind: Step, file: &File) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        step(kind, &fs::read_link(link)?)
    }

    pub(super) fn step(step: Step, path: &Path) -> io::Result<()> {
        DISK.with_borrow_mut(|disk| {
            disk.taken.push((step, path.to_path_buf()));
            if let Some(observer) = &mut disk.observer {
                observer(step, path);
            }
            if !path.starts_with(&disk.below) {
                return Ok(());
            }
            match &mut disk.plan {
                Some((planned, 0, errno)) if *planned == step => {
                    let error = io::Error::from_raw_os_error(*errno);
                    disk.plan = None;
                    Err(error)
                }
                Some((planned, left, _)) if *planned == step => {
                    *left -= 1;
                    Ok(())
                }
                _ => Ok(()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EIO: i32 = 5;
    const ENOSPC: i32 = 28;

    fn files(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn kinds(watch: &fault::Watch) -> Vec<Step> {
        watch.steps().into_iter().map(|(step, _)| step).collect()
    }

    #[test]
    fn a_hint_is_replaced_whole_and_waits_for_no_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hint");
        for text in ["one", "another"] {
            let watch = fault::watch();
            replace_hint(&path, text.as_bytes()).unwrap();
            assert_eq!(kinds(&watch), []);
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(files(dir.path()), ["hint"]);
        }
    }

    #[test]
    fn another_name_lasts_too() {
        let dir = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| dir.path().join(name));
        create(&from, b"one").unwrap();
        let watch = fault::watch();
        rename(&from, &to).unwrap();
        assert_eq!(kinds(&watch), [Step::Rename, Step::SyncDir]);
        assert_eq!((files(dir.path()), fs::read(&to).unwrap()), (vec!["to".into()], b"one".into()));
    }

    #[test]
    fn a_file_is_created_once_and_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        create(&path, b"one").unwrap();
        assert_eq!(create(&path, b"two").unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        replace(&path, b"three").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(files(dir.path()), ["f"]);
        remove(&path).unwrap();
        assert_eq!(remove(&path).unwrap_err().kind(), ErrorKind::NotFound);
    }

    /// It is written every ten seconds, in a directory that nobody tidies.
    #[test]
    fn what_a_killed_writer_left_of_a_readable_file_is_gone_after_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.prom");
        fs::write(dir.path().join(".tmp-b.prom"), "torn").unwrap();
        replace_readable(&path, b"one").unwrap();
        replace_readable(&path, b"two").unwrap();
        assert_eq!(
            (files(dir.path()), fs::read(&path).unwrap()),
            (vec!["b.prom".into()], b"two".into())
        );
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    }

    /// A rename that was not followed by a sync of the directory is undone by a power cut
    /// (Litestream #1344).
    #[test]
    fn trap_59_rename_without_dir_fsync() {
        use Step::*;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let watch = fault::watch();
        create(&path, b"one").unwrap();
        assert_eq!(kinds(&watch), [Create, Write, Sync, Rename, SyncDir]);
        assert_eq!(watch.steps().last(), Some(&(SyncDir, dir.path().to_path_buf())));
        let watch = fault::watch();
        replace(&path, b"two").unwrap();
        assert_eq!(kinds(&watch), [Create, Write, Sync, Rename, SyncDir]);
        let watch = fault::watch();
        remove(&path).unwrap();
        assert_eq!(kinds(&watch), [Remove, SyncDir]);
        let watch = fault::watch();
        make_dirs(&dir.path().join("a/b")).unwrap();
        let (a, root) = (dir.path().join("a"), dir.path().to_path_buf());
        let b = a.join("b");
        assert_eq!(
            watch.steps(),
            [(MakeDir, a.clone()), (SyncDir, root), (MakeDir, b), (SyncDir, a)]
        );
    }

    /// The object was there, its writer died before it synced the directory: whoever finds the name
    /// taken and its bytes equal will take the object for stored.
    #[test]
    fn a_name_found_taken_is_made_to_last() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, b"one").unwrap();
        let watch = fault::watch();
        create(&path, b"one").unwrap_err();
        assert_eq!(kinds(&watch).last(), Some(&Step::SyncDir));
        let _fault = fault::fail(Step::SyncDir, 1, EIO);
        assert_eq!(create(&path, b"one").unwrap_err().raw_os_error(), Some(EIO));
        assert_eq!(fs::read(&path).unwrap(), b"one", "not ours, so not removed");
    }

    /// After a failed fsync the pages count as clean: syncing again would succeed and mean nothing.
    #[test]
    fn trap_57_fsync_eio_is_final() {
        for (step, syncs) in [(Step::Sync, [1, 0]), (Step::SyncDir, [1, 1])] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("f");
            let watch = fault::fail(step, 1, EIO);
            assert_eq!(create(&path, b"one").unwrap_err().raw_os_error(), Some(EIO));
            let count = |of| kinds(&watch).into_iter().filter(|&step| step == of).count();
            assert_eq!([count(Step::Sync), count(Step::SyncDir)], syncs, "no second try");
            assert_eq!(files(dir.path()), [""; 0], "thrown away");
            drop(watch);
            create(&path, b"one").unwrap();
        }
    }

    /// The kernel refuses to sync /dev/null, which shows that it is really asked.
    #[test]
    fn the_error_of_the_kernel_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let (path, target) = (dir.path().join("f"), dir.path().join("g"));
        fs::write(&path, b"one").unwrap();
        let null = File::open("/dev/null").unwrap();
        assert_eq!(sync_data(&null).unwrap_err().kind(), ErrorKind::InvalidInput);
        let temp = tempfile::TempPath::try_from_path(path).unwrap();
        let error = publish(NamedTempFile::from_parts(null, temp), &target, Overwrite::Never);
        assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(files(dir.path()), [""; 0]);
    }

    /// Such as some network file systems: they would take no object.
    #[test]
    fn a_directory_whose_sync_is_unknown_is_taken_for_synced_and_no_other() {
        sync_dir(Path::new("/dev/null")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(sync_dir(&dir.path().join("gone")).unwrap_err().kind(), ErrorKind::NotFound);
        let _fault = fault::fail(Step::SyncDir, 1, EIO);
        assert_eq!(sync_dir(dir.path()).unwrap_err().raw_os_error(), Some(EIO));
    }

    /// A disk that is not mounted, and a file in the way, are told apart from a directory that is there.
    #[test]
    fn a_directory_is_made_or_was_there_or_its_error_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let (path, file) = (dir.path().join("a"), dir.path().join("f"));
        make_dir(&path).unwrap();
        let watch = fault::watch();
        make_dir(&path).unwrap();
        assert_eq!(kinds(&watch), [Step::MakeDir, Step::SyncDir], "who made it may have died");
        fs::write(&file, "").unwrap();
        for make in [make_dir, make_dirs] {
            assert_eq!(make(&file).unwrap_err().kind(), ErrorKind::NotADirectory);
        }
        let below = dir.path().join("gone/b");
        assert_eq!(make_dir(&below).unwrap_err().kind(), ErrorKind::NotFound);
        assert!(!below.exists());
    }

    #[test]
    fn a_bare_name_lies_in_the_working_directory() {
        for (path, its) in [("f", "."), ("a/f", "a"), ("/f", "/"), ("/", "/")] {
            assert_eq!(parent(Path::new(path)), Path::new(its), "{path}");
        }
    }

    #[test]
    fn a_replaced_file_is_the_old_or_the_new_one_whatever_fails() {
        for step in [Step::Create, Step::Write, Step::Sync, Step::Rename, Step::SyncDir] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("f");
            create(&path, b"old").unwrap();
            let _fault = fault::fail(step, 1, ENOSPC);
            assert_eq!(replace(&path, b"new").unwrap_err().kind(), ErrorKind::StorageFull);
            let expected: &[u8] = if step == Step::SyncDir { b"new" } else { b"old" };
            assert_eq!(fs::read(&path).unwrap(), expected, "{step:?}");
            assert_eq!(files(dir.path()), ["f"], "{step:?}");
        }
    }
}
