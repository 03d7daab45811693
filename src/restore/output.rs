//! Where a database is restored to: what is there, and what of that is not to be lost. A dry run refuses
//! what a real one does.

use super::{Old, delta};
use crate::durable;
use crate::error::{Error, Result, Status};
use crate::place;
use std::fs::FileType;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// The files that SQLite would take for a part of the restored database.
pub(super) fn companions(output: &Path) -> impl Iterator<Item = PathBuf> {
    ["-wal", "-shm", "-journal"].into_iter().map(|suffix| {
        let mut path = output.as_os_str().to_owned();
        path.push(suffix);
        path.into()
    })
}

/// Refuses what is there already, or can be no file: before anything is read, and once more before it is
/// replaced.
pub(super) fn refuse(output: &Path, old: Old) -> Result<()> {
    if let Some(kind) = output.metadata().ok().and_then(|there| kind_of(there.file_type())) {
        let error = Error::new(Status::Exists, "restore", output.display(), kind);
        let inside =
            if output.is_dir() { "name a file in it, or another one" } else { "name a file" };
        return Err(error.hint(inside));
    }
    if output.as_os_str().as_bytes().ends_with(b"/") {
        let cause = "it is no file's name";
        return Err(Error::new(Status::Usage, "restore", output.display(), cause)
            .hint("leave out the slash at its end, or name a file below it"));
    }
    // What it leads to would have been resolved. SQLite would make that file, where there is a place for it.
    if let Ok(to) = output.read_link() {
        let cause = "a link that leads nowhere";
        return Err(Error::new(Status::Exists, "restore", output.display(), cause)
            .hint(format!("mount or make what it leads to, {}, or remove it", to.display())));
    }
    if old != Old::Refused {
        refuse_in_use(output)?;
    }
    match old {
        Old::Refused => refuse_any(std::iter::once(output.to_owned()).chain(companions(output))),
        Old::Replaced => Ok(()),
        Old::Updated => {
            refuse_companions(output)?;
            delta::refuse_other(output)
        }
    }
}

/// What is no file that could be replaced.
pub(super) fn kind_of(it: FileType) -> Option<&'static str> {
    match it {
        it if it.is_file() => None,
        it if it.is_dir() => Some("a directory"),
        it if it.is_fifo() => Some("a FIFO"),
        it if it.is_socket() => Some("a socket"),
        _ => Some("a device"),
    }
}

/// An application would go on with the file that is gone, and lose all that it writes.
pub(super) fn refuse_in_use(output: &Path) -> Result<()> {
    let Some(pid) = place::user_of(output) else { return Ok(()) };
    let cause = format!("process {pid} has it open");
    Err(Error::new(Status::Locked, "restore", output.display(), cause)
        .hint("stop that application, and the daemon that watches it, then restore"))
}

/// What is beside a file says that somebody has it open, or that it is not all of its database.
pub(super) fn refuse_companions(output: &Path) -> Result<()> {
    refuse_any(companions(output))
}

fn refuse_any(mut paths: impl Iterator<Item = PathBuf>) -> Result<()> {
    match paths.find(|path| path.symlink_metadata().is_ok()) {
        None => Ok(()),
        Some(path) => Err(Error::new(Status::Exists, "restore", path.display(), "it exists")
            .hint("choose another --output, or replace it with --force once nothing has it open")),
    }
}

/// Looks for the directory that the file would be made in.
pub(super) fn find_directory(output: &Path) -> Result<()> {
    // A file is none: it has nothing of that name in it.
    let found = durable::parent(output).join(".").metadata();
    found.map(drop).map_err(|cause| no_room_beside(output, &cause))
}

pub(super) fn no_room_beside(output: &Path, cause: &io::Error) -> Error {
    let parent = durable::parent(output).display();
    Error::io("create a file beside", output.display(), cause)
        .hint(format!("choose a directory that can be written to; this is {parent}"))
}
