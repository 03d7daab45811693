//! The lock of a state directory: whoever holds it is the one that watches the database. The file says
//! what it is, and since when the cursor counts.

use super::Purpose;
use crate::clock;
use crate::commit::Timeline;
use crate::config::Database;
use crate::error::{Error, Result, Status};
use crate::sabotage;
use std::fs::{File, TryLockError};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long a daemon that starts waits for a `sync` that is at work. It is a pass of capture, as long
/// as a snapshot at most.
const PATIENCE: Duration = Duration::from_secs(600);
const LOCK_POLL: Duration = Duration::from_millis(20);
/// A `sync` that only looks whether a daemon runs holds the lock for an instant: who finds it held
/// looks again for so long.
const GLANCE: Duration = Duration::from_millis(300);
/// What a `sync` writes into the lock file.
const SYNC: &[u8] = b"sync\n";

/// A file that is locked until this is dropped. Closing it would not do: a child that is forked at that
/// moment, and has not become another program yet, has it open as well.
#[derive(Debug)]
pub struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // It is closed next, which does the same but for that child.
        self.0.unlock().ok();
    }
}

/// Takes the lock, or goes on with the one that is held: whoever has it is the one that watches the
/// database. Also the last timeline that was claimed with it.
pub fn take(
    database: &Database,
    purpose: Purpose,
    held: &mut Option<Arc<Lock>>,
) -> Result<(Arc<Lock>, Timeline)> {
    let lock = match held {
        Some(lock) => Arc::clone(lock),
        None => Arc::clone(held.insert(Arc::new(wait(database, purpose)?))),
    };
    let claimed = line(&database.state_dir, 2).unwrap_or_default();
    sign(&lock, purpose, None, claimed)
        .map_err(|error| Error::io("write", database.state_dir.join("lock").display(), &error))?;
    Ok((lock, claimed))
}

fn wait(database: &Database, purpose: Purpose) -> Result<Lock> {
    let path = database.state_dir.join("lock");
    let start = clock::instant();
    loop {
        if let Some(lock) = try_lock(&database.state_dir)? {
            return Ok(lock);
        }
        let holder = std::fs::read(&path).unwrap_or_default();
        let patience = match purpose {
            Purpose::Daemon if holder.starts_with(SYNC) => PATIENCE,
            Purpose::Daemon | Purpose::Sync => GLANCE,
        };
        if start.elapsed() > patience {
            let cause = "another bakelite watches it";
            let error = Error::new(Status::Locked, "watch", database.path.display(), cause);
            return Err(error.hint("stop that one first; `bakelite sync` works beside it"));
        }
        std::thread::sleep(LOCK_POLL);
    }
}

/// Writes what holds the lock, and below it since which timeline the cursor tells the truth: one that
/// this life did not go on from says nothing of what is durable of the database as it is now. Then the
/// timeline claimed last: no number is claimed twice, though a destination that has it may be away.
pub fn sign(
    lock: &Lock,
    purpose: Purpose,
    since: Option<Timeline>,
    claimed: Timeline,
) -> std::io::Result<()> {
    let mut text = if purpose == Purpose::Sync { SYNC.to_vec() } else { b"daemon\n".to_vec() };
    let since = since.map_or(String::new(), |since| since.to_string());
    text.extend_from_slice(format!("{since}\n{claimed}\n").as_bytes());
    lock.0.write_all_at(&text, 0)?;
    lock.0.set_len(text.len() as u64)
}

/// Since which timeline a cursor counts; `None` until whoever holds the lock knows.
pub fn signed(state_dir: &Path) -> Option<Timeline> {
    line(state_dir, 1)
}

fn line(state_dir: &Path, at: usize) -> Option<Timeline> {
    let text = std::fs::read_to_string(state_dir.join("lock")).ok()?;
    text.lines().nth(at)?.parse().ok().map(Timeline)
}

/// The lock of a state directory, unless somebody holds it.
pub fn try_lock(state_dir: &Path) -> Result<Option<Lock>> {
    try_lock_file(&state_dir.join("lock"))
}

pub fn try_lock_file(path: &Path) -> Result<Option<Lock>> {
    let mut options = File::options();
    let file = options.read(true).write(true).create(true).truncate(false).open(path);
    let file = file.map_err(|error| Error::io("open", path.display(), &error))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock(file))),
        Err(TryLockError::WouldBlock) if sabotage::is("lock-nothing") => Ok(Some(Lock(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", path.display(), &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every `fork` copies what is open, for as long as the child takes to become another program: a
    /// lock that was only closed was held by it a little longer, and a daemon refused to start.
    #[test]
    fn a_lock_that_is_let_go_of_is_free_whoever_has_the_file_open() {
        let dir = tempfile::tempdir().unwrap();
        let lock = try_lock(dir.path()).unwrap().unwrap();
        let of_child = lock.0.try_clone().unwrap();
        assert!(try_lock(dir.path()).unwrap().is_none());
        drop(lock);
        assert!(try_lock(dir.path()).unwrap().is_some());
        drop(of_child);
    }
}
